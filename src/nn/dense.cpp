// dense: y = x W^T + b, through OpenBLAS.
#include <cblas.h>

#include <algorithm>
#include <array>

#include "impart/core/error.hpp"
#include "nn/layers.hpp"
#include "nn/settings.hpp"

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

  [[nodiscard]] Shape output_shape(const Shape& input) const override {
    if (input.rank() != 1) {
      throw Error("the input does not fit", ErrorKind::kUsage)
          .expected("a list of features")
          .got(input.str())
          .hint("put a flatten layer before it");
    }
    return {units_};
  }

  [[nodiscard]] std::vector<ParameterSpec> parameters(const Shape& input) const override {
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
    batch_ = static_cast<blasint>(setup.input[0]);
    features_ = static_cast<blasint>(setup.input[1]);
    outputs_ = static_cast<blasint>(units_);
  }

  void load(std::span<const std::span<const float>> state) override {
    weight_ = state[0];
    if (bias_) bias_values_ = state[1];
  }

  void forward(const Pass& /*pass*/, std::span<const float> input, std::span<float> output) override {
    const auto width = static_cast<std::size_t>(units_);
    for (std::size_t row = 0; row < output.size() && bias_; row += width) {
      std::copy(bias_values_.begin(), bias_values_.end(), output.begin() + static_cast<std::ptrdiff_t>(row));
    }
    cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, batch_, outputs_, features_, 1.0F, input.data(),
                features_, weight_.data(), features_, bias_ ? 1.0F : 0.0F, output.data(), outputs_);
    if (!relu_) return;
    for (float& y : output) y = y <= 0 ? 0 : y;  // keeps NaN
  }

  void backward(const Pass& /*pass*/, std::span<const float> input, std::span<const float> output,
                std::span<float> grad_output, std::span<float> grad_input,
                std::span<const std::span<float>> gradients) override {
    if (relu_) {
      for (std::size_t i = 0; i < grad_output.size(); ++i)
        grad_output[i] = output[i] > 0 ? grad_output[i] : 0;
    }
    if (!gradients[0].empty()) {
      cblas_sgemm(CblasRowMajor, CblasTrans, CblasNoTrans, outputs_, features_, batch_, 1.0F,
                  grad_output.data(), outputs_, input.data(), features_, 0.0F, gradients[0].data(),
                  features_);
      if (bias_) sum_rows(grad_output, gradients[1]);
    }
    if (!grad_input.empty()) {
      cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, batch_, features_, outputs_, 1.0F,
                  grad_output.data(), outputs_, weight_.data(), features_, 0.0F, grad_input.data(),
                  features_);
    }
  }

 private:
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
  blasint batch_ = 0;
  blasint features_ = 0;
  blasint outputs_ = 0;
  std::span<const float> weight_;       // (out, in), in the caller's state
  std::span<const float> bias_values_;  // (out)
};

}  // namespace

std::unique_ptr<Layer> make_dense(const LayerSpec& spec) { return std::make_unique<Dense>(spec); }

}  // namespace impart::nn
