// relu, dropout and flatten: layers without parameters that touch each value once.
#include <algorithm>
#include <cstring>
#include <vector>

#include "impart/core/error.hpp"
#include "impart/core/rng.hpp"
#include "nn/kernels.hpp"
#include "nn/layers.hpp"
#include "nn/settings.hpp"

namespace impart::nn {

namespace {

class Relu final : public Layer {
 public:
  [[nodiscard]] Shape output_shape(const Shape& input) const override { return input; }
  bool absorb(const LayerSpec& next) override { return next.kind == "relu"; }
  void setup(const Setup& /*setup*/) override {}
  [[nodiscard]] bool in_place() const override { return true; }

  void forward(const Pass& /*pass*/, std::span<const float> input, std::span<float> output) override {
    for (std::size_t i = 0; i < input.size(); ++i) output[i] = input[i] <= 0 ? 0 : input[i];  // keeps NaN
  }

  void backward(const Pass& /*pass*/, std::span<const float> /*input*/, std::span<const float> output,
                std::span<float> grad_output, std::span<float> grad_input,
                std::span<const std::span<float>> /*gradients*/) override {
    for (std::size_t i = 0; i < grad_input.size(); ++i) grad_input[i] = output[i] > 0 ? grad_output[i] : 0;
  }
};

class Dropout final : public Layer {
 public:
  explicit Dropout(const LayerSpec& spec) : purpose_("dropout:" + spec.name) {
    static constexpr std::array<std::string_view, 1> known{"rate"};
    rate_ = static_cast<float>(Settings(spec, known).number("rate", 0, 1));
  }

  [[nodiscard]] Shape output_shape(const Shape& input) const override { return input; }
  [[nodiscard]] bool in_place() const override { return true; }

  void setup(const Setup& setup) override {
    batch_ = static_cast<std::size_t>(setup.input[0]);
    if (setup.training) mask_.resize(static_cast<std::size_t>(setup.input.elements()));
  }

  void forward(const Pass& pass, std::span<const float> input, std::span<float> output) override {
    if (!pass.training || rate_ == 0) {
      if (output.data() != input.data()) std::copy(input.begin(), input.end(), output.begin());
      return;
    }
    if (pass.sample_ids.size() != batch_) throw Error("dropout needs the id of each sample of the batch");
    if (mask_.empty()) throw Error("a network that was built for evaluation cannot train");
    draw_mask(pass);
    for (std::size_t i = 0; i < input.size(); ++i) output[i] = input[i] * mask_[i];
  }

  void backward(const Pass& pass, std::span<const float> /*input*/, std::span<const float> /*output*/,
                std::span<float> grad_output, std::span<float> grad_input,
                std::span<const std::span<float>> /*gradients*/) override {
    if (!pass.training || rate_ == 0) {
      if (grad_input.data() != grad_output.data())
        std::copy(grad_output.begin(), grad_output.end(), grad_input.begin());
      return;
    }
    for (std::size_t i = 0; i < grad_input.size(); ++i) grad_input[i] = grad_output[i] * mask_[i];
  }

 private:
  // A sample's mask depends on its id and the step alone, not on its place in the batch or on the rank.
  void draw_mask(const Pass& pass) {
    const std::size_t width = mask_.size() / batch_;
    const float kept = 1.0F / (1.0F - rate_);
    for (std::size_t n = 0; n < batch_; ++n) {
      Rng rng(pass.seed, purpose_, pass.sample_ids[n], pass.step);
      for (std::size_t i = 0; i < width; ++i) mask_[n * width + i] = rng.uniform() < rate_ ? 0.0F : kept;
    }
  }

  std::string purpose_;
  float rate_ = 0;
  std::size_t batch_ = 0;
  std::vector<float> mask_;  // 0, or the factor of a kept value
};

// (N, C, H, W) to (N, C H W): from channels last to the order that dense layers (and PyTorch) number features
// in.
class Flatten final : public Layer {
 public:
  [[nodiscard]] Shape output_shape(const Shape& input) const override { return {input.elements()}; }
  [[nodiscard]] bool in_place() const override { return !reorders_; }

  void setup(const Setup& setup) override {
    batch_ = setup.input[0];
    if (setup.input.rank() != 4) return;
    channels_ = setup.input[1];
    pixels_ = setup.input[2] * setup.input[3];
    reorders_ = channels_ > 1 && pixels_ > 1;
  }

  void forward(const Pass& /*pass*/, std::span<const float> input, std::span<float> output) override {
    if (reorders_) {
      transpose_images(input.data(), batch_, pixels_, channels_, output.data());
    } else if (output.data() != input.data()) {
      std::copy(input.begin(), input.end(), output.begin());
    }
  }

  void backward(const Pass& /*pass*/, std::span<const float> /*input*/, std::span<const float> /*output*/,
                std::span<float> grad_output, std::span<float> grad_input,
                std::span<const std::span<float>> /*gradients*/) override {
    if (reorders_) {
      transpose_images(grad_output.data(), batch_, channels_, pixels_, grad_input.data());
    } else if (grad_input.data() != grad_output.data()) {
      std::copy(grad_output.begin(), grad_output.end(), grad_input.begin());
    }
  }

 private:
  std::int64_t batch_ = 0;
  std::int64_t channels_ = 1;
  std::int64_t pixels_ = 1;
  bool reorders_ = false;
};

}  // namespace

std::unique_ptr<Layer> make_relu(const LayerSpec& spec) {
  const Settings none(spec, {});
  return std::make_unique<Relu>();
}

std::unique_ptr<Layer> make_dropout(const LayerSpec& spec) { return std::make_unique<Dropout>(spec); }

std::unique_ptr<Layer> make_flatten(const LayerSpec& spec) {
  const Settings none(spec, {});
  return std::make_unique<Flatten>();
}

}  // namespace impart::nn
