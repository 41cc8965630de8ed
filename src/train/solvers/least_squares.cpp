// Ridge regression on one-hot labels: (X'X + ridge I) W' = X'Y, with columns less their means when there is a
// bias, which is then the mean of what is left over.

#include <fmt/format.h>

#include <Eigen/Core>
#include <algorithm>

#include "impart/core/clock.hpp"
#include "impart/core/error.hpp"
#include "train/solvers/linear_system.hpp"
#include "train/solvers/sample_sums.hpp"
#include "train/solvers/solvers.hpp"

namespace impart::train {

namespace {

using Eigen::Index;
using Eigen::MatrixXd;
using Eigen::VectorXd;
using RowMatrix = Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

/// Sums over the samples, and where each lies in one array.
struct Moments {
  Moments(Index d, Index k) : inputs(d), outputs(k), values(static_cast<std::size_t>((d + 1) * (d + k))) {}

  static auto products(std::span<double> v, Index d, Index) { return Eigen::Map<MatrixXd>(v.data(), d, d); }
  static auto cross(std::span<double> v, Index d, Index k) {
    return Eigen::Map<MatrixXd>(v.data() + d * d, d, k);
  }
  static auto input(std::span<double> v, Index d, Index k) {
    return Eigen::Map<VectorXd>(v.data() + d * (d + k), d);
  }
  static auto label(std::span<double> v, Index d, Index k) {
    return Eigen::Map<VectorXd>(v.data() + d * (d + k) + d, k);
  }

  Index inputs, outputs;
  std::vector<double> values;  // X'X (d, d), lower triangle; X'Y (d, k); sums of X (d), of Y (k)
};

/// A mean of some samples, to be taken from all: sums of squares of what lies far from zero would lose what
/// they are to tell.
VectorXd origin_of(const data::Dataset& data, bool centred) {
  VectorXd origin = VectorXd::Zero(data.sample_shape().elements());
  if (!centred) return origin;
  Eigen::VectorXf sample(origin.size());
  const auto count = std::min(kSampleBlock, data.size());
  for (std::int64_t i = 0; i < count; ++i) {
    data.get(i, {sample.data(), static_cast<std::size_t>(sample.size())});
    origin += sample.cast<double>();
  }
  return origin / static_cast<double>(count);
}

void add_samples(const data::Dataset& data, const VectorXd& origin, Index classes, std::int64_t first,
                 std::int64_t last, std::span<double> part) {
  const Index d = origin.size();
  auto products = Moments::products(part, d, classes);
  auto cross = Moments::cross(part, d, classes);
  RowMatrix block(kSampleBlock, d);
  Eigen::VectorXf sample(d);
  for (; first < last; first += kSampleBlock) {
    const Index count = std::min(kSampleBlock, last - first);
    for (Index i = 0; i < count; ++i) {
      data.get(first + i, {sample.data(), static_cast<std::size_t>(d)});
      block.row(i) = sample.cast<double>() - origin;
      const Index label = data.label(first + i);
      cross.col(label) += block.row(i).transpose();
      Moments::label(part, d, classes)[label] += 1;
    }
    const auto rows = block.topRows(count);
    Moments::input(part, d, classes) += rows.colwise().sum().transpose();
    products.selfadjointView<Eigen::Lower>().rankUpdate(rows.transpose());
  }
}

class LeastSquares final : public Solver {
 public:
  explicit LeastSquares(Settings& settings) {
    settings.read(
        "ridge", ridge_, at_least(0),
        "times the sum of the squares of the weights (not the biases) is added to the sum of squared "
        "errors: scikit-learn's alpha");
  }

  [[nodiscard]] std::string_view kind() const override { return "least_squares"; }
  [[nodiscard]] std::string_view default_objective() const override { return "mean_squared_error"; }
  [[nodiscard]] std::string why_not(const nn::ModelSpec& spec) const override { return why_not_linear(spec); }
  [[nodiscard]] std::string why_not(const nn::Objective& objective, double l2) const override {
    if (objective.kind() == "mean_squared_error" && l2 == 0) return "";
    return "least_squares minimises mean_squared_error, and its penalty is `ridge`";
  }
  [[nodiscard]] Capabilities capabilities() const override {
    auto result = Solver::capabilities();
    result.refuses[Feature::kFreeze] = {"least_squares solves for all weights"};
    result.refuses[Feature::kTeachers] = {"least_squares minimises an objective of labels alone", true};
    return result;
  }
  [[nodiscard]] std::size_t memory(const nn::ModelSpec& spec, const nn::Objective&, int shards, int ranks,
                                   int threads) const override {
    const auto inputs = static_cast<std::size_t>(spec.input.elements()) + 1;
    return sums_memory(inputs * (inputs + static_cast<std::size_t>(spec.classes)), shards, ranks, threads);
  }
  TrainResult solve(const comm::Comm& comm, const TrainerOptions& options, const TrainTask& task,
                    StateDict& state) const override;

 private:
  double ridge_ = 0;
};

TrainResult LeastSquares::solve(const comm::Comm& comm, const TrainerOptions& options, const TrainTask& task,
                                StateDict& state) const {
  const auto start = Clock::now();
  const auto model = linear_model(task.spec);
  const bool centred = !model.bias.empty();
  const Index d = model.inputs;
  const Index k = model.outputs;
  const auto origin = origin_of(*task.train, centred);
  Moments sums(d, k);
  SampleSums(comm, options.shards, options.threads)
      .sum(task.train->size(), sums.values,
           [&](std::int64_t first, std::int64_t last, std::span<double> part) {
             add_samples(*task.train, origin, k, first, last, part);
           });

  auto products = Moments::products(sums.values, d, k);
  auto cross = Moments::cross(sums.values, d, k);
  const auto n = static_cast<double>(task.train->size());
  const VectorXd mean = Moments::input(sums.values, d, k) / n;
  const VectorXd share = Moments::label(sums.values, d, k) / n;
  if (centred) {
    products.selfadjointView<Eigen::Lower>().rankUpdate(mean, -n);
    cross -= n * mean * share.transpose();
  }
  products.diagonal().array() += ridge_;
  const std::span<double> both(sums.values);
  const auto dependent =
      solve_symmetric(both.first(static_cast<std::size_t>(d * d)),
                      both.subspan(static_cast<std::size_t>(d * d), static_cast<std::size_t>(d * k)));
  if (!dependent.empty()) {
    throw Error(fmt::format("the columns of the {} samples depend on each other, so that many solutions are "
                            "equally good",
                            task.train->size()))
        .at(options.stage)
        .got(fmt::format("rank {} of {}: {}", d - static_cast<Index>(dependent.size()), d,
                         describe_dependences(dependent, centred)))
        .hint("give the optimizer a ridge above 0, or the data without these columns")
        .collective();
  }
  std::vector<double> weights(static_cast<std::size_t>(k * (d + 1)));
  Eigen::Map<RowMatrix> rows(weights.data(), k, d + 1);
  rows.leftCols(d) = cross.transpose();
  if (centred) rows.col(d) = share - cross.transpose() * (mean + origin);

  TrainResult result;
  finish_linear(comm, options, task, weights, 1, state, result);
  result.seconds.compute = seconds_since(start);
  return result;
}

}  // namespace

SolverPtr make_least_squares(Settings& settings) { return std::make_shared<LeastSquares>(settings); }

}  // namespace impart::train
