// Pooling of images: max_pool2d and avg_pool2d, whose windows slide, and adaptive_max_pool2d,
// adaptive_avg_pool2d and global_avg_pool2d, whose outputs have a given size.
#include <fmt/format.h>

#include <algorithm>
#include <vector>

#include "impart/core/error.hpp"
#include "nn/kernels/kernels.hpp"
#include "nn/layers/layers.hpp"

namespace impart::nn {

namespace {

class MaxPool2d final : public Layer {
 public:
  explicit MaxPool2d(const Window& window) : window_(window) {}

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
    setup.keep(winners_, static_cast<std::size_t>(geometry_.batch * geometry_.out_height *
                                                  geometry_.out_width * geometry_.channels));
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
  Kept<std::uint8_t> winners_;  // (N, OH, OW, C): place of the maximum in its window
};

/// The places of one extent of an image that a window sees: [first, last).
struct Interval {
  std::int64_t first = 0;
  std::int64_t last = 0;
};

std::vector<Interval> sliding_windows(const Window& window, std::int64_t extent) {
  std::vector<Interval> windows;
  for (std::int64_t o = 0; o < window.output_extent(extent); ++o) {
    const std::int64_t start = o * window.stride - window.padding;
    windows.push_back({std::max<std::int64_t>(start, 0), std::min(start + window.kernel, extent)});
  }
  return windows;
}

// PyTorch's rule: window i reaches from floor(i extent / count) to ceil((i + 1) extent / count).
std::vector<Interval> adaptive_windows(std::int64_t count, std::int64_t extent) {
  std::vector<Interval> windows;
  for (std::int64_t i = 0; i < count; ++i) {
    windows.push_back({i * extent / count, ((i + 1) * extent + count - 1) / count});
  }
  return windows;
}

/// The windows of a batch of images, each a rectangle of one image's pixels.
struct WindowGrid {
  std::int64_t batch = 0;
  ImageShape image;
  std::vector<Interval> rows, columns;

  /// Calls body(output pixel, rows, columns, image) for each window, `image` being where its image's values
  /// start.
  template <class Body>
  void for_each(Body body) const {
    std::size_t pixel = 0;
    for (std::int64_t n = 0; n < batch; ++n) {
      for (const auto& y : rows) {
        for (const auto& x : columns) body(pixel++, y, x, n * image.height * image.width * image.channels);
      }
    }
  }
  /// Calls body(offset of a pixel's values) for each pixel of a window.
  template <class Body>
  void for_each_pixel(const Interval& y, const Interval& x, std::int64_t start, Body body) const {
    for (std::int64_t iy = y.first; iy < y.last; ++iy) {
      for (std::int64_t ix = x.first; ix < x.last; ++ix) {
        body(static_cast<std::size_t>(start + (iy * image.width + ix) * image.channels));
      }
    }
  }
};

// The extents of the output of an adaptive pooling.
std::int64_t read_size(Settings& settings) {
  std::int64_t size = 1;
  settings.require("size", size, kernel_extents(), "height and width of the output");
  return size;
}

Window read_window(Settings& settings, const Range& kernels) {
  Window window;
  settings.require("kernel", window.kernel, kernels, "height and width of the window");
  window.stride = window.kernel;
  settings.read("stride", window.stride, kernel_extents(),
                "pixels from one window to the next; when not given, the kernel's extent");
  settings.read("padding", window.padding, between(0, static_cast<double>(kMaxKernel / 2)),
                "pixels without values on each side of the image; at most half the kernel");
  // Beyond that a window could lie in the padding alone, and have no maximum.
  if (window.padding > window.kernel / 2) {
    settings.problem("padding", fmt::format("expected at most {}, half the kernel, got {}", window.kernel / 2,
                                            window.padding));
  }
  return window;
}

// The place of a maximum is kept in a byte.
Window read_max_pool_window(Settings& settings) {
  return read_window(settings, between(1, static_cast<double>(kMaxPoolKernel)));
}

// Means of windows. Padding counts as zeros in a sliding window's mean, as in PyTorch.
class AvgPool2d final : public Layer {
 public:
  explicit AvgPool2d(const Window& window) : window_(window) {}
  explicit AvgPool2d(std::int64_t size) : size_(size) {}

  [[nodiscard]] Shape output_shape(std::span<const Shape> inputs) const override {
    const auto image = image_shape(only_input(inputs));
    if (size_ == 0) return window_output(window_, image, image.channels);
    return {image.channels, size_, size_};
  }

  [[nodiscard]] Needs needs() const override { return {.inputs = false, .output = false}; }
  [[nodiscard]] bool adds_gradients() const override { return true; }

  void setup(const Setup& setup) override {
    const auto image = image_shape(setup.inputs[0].without_batch());
    const auto windows = [&](std::int64_t extent) {
      return size_ == 0 ? sliding_windows(window_, extent) : adaptive_windows(size_, extent);
    };
    grid_ = {setup.inputs[0][0], image, windows(image.height), windows(image.width)};
  }

  void forward(const Pass& /*pass*/, Inputs inputs, std::span<float> output) override {
    const auto channels = static_cast<std::size_t>(grid_.image.channels);
    grid_.for_each([&](std::size_t pixel, const Interval& y, const Interval& x, std::int64_t image) {
      float* to = output.data() + pixel * channels;
      std::fill_n(to, channels, 0.0F);
      grid_.for_each_pixel(y, x, image, [&](std::size_t from) {
        for (std::size_t c = 0; c < channels; ++c) to[c] += inputs[0][from + c];
      });
      const float factor = share(y, x);
      for (std::size_t c = 0; c < channels; ++c) to[c] *= factor;
    });
  }

  void backward(const Pass& /*pass*/, const Backward& call) override {
    const auto& to = call.grad_inputs[0];
    if (to.values.empty()) return;
    if (!to.add) std::fill(to.values.begin(), to.values.end(), 0.0F);
    const auto channels = static_cast<std::size_t>(grid_.image.channels);
    grid_.for_each([&](std::size_t pixel, const Interval& y, const Interval& x, std::int64_t image) {
      const float* from = call.grad_output.data() + pixel * channels;
      const float factor = share(y, x);
      grid_.for_each_pixel(y, x, image, [&](std::size_t at) {
        for (std::size_t c = 0; c < channels; ++c) to.values[at + c] += factor * from[c];
      });
    });
  }

 private:
  [[nodiscard]] float share(const Interval& y, const Interval& x) const {
    const auto values =
        size_ == 0 ? window_.kernel * window_.kernel : (y.last - y.first) * (x.last - x.first);
    return 1.0F / static_cast<float>(values);
  }

  Window window_;
  std::int64_t size_ = 0;  // of an adaptive pooling's output; 0: the window slides
  WindowGrid grid_;
};

// Mean of each channel: (C, H, W) to (C).
class GlobalAvgPool2d final : public Layer {
 public:
  [[nodiscard]] Shape output_shape(std::span<const Shape> inputs) const override {
    return {image_shape(only_input(inputs)).channels};
  }
  void setup(const Setup& setup) override { pool_.setup(setup); }
  [[nodiscard]] Needs needs() const override { return pool_.needs(); }
  [[nodiscard]] bool adds_gradients() const override { return pool_.adds_gradients(); }
  void forward(const Pass& pass, Inputs inputs, std::span<float> output) override {
    pool_.forward(pass, inputs, output);
  }
  void backward(const Pass& pass, const Backward& call) override { pool_.backward(pass, call); }

 private:
  AvgPool2d pool_{1};
};

class AdaptiveMaxPool2d final : public Layer {
 public:
  explicit AdaptiveMaxPool2d(std::int64_t size) : size_(size) {}

  [[nodiscard]] Shape output_shape(std::span<const Shape> inputs) const override {
    return {image_shape(only_input(inputs)).channels, size_, size_};
  }

  [[nodiscard]] Needs needs() const override { return {.inputs = false, .output = false}; }
  [[nodiscard]] bool adds_gradients() const override { return true; }

  void setup(const Setup& setup) override {
    const auto image = image_shape(setup.inputs[0].without_batch());
    grid_ = {setup.inputs[0][0], image, adaptive_windows(size_, image.height),
             adaptive_windows(size_, image.width)};
    setup.keep(winners_, static_cast<std::size_t>(grid_.batch * size_ * size_ * image.channels));
  }

  void forward(const Pass& /*pass*/, Inputs inputs, std::span<float> output) override {
    const auto channels = static_cast<std::size_t>(grid_.image.channels);
    grid_.for_each([&](std::size_t pixel, const Interval& y, const Interval& x, std::int64_t image) {
      float* best = output.data() + pixel * channels;
      std::size_t* winner = winners_.data() + pixel * channels;
      bool first = true;
      grid_.for_each_pixel(y, x, image, [&](std::size_t from) {
        const float* values = inputs[0].data() + from;
        for (std::size_t c = 0; c < channels; ++c) {
          if (!first && !(values[c] > best[c]) && values[c] == values[c]) continue;  // NaN wins
          best[c] = values[c];
          winner[c] = from + c;
        }
        first = false;
      });
    });
  }

  void backward(const Pass& /*pass*/, const Backward& call) override {
    const auto& to = call.grad_inputs[0];
    if (to.values.empty()) return;
    if (!to.add) std::fill(to.values.begin(), to.values.end(), 0.0F);
    for (std::size_t i = 0; i < winners_.size(); ++i) to.values[winners_[i]] += call.grad_output[i];
  }

 private:
  std::int64_t size_;
  WindowGrid grid_;
  Kept<std::size_t> winners_;  // (N, size, size, C): where in the input the maximum is
};

}  // namespace

Window max_pool_window(const LayerSpec& spec) {
  return read_settings(spec.settings, "", read_max_pool_window);
}

std::unique_ptr<Layer> make_max_pool2d(Settings& settings, const LayerContext& /*context*/) {
  return std::make_unique<MaxPool2d>(read_max_pool_window(settings));
}

std::unique_ptr<Layer> make_avg_pool2d(Settings& settings, const LayerContext& /*context*/) {
  return std::make_unique<AvgPool2d>(read_window(settings, kernel_extents()));
}

std::unique_ptr<Layer> make_adaptive_avg_pool2d(Settings& settings, const LayerContext& /*context*/) {
  return std::make_unique<AvgPool2d>(read_size(settings));
}

std::unique_ptr<Layer> make_adaptive_max_pool2d(Settings& settings, const LayerContext& /*context*/) {
  return std::make_unique<AdaptiveMaxPool2d>(read_size(settings));
}

std::unique_ptr<Layer> make_global_avg_pool2d(Settings& /*settings*/, const LayerContext& /*context*/) {
  return std::make_unique<GlobalAvgPool2d>();
}

}  // namespace impart::nn
