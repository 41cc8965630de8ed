#include "impart/core/tensor.hpp"

#include <algorithm>
#include <utility>

#include "impart/core/error.hpp"

namespace impart {

std::int64_t Shape::elements() const noexcept {
  std::int64_t n = 1;
  for (const auto d : dims_) n *= d;
  return n;
}

Shape Shape::with_batch(std::int64_t n) const {
  std::vector<std::int64_t> dims{n};
  dims.insert(dims.end(), dims_.begin(), dims_.end());
  return Shape(std::move(dims));
}

Shape Shape::without_batch() const {
  return Shape(std::vector<std::int64_t>(dims_.begin() + 1, dims_.end()));
}

std::string Shape::str() const {
  if (dims_.empty()) return "scalar";
  std::string text;
  for (const auto d : dims_) {
    if (!text.empty()) text += 'x';
    text += std::to_string(d);
  }
  return text;
}

Tensor::Tensor(Shape shape)
    : shape_(std::move(shape)),
      storage_(static_cast<std::size_t>(shape_.elements())),
      values_(storage_.span()) {}

Tensor Tensor::view(std::span<float> data, Shape shape) {
  if (static_cast<std::int64_t>(data.size()) != shape.elements()) {
    throw Error("a view's memory does not fit its shape")
        .expected(shape.str())
        .got(std::to_string(data.size()) + " values");
  }
  Tensor t;
  t.shape_ = std::move(shape);
  t.values_ = data;
  return t;
}

Tensor::Tensor(Tensor&& other) noexcept
    : shape_(std::move(other.shape_)),
      storage_(std::move(other.storage_)),
      values_(std::exchange(other.values_, {})) {}

Tensor& Tensor::operator=(Tensor&& other) noexcept {
  shape_ = std::move(other.shape_);
  storage_ = std::move(other.storage_);
  values_ = std::exchange(other.values_, {});
  return *this;
}

Tensor Tensor::clone() const {
  Tensor copy(shape_);
  std::copy(values_.begin(), values_.end(), copy.values_.begin());
  return copy;
}

}  // namespace impart
