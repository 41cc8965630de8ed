// Deep CORAL: the features of both domains come to have equal covariances.

#include <Eigen/Core>
#include <string>
#include <utility>

#include "impart/nn/network.hpp"
#include "share/adapt/adapt_losses.hpp"

namespace impart::share {

namespace {

struct CoralOptions {
  std::string layer;  ///< empty: the outputs
  double weight = 1;
  double label_weight = 1;
};

using Matrix = Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

/// One domain's features: (samples, d), less their means.
Matrix centred(std::span<const float> values, std::int64_t samples) {
  using Floats = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
  const auto width = static_cast<Eigen::Index>(values.size()) / samples;
  Matrix features = Eigen::Map<const Floats>(values.data(), samples, width).cast<double>();
  features.rowwise() -= features.colwise().mean().eval();
  return features;
}

Matrix covariance(const Matrix& features) {
  return features.transpose() * features / static_cast<double>(features.rows() - 1);
}

void add(const Matrix& slopes, double factor, std::span<float> gradient) {
  if (gradient.empty()) return;
  for (Eigen::Index i = 0; i < slopes.size(); ++i) {
    gradient[static_cast<std::size_t>(i)] += static_cast<float>(factor * slopes.data()[i]);
  }
}

class CoralWorker final : public nn::ObjectiveWorker {
 public:
  CoralWorker(const nn::JointObjective& objective, const CoralOptions& options)
      : objective_(objective), options_(options) {}

  double evaluate(const nn::ShardView& shard) override {
    const double labels = objective_.on_labels(shard, options_.label_weight);
    const auto& source = shard.streams[0];
    const auto& target = shard.streams[1];
    if (source.samples < 2 || target.samples < 2) return labels;  // of one sample there is no covariance
    const auto of_source = centred(features(source), source.samples);
    const auto of_target = centred(features(target), target.samples);
    const Matrix difference = covariance(of_source) - covariance(of_target);
    const auto squared_width = static_cast<double>(difference.rows() * difference.rows());
    const double part = options_.weight * objective_.weight(source.targets);
    const double slope = part * static_cast<double>(shard.scale) / squared_width;
    add(of_source * difference, slope / static_cast<double>(source.samples - 1), gradient(source));
    add(of_target * difference, -slope / static_cast<double>(target.samples - 1), gradient(target));
    return labels + part * difference.squaredNorm() / (4 * squared_width);
  }

 private:
  [[nodiscard]] std::span<const float> features(const nn::StreamView& stream) const {
    return options_.layer.empty() ? stream.outputs : stream.taps.front().values;
  }
  [[nodiscard]] std::span<float> gradient(const nn::StreamView& stream) const {
    return options_.layer.empty() ? stream.gradient : stream.taps.front().gradient;
  }

  const nn::JointObjective& objective_;
  const CoralOptions& options_;
};

/// ||C_S - C_T||_F^2 / (4 d^2), with the covariances of a shard's d features in each domain, which divide by
/// n - 1 (Sun and Saenko 2016, "Deep CORAL", eq. 1 to 3). A batch has the mean over its shards.
class Coral final : public nn::JointObjective {
 public:
  Coral(CoralOptions options, std::unique_ptr<nn::Objective> labels)
      : JointObjective(std::move(labels)), options_(std::move(options)) {}

  [[nodiscard]] std::string_view kind() const override { return "coral"; }
  [[nodiscard]] nn::ObjectiveNeeds needs() const override {
    nn::ObjectiveNeeds needs{.streams = 2, .whole_shard = true};
    if (!options_.layer.empty()) needs.taps = {options_.layer};
    return needs;
  }
  [[nodiscard]] std::unique_ptr<nn::ObjectiveWorker> worker() const override {
    return std::make_unique<CoralWorker>(*this, options_);
  }

 private:
  CoralOptions options_;
};

class CoralLoss final : public AdaptLoss {
 public:
  explicit CoralLoss(CoralOptions options) : options_(std::move(options)) {}

  void check(const nn::ModelSpec& spec) const override {
    if (!options_.layer.empty()) nn::layer_shape(spec, options_.layer);
  }
  [[nodiscard]] std::unique_ptr<nn::Objective> objective(
      const nn::ModelSpec& /*spec*/, std::unique_ptr<nn::Objective> labels) const override {
    return std::make_unique<Coral>(options_, std::move(labels));
  }

 private:
  CoralOptions options_;
};

}  // namespace

std::unique_ptr<AdaptLoss> make_coral(Settings& settings) {
  CoralOptions options;
  settings.read("layer", options.layer, "whose outputs are the features; empty: the model's own outputs");
  settings.read("weight", options.weight, at_least(0), "what the difference of the covariances counts");
  settings.read("label_weight", options.label_weight, at_least(0), "what the loss on labels counts");
  return std::make_unique<CoralLoss>(std::move(options));
}

}  // namespace impart::share
