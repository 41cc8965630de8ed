// dropout and flatten: layers without parameters that touch each value once.
#include <algorithm>
#include <cstring>
#include <vector>

#include "impart/core/error.hpp"
#include "impart/core/rng.hpp"
#include "nn/kernels/kernels.hpp"
#include "nn/layers/layers.hpp"

namespace impart::nn {

namespace {

class Dropout final : public Layer {
 public:
  Dropout(Settings& settings, const LayerContext& context)
      : purpose_("dropout:" + std::string(context.name)), part_(context.part) {
    double rate = 0.5;
    settings.require("rate", rate, below(0, 1), "share of the values that training leaves out");
    rate_ = static_cast<float>(rate);
  }

  [[nodiscard]] Shape output_shape(std::span<const Shape> inputs) const override {
    return only_input(inputs);
  }
  [[nodiscard]] bool in_place() const override { return true; }
  [[nodiscard]] Needs needs() const override { return {.inputs = false, .output = false}; }

  void setup(const Setup& setup) override {
    const Shape& input = setup.inputs[0];
    batch_ = static_cast<std::size_t>(input[0]);
    // Channels of images lie next to each other, as features do.
    width_ = static_cast<std::size_t>(input.rank() == 4 ? input[1] : input[input.rank() - 1]);
    if (setup.training) setup.keep(mask_, static_cast<std::size_t>(setup.inputs[0].elements()));
  }

  void forward(const Pass& pass, Inputs inputs, std::span<float> output) override {
    const auto input = inputs[0];
    if (!pass.training || rate_ == 0) {
      if (output.data() != input.data()) std::copy(input.begin(), input.end(), output.begin());
      return;
    }
    if (pass.sample_ids.size() != batch_) throw Error("dropout needs the id of each sample of the batch");
    if (mask_.empty()) throw Error("a network that was built for evaluation cannot train");
    draw_mask(pass);
    for (std::size_t i = 0; i < input.size(); ++i) output[i] = input[i] * mask_[i];
  }

  void backward(const Pass& pass, const Backward& call) override {
    const auto grad_output = call.grad_output;
    const auto grad_input = call.grad_inputs[0].values;
    if (!pass.training || rate_ == 0) {
      if (grad_input.data() != grad_output.data())
        std::copy(grad_output.begin(), grad_output.end(), grad_input.begin());
      return;
    }
    for (std::size_t i = 0; i < grad_input.size(); ++i) grad_input[i] = grad_output[i] * mask_[i];
  }

 private:
  // A sample's mask depends on its id and the step alone, not on its place in the batch or on the rank. A
  // part draws that of the whole, too, and keeps its own.
  void draw_mask(const Pass& pass) {
    const auto before = static_cast<std::size_t>(part_.index) * width_;
    const auto after = static_cast<std::size_t>(part_.of) * width_ - before - width_;
    const float kept = 1.0F / (1.0F - rate_);
    float* mask = mask_.data();
    for (std::size_t n = 0; n < batch_; ++n) {
      Rng rng(pass.seed, purpose_, pass.sample_ids[n], pass.step);
      for (std::size_t row = 0; row < mask_.size() / batch_; row += width_) {
        rng.skip(before);
        for (std::size_t i = 0; i < width_; ++i) *mask++ = rng.uniform() < rate_ ? 0.0F : kept;
        rng.skip(after);
      }
    }
  }

  std::string purpose_;
  Part part_;
  float rate_ = 0;
  std::size_t batch_ = 0;
  std::size_t width_ = 0;  // channels of the part
  Kept<float> mask_;       // 0, or the factor of a kept value
};

// (N, C, H, W) to (N, C H W): from channels last to the order that dense layers (and PyTorch) number features
// in.
class Flatten final : public Layer {
 public:
  [[nodiscard]] Shape output_shape(std::span<const Shape> inputs) const override {
    return {only_input(inputs).elements()};
  }
  [[nodiscard]] bool in_place() const override { return !reorders_; }
  [[nodiscard]] Needs needs() const override { return {.inputs = false, .output = false}; }

  void setup(const Setup& setup) override {
    batch_ = setup.inputs[0][0];
    if (setup.inputs[0].rank() != 4) return;
    channels_ = setup.inputs[0][1];
    pixels_ = setup.inputs[0][2] * setup.inputs[0][3];
    reorders_ = channels_ > 1 && pixels_ > 1;
  }

  void forward(const Pass& /*pass*/, Inputs inputs, std::span<float> output) override {
    const auto input = inputs[0];
    if (reorders_) {
      transpose_images(input.data(), batch_, pixels_, channels_, output.data());
    } else if (output.data() != input.data()) {
      std::copy(input.begin(), input.end(), output.begin());
    }
  }

  void backward(const Pass& /*pass*/, const Backward& call) override {
    const auto grad_output = call.grad_output;
    const auto grad_input = call.grad_inputs[0].values;
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

std::unique_ptr<Layer> make_dropout(Settings& settings, const LayerContext& context) {
  return std::make_unique<Dropout>(settings, context);
}

std::unique_ptr<Layer> make_flatten(Settings& /*settings*/, const LayerContext& /*context*/) {
  return std::make_unique<Flatten>();
}

}  // namespace impart::nn
