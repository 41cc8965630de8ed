// Shape and Tensor: float32 arrays, row-major, owned or borrowed.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <span>
#include <string>
#include <vector>

#include "impart/core/aligned.hpp"

namespace impart {

/// Extents of an array, outermost first. The empty shape is a scalar (one element).
class Shape {
 public:
  Shape() = default;
  Shape(std::initializer_list<std::int64_t> dims) : dims_(dims) {}
  explicit Shape(std::vector<std::int64_t> dims) : dims_(std::move(dims)) {}

  [[nodiscard]] std::size_t rank() const noexcept { return dims_.size(); }
  [[nodiscard]] std::int64_t operator[](std::size_t i) const { return dims_.at(i); }
  [[nodiscard]] std::span<const std::int64_t> dims() const noexcept { return dims_; }

  /// Product of the extents.
  [[nodiscard]] std::int64_t elements() const noexcept;
  /// This shape with one more extent in front: (C, H, W) -> (N, C, H, W).
  [[nodiscard]] Shape with_batch(std::int64_t n) const;
  /// This shape without its first extent: (N, C, H, W) -> (C, H, W). REQUIRES: rank() >= 1.
  [[nodiscard]] Shape without_batch() const;
  /// As users read it: "3x32x32"; "scalar" for the empty shape.
  [[nodiscard]] std::string str() const;

  friend bool operator==(const Shape&, const Shape&) = default;

 private:
  std::vector<std::int64_t> dims_;
};

/// A float32 array in row-major order. It owns 64-byte-aligned memory, or borrows memory that must outlive
/// it. Moving is cheap; copying is written out (`clone`), so that no copy happens by accident.
class Tensor {
 public:
  Tensor() = default;
  /// An owning tensor of zeros.
  explicit Tensor(Shape shape);
  /// A view on `data`. REQUIRES: data.size() == shape.elements().
  static Tensor view(std::span<float> data, Shape shape);

  Tensor(Tensor&& other) noexcept;
  Tensor& operator=(Tensor&& other) noexcept;
  Tensor(const Tensor&) = delete;
  Tensor& operator=(const Tensor&) = delete;
  ~Tensor() = default;

  [[nodiscard]] Tensor clone() const;  ///< an owning copy

  [[nodiscard]] const Shape& shape() const noexcept { return shape_; }
  [[nodiscard]] std::int64_t size() const noexcept { return static_cast<std::int64_t>(values_.size()); }
  [[nodiscard]] float* data() noexcept { return values_.data(); }
  [[nodiscard]] const float* data() const noexcept { return values_.data(); }
  [[nodiscard]] std::span<float> values() noexcept { return values_; }
  [[nodiscard]] std::span<const float> values() const noexcept { return values_; }

 private:
  Shape shape_;
  AlignedBuffer<float> storage_;
  std::span<float> values_;
};

}  // namespace impart
