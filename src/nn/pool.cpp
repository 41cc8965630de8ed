// max_pool2d and avg_pool2d.
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <vector>

#include "impart/core/error.hpp"
#include "nn/kernels.hpp"
#include "nn/layers.hpp"
#include "nn/settings.hpp"

namespace impart::nn {

namespace {

class MaxPool2d final : public Layer {
 public:
  explicit MaxPool2d(const LayerSpec& spec) : window_(read_pool_window(spec)) {}

  [[nodiscard]] Shape output_shape(std::span<const Shape> inputs) const override {
    const auto image = image_shape(only_input(inputs));
    return window_output(window_, image, image.channels);
  }

  bool absorb(const LayerSpec& next) override {
    if (next.kind != "relu") return false;
    relu_ = true;
    return true;
  }

  [[nodiscard]] Needs needs() const override { return {.inputs = false, .output = false}; }

  void setup(const Setup& setup) override {
    geometry_ = pool_geometry(window_, setup.inputs[0][0], image_shape(setup.inputs[0].without_batch()));
    winners_.resize(static_cast<std::size_t>(geometry_.batch * geometry_.out_height * geometry_.out_width *
                                             geometry_.channels));
  }

  void forward(const Pass& /*pass*/, Inputs inputs, std::span<float> output) override {
    const auto input = inputs[0];
    kernels().max_pool_forward(geometry_, relu_, input.data(), output.data(), winners_.data());
  }

  void backward(const Pass& /*pass*/, const Backward& call) override {
    const auto grad_output = call.grad_output;
    const auto grad_input = call.grad_inputs[0].values;
    kernels().max_pool_backward(geometry_, grad_output.data(), winners_.data(), grad_input.data());
  }

 private:
  Window window_;
  bool relu_ = false;
  PoolGeometry geometry_;
  std::vector<std::uint8_t> winners_;  // (N, OH, OW, C): place of the maximum in its window
};

// Padding counts as zeros in the mean, as in PyTorch.
class AvgPool2d final : public Layer {
 public:
  explicit AvgPool2d(const LayerSpec& spec) : window_(read_pool_window(spec)) {}

  [[nodiscard]] Shape output_shape(std::span<const Shape> inputs) const override {
    const auto image = image_shape(only_input(inputs));
    return window_output(window_, image, image.channels);
  }

  [[nodiscard]] Needs needs() const override { return {.inputs = false, .output = false}; }

  void setup(const Setup& setup) override {
    geometry_ = pool_geometry(window_, setup.inputs[0][0], image_shape(setup.inputs[0].without_batch()));
  }

  void forward(const Pass& /*pass*/, Inputs inputs, std::span<float> output) override {
    const auto input = inputs[0];
    std::fill(output.begin(), output.end(), 0.0F);
    for_each_pair([&](std::size_t in, std::size_t out, std::size_t channels) {
      for (std::size_t c = 0; c < channels; ++c) output[out + c] += input[in + c];
    });
    const float share = window_share();
    for (float& y : output) y *= share;
  }

  void backward(const Pass& /*pass*/, const Backward& call) override {
    const auto grad_output = call.grad_output;
    const auto grad_input = call.grad_inputs[0].values;
    std::fill(grad_input.begin(), grad_input.end(), 0.0F);
    const float share = window_share();
    for_each_pair([&](std::size_t in, std::size_t out, std::size_t channels) {
      for (std::size_t c = 0; c < channels; ++c) grad_input[in + c] += share * grad_output[out + c];
    });
  }

 private:
  [[nodiscard]] float window_share() const {
    return 1.0F / static_cast<float>(window_.kernel * window_.kernel);
  }

  // Calls body(offset of an input pixel, offset of an output pixel whose window it is in, channels).
  template <class Body>
  void for_each_pair(Body body) const {
    const auto& g = geometry_;
    const auto channels = static_cast<std::size_t>(g.channels);
    for (std::int64_t n = 0; n < g.batch; ++n) {
      for (std::int64_t oy = 0; oy < g.out_height; ++oy) {
        const std::int64_t y0 = oy * window_.stride - window_.padding;
        for (std::int64_t ox = 0; ox < g.out_width; ++ox) {
          const std::int64_t x0 = ox * window_.stride - window_.padding;
          const auto out = static_cast<std::size_t>((n * g.out_height + oy) * g.out_width + ox) * channels;
          for (std::int64_t y = std::max<std::int64_t>(y0, 0); y < std::min(y0 + window_.kernel, g.height);
               ++y) {
            for (std::int64_t x = std::max<std::int64_t>(x0, 0); x < std::min(x0 + window_.kernel, g.width);
                 ++x) {
              body(static_cast<std::size_t>((n * g.height + y) * g.width + x) * channels, out, channels);
            }
          }
        }
      }
    }
  }

  Window window_;
  PoolGeometry geometry_;
};

}  // namespace

Window read_pool_window(const LayerSpec& spec) {
  static constexpr std::array<std::string_view, 3> known{"kernel", "stride", "padding"};
  const Settings settings(spec, known);
  // The place of a maximum is kept in a byte.
  const std::int64_t largest = spec.kind == "max_pool2d" ? kMaxPoolKernel : kMaxKernel;
  Window window;
  window.kernel = settings.integer("kernel", 1, largest);
  window.stride = settings.integer_or("stride", window.kernel, 1, kMaxKernel);
  // Beyond half the kernel a window could lie in the padding alone, and have no maximum.
  window.padding = settings.integer_or("padding", 0, 0, window.kernel / 2);
  return window;
}

std::unique_ptr<Layer> make_max_pool2d(const LayerSpec& spec) { return std::make_unique<MaxPool2d>(spec); }
std::unique_ptr<Layer> make_avg_pool2d(const LayerSpec& spec) { return std::make_unique<AvgPool2d>(spec); }

}  // namespace impart::nn
