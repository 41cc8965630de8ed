// Logistic regression by iteratively reweighted least squares: Newton's method on the mean loss and the
// penalty (Hastie, Tibshirani, Friedman 2009, section 4.4.1; multinomial: Krishnapuram et al. 2005), with
// steps that are halved until they go down.

#include <fmt/format.h>

#include <Eigen/Core>
#include <algorithm>
#include <cmath>
#include <set>

#include "impart/core/clock.hpp"
#include "impart/core/error.hpp"
#include "impart/core/log.hpp"
#include "train/recorder.hpp"
#include "train/solvers/linear_system.hpp"
#include "train/solvers/sample_sums.hpp"
#include "train/solvers/solvers.hpp"

namespace impart::train {

namespace {

using Eigen::Index;
using Eigen::MatrixXd;
using Eigen::VectorXd;
using RowMatrix = Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

/// One model for all classes; otherwise one a class.
bool is_multinomial(const nn::Objective& objective) { return objective.kind() == "cross_entropy"; }

/// The objective at some weights: value, slope, and curvature. Multinomial: one matrix over all weights;
/// otherwise one for each class.
class Problem {
 public:
  Problem(const comm::Comm& comm, const TrainerOptions& options, const TrainTask& task)
      : options_(options),
        data_(*task.train),
        model_(linear_model(task.spec)),
        d_(model_.inputs + (model_.bias.empty() ? 0 : 1)),
        k_(model_.outputs),
        multinomial_(is_multinomial(task.objective)),
        sums_(comm, options.shards, options.threads),
        values_(static_cast<std::size_t>(1 + size() + matrices() * order() * order())) {}

  [[nodiscard]] Index size() const { return k_ * d_; }
  /// Curvature matrices, and the order of one.
  [[nodiscard]] Index matrices() const { return multinomial_ ? 1 : k_; }
  [[nodiscard]] Index order() const { return multinomial_ ? size() : d_; }
  [[nodiscard]] Index width() const { return d_; }

  /// All at `weights` (outputs, width).
  void evaluate(const VectorXd& weights) {
    sums_.sum(data_.size(), values_, [&](std::int64_t first, std::int64_t last, std::span<double> part) {
      add_samples(weights, first, last, part);
    });
    // Losses are means over the samples, and those of the second kind over the classes.
    const double scale = 1 / (static_cast<double>(data_.size()) * static_cast<double>(multinomial_ ? 1 : k_));
    for (double& value : values_) value *= scale;
    double squares = 0;
    auto slope = this->slope();
    for (Index i = 0; i < size(); ++i) {
      const double penalty = penalty_of(i);
      squares += penalty * weights[i] * weights[i];
      slope[i] += penalty * weights[i];
    }
    values_[0] += squares / 2;
  }

  [[nodiscard]] double value() const { return values_[0]; }
  [[nodiscard]] Eigen::Map<VectorXd> slope() { return {values_.data() + 1, size()}; }

  /// Newton's step; or what makes the curvature singular. Uses up the curvature.
  std::vector<Dependence> step(VectorXd& direction) {
    direction = -slope();
    for (Index m = 0; m < matrices(); ++m) {
      auto curvature = matrix(values_, m);
      for (Index i = 0; i < order(); ++i) curvature(i, i) += penalty_of(m * order() + i);
      if (multinomial_) pin_classes(curvature);
      const auto n = static_cast<std::size_t>(order());
      auto dependent = solve_symmetric({curvature.data(), n * n}, {direction.data() + m * order(), n});
      for (auto& dependence : dependent) {
        // Of whatever class: the columns are those of the samples.
        dependence.row %= static_cast<std::size_t>(d_);
        std::set<std::size_t> columns;
        for (const auto row : dependence.on) columns.insert(row % static_cast<std::size_t>(d_));
        columns.erase(dependence.row);
        dependence.on.assign(columns.begin(), columns.end());
      }
      if (!dependent.empty()) return dependent;
    }
    return {};
  }

  /// (outputs, inputs + 1), as finish_linear takes them.
  [[nodiscard]] std::vector<double> with_bias(const VectorXd& weights) const {
    std::vector<double> result(static_cast<std::size_t>(k_ * (model_.inputs + 1)));
    Eigen::Map<RowMatrix>(result.data(), k_, model_.inputs + 1).leftCols(d_) =
        Eigen::Map<const RowMatrix>(weights.data(), k_, d_);
    return result;
  }

 private:
  [[nodiscard]] Eigen::Map<MatrixXd> matrix(std::span<double> values, Index m) const {
    return {values.data() + 1 + size() + m * order() * order(), order(), order()};
  }
  [[nodiscard]] double penalty_of(Index weight) const {
    return weight % d_ < model_.inputs ? options_.l2 : 0;
  }

  /// The same vector added to the weights of all classes changes nothing but the penalty: where there is
  /// none, the slope has no part in that direction, and any curvature along it will do.
  void pin_classes(Eigen::Map<MatrixXd>& curvature) const {
    const double some = curvature.diagonal().mean() / static_cast<double>(k_);
    for (Index i = 0; i < d_; ++i) {
      if (penalty_of(i) > 0) continue;
      for (Index a = 0; a < k_; ++a) {
        for (Index b = 0; b <= a; ++b) curvature(a * d_ + i, b * d_ + i) += some;
      }
    }
  }

  void add_samples(const VectorXd& weights, std::int64_t first, std::int64_t last,
                   std::span<double> part) const {
    const Eigen::Map<const RowMatrix> w(weights.data(), k_, d_);
    Eigen::Map<RowMatrix> slope(part.data() + 1, k_, d_);
    RowMatrix block(kSampleBlock, d_);
    Eigen::VectorXf sample(model_.inputs);
    for (; first < last; first += kSampleBlock) {
      const Index count = std::min(kSampleBlock, last - first);
      auto x = block.topRows(count);
      for (Index i = 0; i < count; ++i) {
        data_.get(first + i, {sample.data(), static_cast<std::size_t>(model_.inputs)});
        x.row(i).head(model_.inputs) = sample.cast<double>();
        if (d_ > model_.inputs) x(i, d_ - 1) = 1;
      }
      MatrixXd p = x * w.transpose();
      for (Index i = 0; i < count; ++i) part[0] += to_probabilities(p, i, data_.label(first + i));
      add_curvature(x, p, part);
      for (Index i = 0; i < count; ++i) p(i, data_.label(first + i)) -= 1;
      slope += p.transpose() * x;
    }
  }

  /// Row `i` of outputs becomes probabilities; returns its loss.
  [[nodiscard]] double to_probabilities(MatrixXd& z, Index i, Index label) const {
    double loss = 0;
    if (multinomial_) {
      const double top = z.row(i).maxCoeff();
      const double wanted = z(i, label);
      double sum = 0;
      for (Index c = 0; c < k_; ++c) sum += z(i, c) = std::exp(z(i, c) - top);
      for (Index c = 0; c < k_; ++c) z(i, c) /= sum;
      return std::log(sum) + top - wanted;
    }
    for (Index c = 0; c < k_; ++c) {
      const double e = std::exp(-std::abs(z(i, c)));
      loss += std::max(z(i, c), 0.0) - (c == label ? z(i, c) : 0) + std::log1p(e);
      z(i, c) = z(i, c) >= 0 ? 1 / (1 + e) : e / (1 + e);
    }
    return loss;
  }

  /// Sums of w x x', in the lower triangle: w = p_a (1 - p_a) for a class with itself, -p_a p_b for two.
  template <class Rows>
  void add_curvature(const Rows& x, const MatrixXd& p, std::span<double> part) const {
    RowMatrix weighted(x.rows(), d_);
    for (Index a = 0; a < k_; ++a) {
      for (Index b = multinomial_ ? 0 : a; b <= a; ++b) {
        const VectorXd w = a == b ? VectorXd(p.col(a).array() * (1 - p.col(a).array()))
                                  : VectorXd(-p.col(a).array() * p.col(b).array());
        weighted = w.asDiagonal() * x;
        if (multinomial_) {
          matrix(part, 0).block(a * d_, b * d_, d_, d_).noalias() += x.transpose() * weighted;
        } else {
          matrix(part, a).noalias() += x.transpose() * weighted;
        }
      }
    }
  }

  const TrainerOptions& options_;
  const data::Dataset& data_;
  LinearModel model_;
  Index d_, k_;
  bool multinomial_;
  SampleSums sums_;
  std::vector<double> values_;  // value; slope (k, d); curvature
};

[[noreturn]] void fail(const TrainerOptions& options, const std::vector<Dependence>& dependent, int iteration,
                       bool with_bias) {
  if (iteration > 0) {
    throw Error("the classes can be told apart without an error, so that the weights grow for ever")
        .at(options.stage)
        .hint("give the optimizer an l2 above 0")
        .collective();
  }
  throw Error("the columns of the samples depend on each other, so that many solutions are equally good")
      .at(options.stage)
      .got(describe_dependences(dependent, with_bias))
      .hint("give the optimizer an l2 above 0, or the data without these columns")
      .collective();
}

class Newton final : public Solver {
 public:
  explicit Newton(Settings& settings) : l2_(read_penalty(settings)), ending_(settings, 1e-8) {}

  [[nodiscard]] std::string_view kind() const override { return "newton"; }
  [[nodiscard]] std::string_view default_objective() const override { return "cross_entropy"; }
  [[nodiscard]] double l2() const override { return l2_; }
  [[nodiscard]] std::string why_not(const nn::ModelSpec& spec) const override { return why_not_linear(spec); }
  [[nodiscard]] std::string why_not(const nn::Objective& objective, double) const override {
    const auto* options = objective.as_cross_entropy();
    const bool plain = options == nullptr ? objective.kind() == "binary_cross_entropy"
                                          : options->label_smoothing == 0 && options->class_weights.empty();
    if (plain) return "";
    return "newton minimises cross_entropy or binary_cross_entropy, without smoothing and class_weights "
           "(lbfgs "
           "takes any smooth one)";
  }
  [[nodiscard]] Capabilities capabilities() const override {
    auto result = Solver::capabilities();
    result.refuses[Feature::kFreeze] = {"newton solves for all weights"};
    result.refuses[Feature::kTeachers] = {
        "newton minimises an objective of labels alone (lbfgs takes any smooth one)", true};
    return result;
  }
  [[nodiscard]] std::size_t memory(const nn::ModelSpec& spec, const nn::Objective& objective, int shards,
                                   int ranks, int threads) const override {
    const auto inputs = static_cast<std::size_t>(spec.input.elements()) + 1;
    const auto outputs = static_cast<std::size_t>(spec.classes);
    const auto matrices = is_multinomial(objective) ? outputs * outputs : outputs;
    return sums_memory(inputs * inputs * matrices, shards, ranks, threads);
  }
  TrainResult solve(const comm::Comm& comm, const TrainerOptions& options, const TrainTask& task,
                    StateDict& state) const override;

 private:
  double l2_;
  Ending ending_;
};

TrainResult Newton::solve(const comm::Comm& comm, const TrainerOptions& options, const TrainTask& task,
                          StateDict& state) const {
  const auto start = Clock::now();
  Problem problem(comm, options, task);
  TrainResult result;
  Recorder record(comm, options, task, result);
  // The minimum does not depend on where one starts, and from zero no step overshoots far.
  VectorXd weights = VectorXd::Zero(problem.size());
  VectorXd direction;
  problem.evaluate(weights);
  int iteration = 0;
  bool converged = false;
  while (true) {
    converged = problem.slope().cwiseAbs().maxCoeff() <= ending_.tolerance;
    if (converged || iteration == ending_.max_iterations) break;
    const double value = problem.value();
    record.event(iteration, iteration, "train.loss", value);
    const VectorXd slope = problem.slope();
    const auto dependent = problem.step(direction);
    if (!dependent.empty()) fail(options, dependent, iteration, problem.width() > task.spec.input.elements());
    double length = 1;
    const auto goes_down = [&] {
      problem.evaluate(weights + length * direction);
      return problem.value() <= value + 1e-4 * length * slope.dot(direction);
    };
    while (!goes_down() && length > 1e-9) length /= 2;
    if (length <= 1e-9) {  // rounding is all that is left
      converged = true;
      break;
    }
    weights += length * direction;
    ++iteration;

    double stop = task.stop != nullptr && task.stop->load() ? 1 : 0;
    comm.max_in_place(std::span(&stop, 1), "newton stop");
    if (stop > 0) {
      result.end = TrainEnd::kStopped;
      return result;
    }
  }
  if (!converged && comm.is_root()) {
    log::warn(fmt::format("{}: {} iterations were not enough: the largest slope is {:.1e}", options.stage,
                          iteration, problem.slope().cwiseAbs().maxCoeff()));
  }
  finish_linear(comm, options, task, problem.with_bias(weights), iteration, state, result);
  result.seconds.compute = seconds_since(start);
  return result;
}

}  // namespace

SolverPtr make_newton(Settings& settings) { return std::make_shared<Newton>(settings); }

}  // namespace impart::train
