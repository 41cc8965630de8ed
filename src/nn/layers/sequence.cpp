// embedding and positional_encoding: how sequences of words come into a network.
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <vector>

#include "impart/core/error.hpp"
#include "impart/nn/shard_tree.hpp"
#include "nn/layers/layers.hpp"
#include "nn/settings.hpp"

namespace impart::nn {

namespace {

// A row of a table for each index: (T) to (T, width).
class Embedding final : public Layer {
 public:
  explicit Embedding(const LayerSpec& spec) {
    static constexpr std::array<std::string_view, 2> known{"vocabulary", "width"};
    const Settings settings(spec, known);
    vocabulary_ = settings.integer("vocabulary", 1, kMaxExtent);
    width_ = settings.integer("width", 1, kMaxExtent);
  }

  [[nodiscard]] Shape output_shape(std::span<const Shape> inputs) const override {
    const Shape& input = only_input(inputs);
    if (input.rank() != 1) {
      throw Error("the input does not fit", ErrorKind::kUsage).expected("a list of indices").got(input.str());
    }
    return {input[0], width_};
  }

  // Rows are drawn as PyTorch draws them: with variance 1.
  [[nodiscard]] std::vector<ParameterSpec> parameters(std::span<const Shape> /*inputs*/) const override {
    return {{"weight", {vocabulary_, width_}, StateKind::kParameter, Init::kHe, 2, width_}};
  }

  void setup(const Setup& setup) override {
    if (setup.need_input_gradient[0]) {
      throw Error("indices have no gradient", ErrorKind::kUsage)
          .hint("an embedding reads the model's input, or layers without parameters");
    }
    steps_ = static_cast<std::size_t>(setup.inputs[0][1]);
    shards_ = setup.shards;
    setup.keep(indices_, static_cast<std::size_t>(setup.inputs[0].elements()));
    scratch_ = setup.scratch;
    const auto partial = ShardTree::partial_floats(shards_, vocabulary_ * width_);
    if (setup.training && setup.trainable) {
      scratch_->reserve(static_cast<std::size_t>(partial) * sizeof(float));
    }
  }

  void load(std::span<const std::span<const float>> state) override { table_ = state[0]; }

  [[nodiscard]] Needs needs() const override { return {.inputs = false, .output = false}; }

  void forward(const Pass& /*pass*/, Inputs inputs, std::span<float> output) override {
    float* to = output.data();
    for (std::size_t i = 0; i < indices_.size(); ++i) {
      indices_[i] = index_of(inputs[0][i], i);
      to = std::copy_n(table_.data() + indices_[i] * width_, width_, to);
    }
  }

  void backward(const Pass& /*pass*/, const Backward& call) override {
    if (call.gradients[0].empty()) return;
    ShardTree tree(vocabulary_ * width_, call.gradients[0].data(),
                   reinterpret_cast<float*>(scratch_->data()));
    const std::size_t part = indices_.size() / static_cast<std::size_t>(shards_);
    const float* from = call.grad_output.data();
    for (std::int64_t s = 0; s < shards_; ++s, tree.put()) {
      std::fill_n(tree.next(), vocabulary_ * width_, 0.0F);
      for (std::size_t i = 0; i < part; ++i, from += width_) {
        float* row = tree.next() + indices_[static_cast<std::size_t>(s) * part + i] * width_;
        for (std::int64_t k = 0; k < width_; ++k) row[k] += from[k];
      }
    }
  }

 private:
  [[nodiscard]] std::int64_t index_of(float value, std::size_t place) const {
    const bool known = value >= 0 && value < static_cast<float>(vocabulary_) && std::floor(value) == value;
    if (known) return static_cast<std::int64_t>(value);
    throw Error("an index is not in the vocabulary of an embedding")
        .expected(fmt::format("a whole number from 0 to {}", vocabulary_ - 1))
        .got(fmt::format("{} at place {} of sample {} of the batch", value, place % steps_, place / steps_))
        .hint("raise `vocabulary`, or check the data");
  }

  std::int64_t vocabulary_ = 0;
  std::int64_t width_ = 0;
  std::size_t steps_ = 1;
  std::int64_t shards_ = 1;
  std::span<const float> table_;  // (vocabulary, width), in the caller's state
  Kept<std::int64_t> indices_;    // of the last forward
  Scratch* scratch_ = nullptr;
};

// Adds to each step of a sequence what tells its place: sines and cosines of the place (Vaswani et al. 2017,
// section 3.5), or a learnt row.
class PositionalEncoding final : public Layer {
 public:
  explicit PositionalEncoding(const LayerSpec& spec) {
    static constexpr std::array<std::string_view, 1> known{"encoding"};
    static constexpr std::array<std::string_view, 2> words{"sinusoidal", "learned"};
    learned_ = Settings(spec, known).word_or("encoding", "sinusoidal", words) == "learned";
  }

  [[nodiscard]] Shape output_shape(std::span<const Shape> inputs) const override {
    return sequence_shape(only_input(inputs));
  }

  // Learnt rows start small beside what they are added to.
  [[nodiscard]] std::vector<ParameterSpec> parameters(std::span<const Shape> inputs) const override {
    const Shape& input = only_input(inputs);
    if (!learned_) return {};
    return {{"weight", input, StateKind::kParameter, Init::kHe, 2 * input[1], input[1]}};
  }

  void setup(const Setup& setup) override {
    shards_ = setup.shards;
    size_ = static_cast<std::size_t>(setup.inputs[0][1] * setup.inputs[0][2]);
    if (!learned_) {
      waves_ = waves(setup.inputs[0][1], setup.inputs[0][2]);
      rows_ = waves_;
    }
    partial_.resize(
        learned_ && setup.training && setup.trainable
            ? static_cast<std::size_t>(ShardTree::partial_floats(shards_, static_cast<std::int64_t>(size_)))
            : 0);
  }

  void load(std::span<const std::span<const float>> state) override {
    if (learned_) rows_ = state[0];
  }

  [[nodiscard]] bool in_place() const override { return true; }
  [[nodiscard]] Needs needs() const override { return {.inputs = false, .output = false}; }

  void forward(const Pass& /*pass*/, Inputs inputs, std::span<float> output) override {
    for (std::size_t sample = 0; sample < output.size(); sample += size_) {
      for (std::size_t i = 0; i < size_; ++i) output[sample + i] = inputs[0][sample + i] + rows_[i];
    }
  }

  void backward(const Pass& /*pass*/, const Backward& call) override {
    const auto grad = call.grad_output;
    if (learned_ && !call.gradients[0].empty()) {
      ShardTree tree(static_cast<std::int64_t>(size_), call.gradients[0].data(), partial_.data());
      const std::size_t part = grad.size() / static_cast<std::size_t>(shards_);
      for (std::size_t begin = 0; begin < grad.size(); begin += part, tree.put()) {
        float* sum = tree.next();
        std::fill_n(sum, size_, 0.0F);
        for (std::size_t sample = begin; sample < begin + part; sample += size_) {
          for (std::size_t i = 0; i < size_; ++i) sum[i] += grad[sample + i];
        }
      }
    }
    const auto to = call.grad_inputs[0].values;
    if (!to.empty() && to.data() != grad.data()) std::copy(grad.begin(), grad.end(), to.begin());
  }

 private:
  // Equations of section 3.5: (T, F).
  static std::vector<float> waves(std::int64_t steps, std::int64_t features) {
    std::vector<float> rows;
    rows.reserve(static_cast<std::size_t>(steps * features));
    for (std::int64_t t = 0; t < steps; ++t) {
      for (std::int64_t k = 0; k < features; ++k) {
        const double exponent = static_cast<double>(k / 2 * 2) / static_cast<double>(features);
        const double angle = static_cast<double>(t) * std::pow(10000.0, -exponent);
        rows.push_back(static_cast<float>(k % 2 == 0 ? std::sin(angle) : std::cos(angle)));
      }
    }
    return rows;
  }

  bool learned_ = false;
  std::int64_t shards_ = 1;
  std::size_t size_ = 0;
  std::span<const float> rows_;  // (T, F): waves_, or in the caller's state
  std::vector<float> waves_;
  std::vector<float> partial_;
};

}  // namespace

std::unique_ptr<Layer> make_embedding(const LayerSpec& spec) { return std::make_unique<Embedding>(spec); }

std::unique_ptr<Layer> make_positional_encoding(const LayerSpec& spec) {
  return std::make_unique<PositionalEncoding>(spec);
}

}  // namespace impart::nn
