// L-BFGS: Nocedal and Wright, "Numerical optimization", 2nd edition 2006, algorithms 7.4 and 7.5, with the
// line search of algorithms 3.5 and 3.6.

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <deque>
#include <optional>
#include <vector>

#include "impart/core/clock.hpp"
#include "impart/core/error.hpp"
#include "impart/core/log.hpp"
#include "impart/data/batch_loader.hpp"
#include "impart/nn/network.hpp"
#include "impart/train/gradient_engine.hpp"
#include "impart/train/recalibration.hpp"
#include "impart/train/saved_run.hpp"
#include "train/recorder.hpp"
#include "train/solvers/solvers.hpp"
#include "train/vector_sums.hpp"

namespace impart::train {

namespace {

constexpr double kDecrease = 1e-4;  // c1 of the Wolfe conditions
constexpr double kCurvature = 0.9;  // c2
constexpr double kRounding = 1e-7;  // of the loss, which is computed in float32
constexpr int kTrials = 25;         // of one line search
constexpr int kSaveInterval = 10;   // iterations
constexpr const char* kSlopeSlot = "gradient";

/// A place along a search direction: loss and slope there.
struct Trial {
  double at = 0;
  double loss = 0;
  double slope = 0;
};

/// Where the cubic through two trials is lowest, kept away from both (N&W eq. 3.59).
double lowest_between(const Trial& a, const Trial& b) {
  const double d1 = a.slope + b.slope - 3 * (a.loss - b.loss) / (a.at - b.at);
  const double square = d1 * d1 - a.slope * b.slope;
  const double d2 = std::copysign(std::sqrt(std::max(square, 0.0)), b.at - a.at);
  const double lowest = b.at - (b.at - a.at) * (b.slope + d2 - d1) / (b.slope - a.slope + 2 * d2);
  const double near = a.at + 0.1 * (b.at - a.at);
  const double far = a.at + 0.9 * (b.at - a.at);
  if (!std::isfinite(lowest)) return (a.at + b.at) / 2;
  return std::clamp(lowest, std::min(near, far), std::max(near, far));
}

/// One call of `solve`.
class Run {
 public:
  /// `memory`: pairs of steps and changes of the gradient that are kept.
  Run(const comm::Comm& comm, const TrainerOptions& options, const TrainTask& task, const Ending& ending,
      int memory, StateDict& state)
      : ending_(ending),
        memory_(memory),
        comm_(comm),
        options_(options),
        task_(task),
        state_(state),
        engine_options_(options_of_engine(options)),
        engine_(comm, task.spec, task.objective, engine_options_),
        parameters_(state.layout_ptr(), engine_options_.trainable, &engine_.team()),
        penalty_(make_l2(options.l2)),
        saved_(comm, {.data = comm.size()}, task.spec, task.state_directory, task.state_key),
        record_(comm, options, task, result_),
        point_(state.clone()),
        slope_(state.layout_ptr()),
        trial_slope_(state.layout_ptr()),
        direction_(state.layout_ptr()) {}

  TrainResult execute() {
    const auto start = Clock::now();
    comm::agree(comm_, "continuing from " + task_.state_directory.string(), [&] { restore(); });
    if (iteration_ == 0) {
      loss_ = evaluate(state_, slope_);
      if (!std::isfinite(loss_)) {
        throw Error(fmt::format("the loss is {} before the first step", loss_))
            .at(options_.stage)
            .hint("check the data, and the model that it starts from")
            .collective();
      }
      record_.event(0, 0, "train.loss", loss_);
    }
    while (!converged() && iteration_ < ending_.max_iterations && iterate()) {
      record_.event(iteration_, iteration_, "train.loss", loss_);
      if (stop_) {
        save();
        result_.end = TrainEnd::kStopped;
        break;
      }
      if (iteration_ % kSaveInterval == 0) save();
    }
    if (result_.end != TrainEnd::kStopped) finish();
    saved_.finish();
    result_.epochs = result_.steps = result_.kept_step = iteration_;
    result_.samples = evaluations_ * task_.train->size();
    result_.overlap = engine_.overlap();
    const auto seconds = engine_.seconds();
    result_.seconds.communication = seconds.communication;
    result_.seconds.forward = seconds.forward;
    result_.seconds.backward = seconds.backward;
    const double whole = seconds_since(start);
    result_.seconds.compute = whole - seconds.communication - result_.seconds.checkpoint;
    return std::move(result_);
  }

 private:
  struct Pair {
    StateDict step;    // s, N&W eq. 7.18
    StateDict change;  // y, of the slope
    double inverse_curvature = 0;
  };

  static EngineOptions options_of_engine(const TrainerOptions& options) {
    auto engine = static_cast<const EngineOptions&>(options);
    engine.trainable = [&options](const std::string& name) { return !group_of(options.groups, name).frozen; };
    engine.drift_check = 0;  // its steps count from 0 in each evaluation
    return engine;
  }

  [[nodiscard]] bool converged() const {
    float largest = 0;
    for (const float g : slope_.parameters()) largest = std::max(largest, std::abs(g));
    return static_cast<double>(largest) <= ending_.tolerance;
  }

  /// The mean loss of all samples and its slope, batch by batch in the order of the data.
  double evaluate(const StateDict& state, StateDict& slope) {
    data::BatchLoader loader(task_.train, {options_.batch_size,
                                           options_.shards,
                                           engine_.range(),
                                           options_.seed,
                                           data::make_sampler("sequential"),
                                           {}});
    std::vector<double> sums(slope.parameters().size());
    double loss = 0;
    double weight = 0;
    const auto batches = data::steps_per_epoch(task_.train->size(), options_.batch_size);
    for (std::int64_t i = 0; i < batches; ++i) {
      const bool want_stop = task_.stop != nullptr && task_.stop->load();
      auto outcome = engine_.compute(state, loader.next(), want_stop);
      outcome.loss += penalty_->apply({state, engine_.gradient(), iteration_, parameters_, {}});
      const auto gradient = engine_.gradient().parameters();
      for (std::size_t k = 0; k < sums.size(); ++k)
        sums[k] += outcome.weight * static_cast<double>(gradient[k]);
      loss += outcome.weight * outcome.loss;
      weight += outcome.weight;
      stop_ |= outcome.stop;
    }
    const auto to = slope.parameters();
    for (std::size_t k = 0; k < sums.size(); ++k) to[k] = static_cast<float>(sums[k] / weight);
    ++evaluations_;
    return loss / weight;
  }

  /// One step. False when no step goes down any more.
  bool iterate() {
    choose_direction();
    double slope = dot(slope_.parameters(), direction_.parameters());
    if (!(slope < 0)) {  // rounding has spoilt the curvature: start again along the slope
      pairs_.clear();
      choose_direction();
      slope = dot(slope_.parameters(), direction_.parameters());
    }
    // Until it has seen a curvature, the direction's length means nothing.
    const double first = pairs_.empty() ? std::min(1.0, 1 / std::sqrt(-slope)) : 1.0;
    const auto found = search({0, loss_, slope}, first);
    if (!found) return false;
    Pair pair{StateDict(state_.layout_ptr()), StateDict(state_.layout_ptr())};
    difference(point_, state_, pair.step);
    difference(trial_slope_, slope_, pair.change);
    const double curvature = dot(pair.step.parameters(), pair.change.parameters());
    if (curvature > 0) {
      pair.inverse_curvature = 1 / curvature;
      pairs_.push_back(std::move(pair));
      if (pairs_.size() > static_cast<std::size_t>(memory_)) pairs_.pop_front();
    }
    state_.copy_from(point_);
    slope_.copy_from(trial_slope_);
    loss_ = found->loss;
    ++iteration_;
    return true;
  }

  /// Algorithm 7.4: direction_ = -H slope_.
  void choose_direction() {
    direction_.copy_from(slope_);
    const auto d = direction_.parameters();
    std::vector<double> shares(pairs_.size());
    for (std::size_t i = pairs_.size(); i-- > 0;) {
      shares[i] = pairs_[i].inverse_curvature * dot(pairs_[i].step.parameters(), d);
      add(d, -shares[i], pairs_[i].change.parameters());
    }
    double scale = -1;
    if (!pairs_.empty()) {  // eq. 7.20
      const auto& last = pairs_.back();
      scale = -1 / (last.inverse_curvature * square_sum(last.change.parameters()));
    }
    for (float& value : d) value *= static_cast<float>(scale);
    for (std::size_t i = 0; i < pairs_.size(); ++i) {
      const double share = pairs_[i].inverse_curvature * dot(pairs_[i].change.parameters(), d);
      add(d, -shares[i] - share, pairs_[i].step.parameters());
    }
  }

  /// Loss and slope at `at` along the direction; leaves the point in point_, its slope in trial_slope_.
  Trial try_at(double at) {
    point_.copy_from(state_);
    add(point_.parameters(), at, direction_.parameters());
    const double loss = evaluate(point_, trial_slope_);
    return {at, loss, dot(trial_slope_.parameters(), direction_.parameters())};
  }

  [[nodiscard]] static bool too_high(const Trial& trial, const Trial& start) {
    const double limit = start.loss + kDecrease * trial.at * start.slope + kRounding * std::abs(start.loss);
    return !(trial.loss <= limit);  // true for what is not a number
  }
  [[nodiscard]] static bool flat(const Trial& trial, const Trial& start) {
    return std::abs(trial.slope) <= -kCurvature * start.slope;
  }

  /// Algorithm 3.5: a step that meets the strong Wolfe conditions, the one that was tried last.
  std::optional<Trial> search(const Trial& start, double at) {
    Trial before = start;
    for (int i = 0; i < kTrials; ++i) {
      const auto trial = try_at(at);
      if (too_high(trial, start) || (i > 0 && trial.loss >= before.loss)) return zoom(before, trial, start);
      if (flat(trial, start)) return trial;
      if (trial.slope >= 0) return zoom(trial, before, start);
      before = trial;
      at *= 2;
    }
    return before;
  }

  /// Algorithm 3.6: `low` is the lowest that decreases enough, and the step lies between the two.
  std::optional<Trial> zoom(Trial low, Trial high, const Trial& start) {
    for (int i = 0; i < kTrials; ++i) {
      const auto trial =
          try_at(std::isfinite(high.loss) ? lowest_between(low, high) : (low.at + high.at) / 2);
      if (too_high(trial, start) || trial.loss >= low.loss) {
        high = trial;
      } else {
        if (flat(trial, start)) return trial;
        if (trial.slope * (high.at - low.at) >= 0) high = low;
        low = trial;
      }
    }
    // Rounding hides what is still to be gained.
    if (low.at > 0 && low.loss < start.loss) return try_at(low.at);
    return std::nullopt;
  }

  void finish() {
    if (!converged() && comm_.is_root()) {
      log::warn(fmt::format("{}: after {} iterations there is still a slope above {:g}{}", options_.stage,
                            iteration_, ending_.tolerance,
                            iteration_ < ending_.max_iterations
                                ? ", but no step goes down by more than float32 can tell"
                                : " (see max_iterations)"));
    }
    recalibrate_batch_norm(comm_, task_.spec, task_.objective, engine_options_, task_.train, state_);
    record_.measure(iteration_, iteration_, state_);
  }

  static void add(std::span<float> to, double factor, std::span<const float> values) {
    const auto f = static_cast<float>(factor);
    for (std::size_t i = 0; i < to.size(); ++i) to[i] += f * values[i];
  }
  static void difference(const StateDict& a, const StateDict& b, StateDict& result) {
    const auto to = result.parameters();
    for (std::size_t i = 0; i < to.size(); ++i) to[i] = a.parameters()[i] - b.parameters()[i];
  }

  void save() {
    result_.seconds.checkpoint += saved_.save([&] {
      auto checkpoint = saved_.snapshot(state_.clone());
      checkpoint.metrics = result_.history;
      checkpoint.progress = io::ProgressRecord{
          options_.stage, iteration_, iteration_, evaluations_ * task_.train->size(), options_.seed, {}};
      checkpoint.progress->extra = {{"loss", loss_}, {"evaluations", static_cast<double>(evaluations_)}};
      auto& record = checkpoint.optimizer.emplace(io::OptimizerRecord{"lbfgs", {}});
      record.slots.emplace_back(kSlopeSlot, slope_.clone());
      for (std::size_t i = 0; i < pairs_.size(); ++i) {
        record.slots.emplace_back(fmt::format("step_{}", i), pairs_[i].step.clone());
        record.slots.emplace_back(fmt::format("change_{}", i), pairs_[i].change.clone());
      }
      return checkpoint;
    });
  }

  void restore() {
    auto found = saved_.newest();
    if (!found) return;
    auto& [path, checkpoint] = *found;
    auto& slots = checkpoint.optimizer.value().slots;
    state_.copy_from(checkpoint.state);
    slope_.copy_from(slots.at(0).second);
    for (std::size_t i = 1; i + 1 < slots.size(); i += 2) {
      Pair pair{StateDict(state_.layout_ptr()), StateDict(state_.layout_ptr())};
      pair.step.copy_from(slots[i].second);
      pair.change.copy_from(slots[i + 1].second);
      pair.inverse_curvature = 1 / dot(pair.step.parameters(), pair.change.parameters());
      pairs_.push_back(std::move(pair));
    }
    iteration_ = checkpoint.progress->step;
    loss_ = checkpoint.progress->extra.at("loss");
    evaluations_ = static_cast<std::int64_t>(checkpoint.progress->extra.at("evaluations"));
    result_.history = checkpoint.metrics;
    for (const auto& [name, points] : result_.history) result_.metrics[name] = points.back().value;
    log::info(fmt::format("{}: continuing after iteration {} ({})", options_.stage, iteration_,
                          path.filename().string()));
  }

  const Ending& ending_;
  int memory_;
  const comm::Comm& comm_;
  const TrainerOptions& options_;
  const TrainTask& task_;
  StateDict& state_;
  EngineOptions engine_options_;
  GradientEngine engine_;
  TrainedParameters parameters_;
  GradientTransformPtr penalty_;
  SavedRun saved_;
  TrainResult result_;
  Recorder record_;

  StateDict point_;  // that is tried
  StateDict slope_;  // of the loss at state_
  StateDict trial_slope_;
  StateDict direction_;
  std::deque<Pair> pairs_;  // the oldest first
  double loss_ = 0;
  std::int64_t iteration_ = 0;
  std::int64_t evaluations_ = 0;
  bool stop_ = false;  // some rank has asked for it
};

class Lbfgs final : public Solver {
 public:
  explicit Lbfgs(Settings& settings)
      : memory_(read_memory(settings)),
        l2_(read_penalty(settings)),
        ending_(settings, 1e-5) {}  // no more can be told of slopes in float32

  [[nodiscard]] std::string_view kind() const override { return "lbfgs"; }
  [[nodiscard]] double l2() const override { return l2_; }
  [[nodiscard]] std::string why_not(const nn::ModelSpec& spec) const override {
    for (const auto& layer : spec.layers) {
      if (layer.kind == "dropout")
        return fmt::format("layer '{}' is a dropout, which changes the function from step to step",
                           layer.name);
    }
    return "";
  }
  [[nodiscard]] std::string why_not(const nn::Objective& objective, double) const override {
    if (objective.is_smooth()) return "";
    return fmt::format(
        "lbfgs needs one whose slope changes without a jump (such as huber, or multiclass_hinge with power = "
        "2), got {}",
        objective.kind());
  }
  [[nodiscard]] std::size_t memory(const nn::ModelSpec& spec, const nn::Objective&, int, int,
                                   int) const override {
    const auto parameters = nn::state_layout(spec)->arena_size() * sizeof(float);
    return parameters * (2 * static_cast<std::size_t>(memory_) + 6);
  }
  TrainResult solve(const comm::Comm& comm, const TrainerOptions& options, const TrainTask& task,
                    StateDict& state) const override {
    return Run(comm, options, task, ending_, memory_, state).execute();
  }

 private:
  static int read_memory(Settings& settings) {
    int memory = 10;
    settings.read("memory", memory, between(1, 1000),
                  "pairs of steps and changes of the gradient that it keeps");
    return memory;
  }

  int memory_;
  double l2_;
  Ending ending_;
};

}  // namespace

SolverPtr make_lbfgs(Settings& settings) { return std::make_shared<Lbfgs>(settings); }

}  // namespace impart::train
