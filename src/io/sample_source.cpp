#include "impart/io/sample_source.hpp"

#include "io/samples.hpp"

namespace impart::io {

std::size_t element_size(ElementType type) { return type == ElementType::kUint8 ? 1 : sizeof(float); }

std::size_t SampleInfo::bytes() const {
  return static_cast<std::size_t>(samples) * static_cast<std::size_t>(shape.elements()) *
         element_size(element);
}

void require_room(const SampleInfo& info, std::span<const std::byte> samples,
                  std::span<const std::int32_t> labels) {
  if (samples.size() != info.bytes() || labels.size() != static_cast<std::size_t>(info.labels())) {
    throw Error("memory for samples is of the wrong size")
        .expected(std::to_string(info.bytes()) + " bytes, " + std::to_string(info.labels()) + " labels")
        .got(std::to_string(samples.size()) + " bytes, " + std::to_string(labels.size()) + " labels");
  }
}

void require_extents(const Shape& shape, const std::string& where) {
  constexpr std::int64_t most = std::int64_t{1} << 40;
  std::int64_t elements = 1;
  for (const auto extent : shape.dims()) {
    if (extent < 1 || extent > most / elements) {
      throw Error("a sample cannot have this shape")
          .at(where)
          .expected("extents of at least 1, at most 2^40 values")
          .got(shape.str());
    }
    elements *= extent;
  }
}

}  // namespace impart::io
