#include "parallel/split_layers.hpp"

#include <algorithm>
#include <utility>
#include <vector>

#include "impart/core/error.hpp"
#include "impart/core/summation_tree.hpp"

namespace impart::parallel {

namespace {

/// Where the channels (features) of a sample of this shape stand: they are what lies next to each other in
/// memory.
std::size_t channel_axis(const Shape& sample) { return sample.rank() == 3 ? 0 : sample.rank() - 1; }

std::size_t channels_of(const Shape& sample) {
  return static_cast<std::size_t>(sample[channel_axis(sample)]);
}

class Joined final : public nn::Layer {
 public:
  Joined(std::unique_ptr<nn::Layer> inner, const Joint& joint, std::string bias,
         std::shared_ptr<TensorAxis> axis)
      : inner_(std::move(inner)), joint_(joint), bias_name_(std::move(bias)), axis_(std::move(axis)) {}

  [[nodiscard]] Shape output_shape(std::span<const Shape> inputs) const override {
    return inner_->output_shape(inputs);
  }

  [[nodiscard]] std::vector<nn::ParameterSpec> parameters(std::span<const Shape> inputs) const override {
    auto tensors = inner_->parameters(inputs);
    if (joint_.bias) {
      const auto channels = static_cast<std::int64_t>(channels_of(inner_->output_shape(inputs)));
      tensors.push_back({bias_name_, {channels}});
    }
    return tensors;
  }

  // What follows a sum must wait for it.
  bool absorb(const nn::LayerSpec& next) override { return !joint_.sum_outputs && inner_->absorb(next); }

  void setup(const nn::Setup& setup) override {
    inner_->setup(setup);
    alone_.resize(setup.inputs.size());
    addends_.resize(setup.inputs.size());
    for (std::size_t k = 0; k < addends_.size() && joint_.sum_gradients && addends_.size() > 1; ++k) {
      addends_[k].resize(static_cast<std::size_t>(setup.inputs[k].elements()));
    }
    shards_ = setup.shards;
    std::vector<Shape> samples;
    for (const auto& input : setup.inputs) samples.push_back(input.without_batch());
    channels_ = channels_of(inner_->output_shape(samples));
    const auto partial = ShardTree::partial_floats(shards_, static_cast<std::int64_t>(channels_));
    partial_.resize(joint_.bias && setup.training ? static_cast<std::size_t>(partial) : 0);
    std::size_t floats = partial_.size();
    for (const auto& addend : addends_) floats += addend.size();
    setup.scratch->count_table(floats * sizeof(float));
  }

  [[nodiscard]] nn::Needs needs() const override { return inner_->needs(); }
  // A sum over ranks takes what this layer alone has found.
  [[nodiscard]] bool adds_gradients() const override {
    return joint_.sum_gradients ? alone_.size() > 1 : inner_->adds_gradients();
  }
  [[nodiscard]] nn::Work work_of_pass() const override { return inner_->work_of_pass(); }

  void load(std::span<const std::span<const float>> state) override {
    if (joint_.bias) {
      bias_ = state.back();
      state = state.first(state.size() - 1);
    }
    inner_->load(state);
  }

  void forward(const nn::Pass& pass, nn::Inputs inputs, std::span<float> output) override {
    inner_->forward(pass, inputs, output);
    if (!joint_.sum_outputs) return;
    axis_->sum(output);
    for (std::size_t row = 0; row < output.size() && joint_.bias; row += channels_) {
      for (std::size_t c = 0; c < channels_; ++c) output[row + c] += bias_[c];
    }
  }

  void backward(const nn::Pass& pass, const nn::Backward& call) override {
    auto mine = call;
    if (joint_.bias) {
      if (!call.gradients.back().empty()) sum_bias(call.grad_output, call.gradients.back());
      mine.gradients = call.gradients.first(call.gradients.size() - 1);
    }
    if (!joint_.sum_gradients) return inner_->backward(pass, mine);
    for (std::size_t k = 0; k < alone_.size(); ++k) {
      alone_[k] = call.grad_inputs[k];
      if (alone_[k].add) alone_[k] = {addends_[k], false};
    }
    mine.grad_inputs = alone_;
    inner_->backward(pass, mine);
    for (std::size_t k = 0; k < alone_.size(); ++k) {
      if (alone_[k].values.empty()) continue;
      axis_->sum(alone_[k].values);
      if (!call.grad_inputs[k].add) continue;
      const auto to = call.grad_inputs[k].values;
      for (std::size_t i = 0; i < to.size(); ++i) to[i] += addends_[k][i];
    }
  }

 private:
  void sum_bias(std::span<const float> grad, std::span<float> gradient) {
    ShardTree tree(static_cast<std::int64_t>(channels_), gradient.data(), partial_.data());
    const auto part = grad.size() / static_cast<std::size_t>(shards_);
    for (std::size_t begin = 0; begin < grad.size(); begin += part, tree.put()) {
      float* sum = tree.next();
      std::fill_n(sum, channels_, 0.0F);
      for (std::size_t row = begin; row < begin + part; row += channels_) {
        for (std::size_t c = 0; c < channels_; ++c) sum[c] += grad[row + c];
      }
    }
  }

  std::unique_ptr<nn::Layer> inner_;
  Joint joint_;
  std::string bias_name_;
  std::shared_ptr<TensorAxis> axis_;
  std::size_t channels_ = 0;  // of the output
  std::int64_t shards_ = 1;
  std::span<const float> bias_;              // (channels), in the caller's state
  std::vector<float> partial_;               // of the bias's gradient
  std::vector<nn::InputGradient> alone_;     // what this layer adds to inputs' gradients
  std::vector<std::vector<float>> addends_;  // where to, of several inputs
};

/// A whole input to this rank's part of its channels, or back: what one does forward, the other does
/// backward.
class Convert final : public nn::Layer {
 public:
  Convert(bool gathers, nn::Part part, std::shared_ptr<TensorAxis> axis)
      : gathers_(gathers), part_(part), axis_(std::move(axis)) {}

  [[nodiscard]] Shape output_shape(std::span<const Shape> inputs) const override {
    std::vector<std::int64_t> dims(inputs[0].dims().begin(), inputs[0].dims().end());
    auto& channels = dims[channel_axis(inputs[0])];
    channels = gathers_ ? channels * part_.of : channels / part_.of;
    return Shape(dims);
  }

  void setup(const nn::Setup& setup) override {
    width_ = channels_of(setup.inputs[0].without_batch());
    if (!gathers_) width_ /= static_cast<std::size_t>(part_.of);
  }
  [[nodiscard]] nn::Needs needs() const override { return {.inputs = false, .output = false}; }

  void forward(const nn::Pass& /*pass*/, nn::Inputs inputs, std::span<float> output) override {
    gathers_ ? gather(inputs[0], output) : slice(inputs[0], output);
  }
  void backward(const nn::Pass& /*pass*/, const nn::Backward& call) override {
    const auto to = call.grad_inputs[0].values;
    if (to.empty()) return;
    gathers_ ? slice(call.grad_output, to) : gather(call.grad_output, to);
  }

 private:
  void gather(std::span<const float> part, std::span<float> whole) { axis_->gather(part, width_, whole); }
  void slice(std::span<const float> whole, std::span<float> part) {
    take_part(whole, static_cast<std::size_t>(part_.index), static_cast<std::size_t>(part_.of), width_, part);
  }

  bool gathers_;
  nn::Part part_;
  std::shared_ptr<TensorAxis> axis_;
  std::size_t width_ = 0;  // channels of a part
};

}  // namespace

std::unique_ptr<nn::Layer> make_joined(std::unique_ptr<nn::Layer> inner, const Joint& joint,
                                       const std::string& bias, std::shared_ptr<TensorAxis> axis) {
  return std::make_unique<Joined>(std::move(inner), joint, bias, std::move(axis));
}

std::unique_ptr<nn::Layer> make_slice(nn::Part part, std::shared_ptr<TensorAxis> axis) {
  return std::make_unique<Convert>(false, part, std::move(axis));
}

std::unique_ptr<nn::Layer> make_gather(nn::Part part, std::shared_ptr<TensorAxis> axis) {
  return std::make_unique<Convert>(true, part, std::move(axis));
}

}  // namespace impart::parallel
