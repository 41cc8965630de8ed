// What the readers of all sample formats check alike.
#pragma once

#include <span>
#include <string>

#include "impart/core/error.hpp"
#include "impart/io/sample_source.hpp"

namespace impart::io {

/// Throws Error unless the caller's memory is of the size that SampleSource::read requires.
void require_room(const SampleInfo& info, std::span<const std::byte> samples,
                  std::span<const std::int32_t> labels);

/// Throws Error when an extent of a shape that the user gave is not positive, or their product beyond reason.
void require_extents(const Shape& shape, const std::string& where);

}  // namespace impart::io
