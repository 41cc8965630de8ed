#include "parallel/tensor_axis.hpp"

#include <algorithm>

#include "impart/core/clock.hpp"

namespace impart::parallel {

TensorAxis::TensorAxis(const comm::Comm& comm) : comm_(comm), floats_(comm), doubles_(comm) {}

void TensorAxis::sum(std::span<float> values) {
  const auto start = Clock::now();
  floats_.sum_in_place(values);
  seconds_ += seconds_since(start);
}

void TensorAxis::sum(std::span<double> values) {
  const auto start = Clock::now();
  doubles_.sum_in_place(values);
  seconds_ += seconds_since(start);
}

void TensorAxis::max(std::span<double> values) {
  const auto start = Clock::now();
  comm_.max_in_place(values, "tensor axis");
  seconds_ += seconds_since(start);
}

void TensorAxis::gather(std::span<const float> part, std::size_t width, std::span<float> whole) {
  const auto start = Clock::now();
  parts_.resize(whole.size());
  comm_.gather_all<float>(part, parts_, "tensor axis");
  const auto ranks = static_cast<std::size_t>(comm_.size());
  const float* from = parts_.data();
  for (std::size_t rank = 0; rank < ranks; ++rank) {
    for (std::size_t row = 0; row < part.size() / width; ++row, from += width) {
      std::copy_n(from, width, whole.data() + (row * ranks + rank) * width);
    }
  }
  seconds_ += seconds_since(start);
}

void take_part(std::span<const float> whole, std::size_t index, std::size_t ranks, std::size_t width,
               std::span<float> part) {
  for (std::size_t row = 0; row < part.size() / width; ++row) {
    std::copy_n(whole.data() + (row * ranks + index) * width, width, part.data() + row * width);
  }
}

}  // namespace impart::parallel
