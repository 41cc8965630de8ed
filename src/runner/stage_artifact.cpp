#include "runner/stage_artifact.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <vector>

#include "impart/comm/mesh.hpp"
#include "impart/core/digest.hpp"
#include "impart/core/error.hpp"
#include "impart/core/log.hpp"
#include "impart/nn/network.hpp"
#include "impart/nn/wisdom.hpp"
#include "impart/runner/version.hpp"
#include "runner/run_record.hpp"
#include "runner/stage_key.hpp"

namespace impart::runner {

namespace {

namespace fs = std::filesystem;

std::vector<io::DataRecord> lineage_data(stages::RunContext& context, const stages::Stage& stage) {
  std::vector<io::DataRecord> records;
  for (const auto& name : stage.uses().datasets) {
    const auto& data = context.data(name);
    records.push_back({name, data.fingerprint, data.all->size()});
  }
  return records;
}

io::LineageRecord lineage_of(const stages::RunContext& context, const stages::Stage& stage) {
  const int ranks = context.comm().size();
  io::LineageRecord lineage;
  lineage.stage = resolved_settings(context.deck(), stage);
  lineage.ranks = ranks;
  lineage.mesh = comm::describe(comm::fit_mesh(stage.mesh(), ranks));
  lineage.isa = nn::kernel_isa();
  lineage.kernels = fmt::format("{}, kernels chosen by {}", version_line(), nn::kernel_choice());
  const auto from = fs::absolute(context.deck().run_directory() / stage.name());
  for (const auto& use : stage.uses().artifacts) {
    const auto& [path, digest] = *context.find(use.name);
    lineage.parents.push_back(
        {digest, fs::absolute(path).lexically_relative(from).string(), use.role, use.weight});
  }
  return lineage;
}

std::string write_model(const fs::path& path, const stages::StageResult& result, io::LineageRecord lineage) {
  io::Checkpoint checkpoint;
  checkpoint.model = share::to_record(*result.model);
  checkpoint.state = result.model->state.clone();
  checkpoint.progress = result.progress;
  checkpoint.metrics = result.history;
  for (const auto& [name, value] : result.metrics) {
    if (!checkpoint.metrics.contains(name)) checkpoint.metrics[name] = {{0, value}};
  }
  checkpoint.lineage = std::move(lineage);
  io::write_checkpoint(path, checkpoint);
  return checkpoint.digest;
}

std::string write_table(const fs::path& path, const stages::StageResult& result, io::LineageRecord lineage) {
  const auto text = to_json(result.measurements, lineage.stage);
  write_file_atomically(path, text);
  return Hasher().text(text).finish().hex();
}

/// How artifacts of a type are kept. All functions throw Error, and name the file.
struct Type {
  stages::ArtifactType type;
  const char* file;
  /// Returns the digest.
  std::string (*write)(const fs::path& path, const stages::StageResult& result, io::LineageRecord lineage);
  /// Verified.
  std::string (*digest)(const fs::path& path);
  std::string (*made_with)(const fs::path& path);
};

constexpr Type kTypes[] = {
    {stages::ArtifactType::kModel, "model.h5", write_model,
     [](const fs::path& path) { return io::read_checkpoint(path).digest; },
     [](const fs::path& path) { return io::read_summary(path).lineage.stage; }},
    {stages::ArtifactType::kTable, "metrics.json", write_table,
     [](const fs::path& path) { return Hasher().text(read_file(path)).finish().hex(); },
     [](const fs::path& path) { return settings_of_table(read_file(path)); }},
};

const Type& type_of(stages::ArtifactType type) { return *std::ranges::find(kTypes, type, &Type::type); }

}  // namespace

fs::path artifact_name(const stages::Stage& stage) {
  return fs::path(stage.name()) / type_of(stage.leaves()).file;
}

std::string made_with(const fs::path& artifact, stages::ArtifactType type) {
  return type_of(type).made_with(artifact);
}

std::string verified_digest(const stages::RunContext& context, const stages::Stage& stage) {
  const auto path = context.deck().run_directory() / artifact_name(stage);
  if (!fs::exists(path)) return "";
  try {
    return type_of(stage.leaves()).digest(path);
  } catch (const Error& e) {
    log::warn(fmt::format("{}; the stage runs again", e.what()));
    return "";
  }
}

std::string write_artifact(stages::RunContext& context, const stages::Stage& stage,
                           const stages::StageResult& result) {
  const auto path = context.deck().run_directory() / artifact_name(stage);
  const auto data = lineage_data(context, stage);
  std::string digest;
  comm::agree(context.comm(), "writing " + path.string(), [&] {
    if (!context.comm().is_root()) return;
    auto lineage = lineage_of(context, stage);
    lineage.data = data;
    digest = type_of(stage.leaves()).write(path, result, std::move(lineage));
  });
  context.comm().broadcast(digest, 0, "artifact digest");
  return digest;
}

}  // namespace impart::runner
