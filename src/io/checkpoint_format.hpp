// What the reader and the writer of checkpoints must agree on: names, and what each digest covers.
#pragma once

#include <filesystem>
#include <optional>
#include <span>
#include <string>

#include "impart/io/checkpoint.hpp"

namespace impart::io {

inline constexpr const char* kFormatName = "impart-checkpoint";
inline constexpr std::int64_t kFormatVersion = 1;

/// "parameter" or "buffer", as the attribute `kind` of a tensor says it.
const char* kind_word(StateKind kind);
/// "parameters" or "buffers".
const char* group_name(StateKind kind);

/// Digest over the model record and the digests of its tensors.
std::string root_digest(const ModelRecord& model, std::span<const TensorInfo> tensors);

/// Digest over all that the root digest leaves out, and the root digest: `@file_digest`. It notices damage in
/// places that HDF5 has no checksums for, as the points of a metric.
std::string file_digest(const CheckpointSummary& summary);

/// "step-%08d.h5".
std::string step_file_name(std::int64_t step);
/// The step of such a name, nothing for any other.
std::optional<std::int64_t> step_of(const std::filesystem::path& path);

/// Whether this is the hidden name of a checkpoint that is being written, see AtomicFile.
bool is_temporary(const std::filesystem::path& path);

}  // namespace impart::io
