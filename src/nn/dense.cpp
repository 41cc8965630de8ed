// dense: y = x W^T + b, through OpenBLAS.
#include <cblas.h>

#include <algorithm>
#include <array>

#include "impart/core/error.hpp"
#include "nn/layers.hpp"
#include "nn/settings.hpp"
#include "nn/shard_tree.hpp"

namespace impart::nn {

namespace {

class Dense final : public Layer {
 public:
  explicit Dense(const LayerSpec& spec) {
    static constexpr std::array<std::string_view, 3> known{"units", "bias", "init"};
    const Settings settings(spec, known);
    units_ = settings.integer("units", 1, kMaxExtent);
    bias_ = settings.flag_or("bias", true);
    init_ = read_init(settings);
  }

  [[nodiscard]] Shape output_shape(std::span<const Shape> inputs) const override {
    const Shape& input = only_input(inputs);
    if (input.rank() != 1) {
      throw Error("the input does not fit", ErrorKind::kUsage)
          .expected("a list of features")
          .got(input.str())
          .hint("put a flatten layer before it");
    }
    return {units_};
  }

  [[nodiscard]] std::vector<ParameterSpec> parameters(std::span<const Shape> inputs) const override {
    const Shape& input = only_input(inputs);
    std::vector<ParameterSpec> tensors;
    tensors.push_back({"weight", {units_, input[0]}, StateKind::kParameter, init_, input[0], units_});
    if (bias_) tensors.push_back({"bias", {units_}});
    return tensors;
  }

  bool absorb(const LayerSpec& next) override {
    if (next.kind != "relu") return false;
    relu_ = true;
    return true;
  }

  void setup(const Setup& setup) override {
    shards_ = setup.shards;
    batch_ = static_cast<blasint>(setup.inputs[0][0]);
    features_ = static_cast<blasint>(setup.inputs[0][1]);
    outputs_ = static_cast<blasint>(units_);
    scratch_ = setup.scratch;
    const auto partial = ShardTree::partial_floats(shards_, units_ * features_);
    if (setup.trainable) scratch_->reserve(static_cast<std::size_t>(partial) * sizeof(float));
  }

  void load(std::span<const std::span<const float>> state) override {
    weight_ = state[0];
    if (bias_) bias_values_ = state[1];
  }

  [[nodiscard]] Needs needs() const override { return {.inputs = true, .output = relu_}; }

  void forward(const Pass& /*pass*/, Inputs inputs, std::span<float> output) override {
    const auto input = inputs[0];
    const auto width = static_cast<std::size_t>(units_);
    for (std::size_t row = 0; row < output.size() && bias_; row += width) {
      std::copy(bias_values_.begin(), bias_values_.end(), output.begin() + static_cast<std::ptrdiff_t>(row));
    }
    cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, batch_, outputs_, features_, 1.0F, input.data(),
                features_, weight_.data(), features_, bias_ ? 1.0F : 0.0F, output.data(), outputs_);
    if (!relu_) return;
    for (float& y : output) y = y <= 0 ? 0 : y;  // keeps NaN
  }

  void backward(const Pass& /*pass*/, const Backward& call) override {
    const auto grad_output = call.grad_output;
    if (relu_) {
      for (std::size_t i = 0; i < grad_output.size(); ++i)
        grad_output[i] = call.output[i] > 0 ? grad_output[i] : 0;
    }
    if (!call.gradients[0].empty()) {
      const auto rows = batch_ / static_cast<blasint>(shards_);
      ShardTree weights(units_ * features_, call.gradients[0].data(), work());
      for (std::int64_t s = 0; s < shards_; ++s, weights.put()) {
        cblas_sgemm(CblasRowMajor, CblasTrans, CblasNoTrans, outputs_, features_, rows, 1.0F,
                    grad_output.data() + s * rows * outputs_, outputs_,
                    call.inputs[0].data() + s * rows * features_, features_, 0.0F, weights.next(), features_);
      }
      if (bias_) {
        ShardTree bias(units_, call.gradients[1].data(), work());
        const auto part = grad_output.size() / static_cast<std::size_t>(shards_);
        for (std::size_t at = 0; at < grad_output.size(); at += part, bias.put()) {
          sum_rows(grad_output.subspan(at, part), {bias.next(), static_cast<std::size_t>(units_)});
        }
      }
    }
    const auto grad_input = call.grad_inputs[0].values;
    if (!grad_input.empty()) {
      cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, batch_, features_, outputs_, 1.0F,
                  grad_output.data(), outputs_, weight_.data(), features_, 0.0F, grad_input.data(),
                  features_);
    }
  }

 private:
  [[nodiscard]] float* work() const { return reinterpret_cast<float*>(scratch_->data()); }

  static void sum_rows(std::span<const float> rows, std::span<float> sum) {
    std::fill(sum.begin(), sum.end(), 0.0F);
    for (std::size_t row = 0; row < rows.size(); row += sum.size()) {
      for (std::size_t k = 0; k < sum.size(); ++k) sum[k] += rows[row + k];
    }
  }

  std::int64_t units_ = 0;
  bool bias_ = true;
  Init init_ = Init::kHe;
  bool relu_ = false;
  std::int64_t shards_ = 1;
  blasint batch_ = 0;
  blasint features_ = 0;
  blasint outputs_ = 0;
  std::span<const float> weight_;       // (out, in), in the caller's state
  std::span<const float> bias_values_;  // (out)
  Scratch* scratch_ = nullptr;
};

}  // namespace

std::unique_ptr<Layer> make_dense(const LayerSpec& spec) { return std::make_unique<Dense>(spec); }

}  // namespace impart::nn
