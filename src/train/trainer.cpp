#include "impart/train/trainer.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <memory>
#include <utility>
#include <vector>

#include "impart/comm/watch.hpp"
#include "impart/core/clock.hpp"
#include "impart/core/error.hpp"
#include "impart/core/log.hpp"
#include "impart/core/trace.hpp"
#include "impart/data/batch_loader.hpp"
#include "impart/parallel/tensor_model.hpp"
#include "impart/train/gradient_engine.hpp"
#include "impart/train/local_workers.hpp"
#include "impart/train/recalibration.hpp"
#include "impart/train/saved_run.hpp"
#include "train/recorder.hpp"

namespace impart::train {

namespace {

constexpr const char* kBestName = "best.h5";     // beside the states
constexpr const char* kAverageSlot = "average";  // in a state, beside the optimizer's

/// One call of `train`: what its steps and epochs share.
class Run {
 public:
  /// What stands in for the task's model. `task` and `state` are of this rank's part.
  struct Split {
    const parallel::TensorModel& model;
    const nn::ModelSpec& whole;
    const nn::ModelSpec& trained;  ///< and by which loss: as TensorModel::Training
    const nn::Objective& objective;
  };

  /// `split`: null when every rank has the whole model.
  Run(const comm::Mesh& mesh, const Split* split, const TrainerOptions& options, const TrainTask& task,
      StateDict& state)
      : comm_(mesh.all()),
        data_(mesh.data()),
        split_(split == nullptr ? nullptr : &split->model),
        options_(options),
        task_(task),
        state_(state),
        optimizer_(options.optimizer, state.layout_ptr(), options.groups, make_engine(split), sum_parts()),
        transforms_(all_transforms(options), state.layout_ptr()),
        average_(options.average, options.epochs),
        saved_(comm_, mesh.shape(), split == nullptr ? task.spec : split->whole, task.state_directory,
               task.state_key),
        steps_per_epoch_(data::steps_per_epoch(task.train->size(), options.batch_size)),
        updates_per_epoch_((steps_per_epoch_ + options.accumulate - 1) / options.accumulate),
        total_steps_(steps_per_epoch_ * options.epochs),
        progress_(comm_.is_root() ? options.progress : ProgressMode::kNone, options.stage, "samples",
                  task.train->size() * options.epochs),
        lower_is_better_(options.monitor == "loss") {}

  TrainResult execute() {
    comm::agree(comm_, "continuing from " + task_.state_directory.string(), [&] {
      transforms_.start(state_);
      restore();
    });
    if (step_ < total_steps_ && !stopped_early_) run_steps();
    if (result_.end != TrainEnd::kStopped) choose_weights();
    saved_.finish();
    result_.epochs = step_ / steps_per_epoch_;
    result_.steps = step_;
    result_.kept_step = best_.empty() ? step_ : best_step_;
    result_.samples = samples_;
    if (engine_) result_.overlap = engine_->overlap();
    const auto seconds = engine_seconds();
    result_.seconds.communication = seconds.communication;
    result_.seconds.forward = seconds.forward;
    result_.seconds.backward = seconds.backward;
    return std::move(result_);
  }

 private:
  void run_steps() {
    data::BatchLoader loader(task_.train,
                             {options_.batch_size, options_.shards,
                              comm::shards_of_rank(data_.rank(), data_.size(), options_.shards),
                              options_.seed, options_.sampler, options_.augment},
                             step_);
    while (step_ < total_steps_) {
      const auto start = Clock::now();
      const auto& batch = next_batch(loader);
      result_.seconds.input += seconds_since(start);

      bool want_stop = task_.stop != nullptr && task_.stop->load();
      if (split_ != nullptr) want_stop = split_->any(want_stop);  // the engine asks along the data axis
      const auto outcome = step(batch, want_stop);
      const bool epoch_ends = step_ % steps_per_epoch_ == 0;
      if (epoch_ends) end_epoch();
      if (stopped_early_) {
        result_.end = TrainEnd::kEarly;
        return;
      }
      if (outcome.stop && updated_ && step_ < total_steps_) {
        save();
        result_.end = TrainEnd::kStopped;
        return;
      }
    }
  }

  static const data::Batch& next_batch(data::BatchLoader& loader) {
    const trace::Span span("input");
    return loader.next();
  }

  StepResult step(const data::Batch& batch, bool want_stop) {
    comm::enter_step(step_);
    const trace::Span span("step", step_);
    const auto start = Clock::now();
    const double exchanged = engine_seconds().communication;
    const auto in_epoch = step_ % steps_per_epoch_;
    const auto together = std::max(options_.accumulate, options_.local_steps);
    updated_ = (in_epoch + 1) % together == 0 || in_epoch + 1 == steps_per_epoch_;
    const auto outcome = workers_ ? local_step(batch, want_stop) : global_step(batch, want_stop);

    ++step_;
    samples_ += batch.global_size;
    epoch_loss_ += outcome.loss * outcome.weight;
    epoch_weight_ += outcome.weight;
    result_.seconds.compute += seconds_since(start) - (engine_seconds().communication - exchanged);
    if (epoch_weight_ > 0) {
      progress_.update(samples_, fmt::format("epoch {}/{} loss {:.4f}", (step_ - 1) / steps_per_epoch_ + 1,
                                             options_.epochs, epoch_loss_ / epoch_weight_));
    }
    return outcome;
  }

  StepResult global_step(const data::Batch& batch, bool want_stop) {
    auto outcome = engine_->compute(state_, batch, want_stop);
    if (!std::isfinite(outcome.loss)) fail_not_finite(batch, outcome.loss);

    const auto updating = Clock::now();
    // The mean of several batches' gradients: each counts by what it was divided by.
    if (options_.accumulate > 1)
      accumulate(batch.expected_size > 0 ? static_cast<double>(batch.expected_size) : outcome.weight);
    if (updated_) update(batch, outcome);
    waiting_weight_ = updated_ ? 0 : waiting_weight_ + outcome.weight;
    const auto changes = engine_->gradient().buffers();
    const auto buffers = state_.buffers();
    for (std::size_t i = 0; i < buffers.size(); ++i) buffers[i] += changes[i];
    result_.seconds.update += seconds_since(updating);
    return outcome;
  }

  /// Each shard's own step. What they gave is known after the last one before an average; until then,
  /// nothing.
  StepResult local_step(const data::Batch& batch, bool want_stop) {
    const auto in_epoch = step_ % steps_per_epoch_;
    if (in_epoch % options_.local_steps == 0) workers_->start(state_, optimizer_, transforms_);
    workers_->step(batch, rate_factor(step_), step_, want_stop);
    if (!updated_) return {};
    const auto outcome = workers_->average(state_, optimizer_, transforms_);
    if (!std::isfinite(outcome.loss)) fail_not_finite(batch, outcome.loss);
    const auto averages = (steps_per_epoch_ + options_.local_steps - 1) / options_.local_steps;
    average_.after_update(state_, step_ / steps_per_epoch_ * averages + in_epoch / options_.local_steps);
    return outcome;
  }

  /// What the learning rate is multiplied with in an update.
  [[nodiscard]] double rate_factor(std::int64_t update) const {
    const double own = options_.average->learning_rate(step_ / steps_per_epoch_, options_.epochs);
    if (own > 0) return own / options_.optimizer->learning_rate();
    const auto epochs = options_.schedule_epochs > 0 ? options_.schedule_epochs : options_.epochs;
    return plateau_ * options_.schedule->factor(options_.schedule_start * updates_per_epoch_ + update,
                                                updates_per_epoch_, updates_per_epoch_ * epochs);
  }

  /// Updates the weights, and adds the penalties to what the update's batches gave.
  void update(const data::Batch& batch, StepResult& outcome) {
    const trace::Span span("update");
    const auto in_epoch = step_ % steps_per_epoch_;
    const auto number = step_ / steps_per_epoch_ * updates_per_epoch_ + in_epoch / options_.accumulate;
    auto& gradient = options_.accumulate > 1 ? sum_ : engine_->gradient();
    const double penalty = transforms_.apply(state_, gradient, number, optimizer_.parameters());
    outcome.loss += penalty;
    epoch_loss_ += penalty * waiting_weight_;
    if (!std::isfinite(outcome.loss)) fail_not_finite(batch, outcome.loss);
    optimizer_.update(state_, gradient, rate_factor(number), number);
    average_.after_update(state_, number);
  }

  /// Adds the batch's gradient to `sum_`, which becomes the mean over all samples with the update's last
  /// batch.
  void accumulate(double weight) {
    const bool first = step_ % steps_per_epoch_ % options_.accumulate == 0;
    if (sum_.empty()) sum_ = StateDict(state_.layout_ptr());
    if (first) sum_weight_ = 0;
    sum_weight_ += weight;
    const auto share = static_cast<float>(weight);
    const auto mean = updated_ ? static_cast<float>(1 / sum_weight_) : 1.0F;
    const auto sum = sum_.parameters();
    const auto gradient = engine_->gradient().parameters();
    for (std::size_t i = 0; i < sum.size(); ++i) {
      sum[i] = ((first ? 0 : sum[i]) + share * gradient[i]) * mean;
    }
  }

  /// What is measured, and kept when it is the best.
  [[nodiscard]] const StateDict& measured() const {
    return options_.average->use() == Average::Use::kRunning ? average_.state() : state_;
  }

  /// The weights that the run leaves.
  void choose_weights() {
    if (!best_.empty()) {
      state_.copy_from(best_);
      result_.metrics = best_metrics_;
      return;
    }
    if (average_.state().empty()) return;
    state_.copy_from(average_.state());
    if (options_.average->use() != Average::Use::kFinal) return;
    recalibrate_batch_norm(data_, task_.spec, task_.objective, engine_options(), task_.train, state_);
    measure();
  }

  /// All ranks see the same loss, so all come here; the lowest rank that finds a layer names it.
  [[noreturn]] void fail_not_finite(const data::Batch& batch, double loss) {
    auto layer = workers_ ? workers_->first_not_finite() : engine_->first_not_finite(state_, batch);
    int finder = layer ? comm_.rank() : comm_.size();
    comm_.min_in_place(std::span(&finder, 1), "not finite");
    auto name = layer.value_or("");
    if (finder < comm_.size()) comm_.broadcast(name, finder, "not finite");
    throw Error(fmt::format("the loss is {} at step {}", loss, batch.step))
        .at(options_.stage)
        .expected("a finite loss")
        .got(name.empty() ? "finite outputs of every layer, so the loss itself overflowed"
                          : "the first values that are not finite in layer '" + name + "'")
        .hint("lower the learning rate, or check the data; the last saved state is untouched")
        .collective();
  }

  void end_epoch() {
    // An epoch without a sample, which chance may bring, has no loss.
    record_.event(step_ / steps_per_epoch_, step_, "train.loss",
                  epoch_weight_ > 0 ? epoch_loss_ / epoch_weight_ : 0);
    epoch_loss_ = 0;
    epoch_weight_ = 0;
    average_.after_epoch(state_, step_ / steps_per_epoch_);
    if (task_.validation != nullptr) {
      measure();
      judge(result_.metrics.at("validation." + options_.monitor));
    }
    if (step_ < total_steps_ && !stopped_early_) save();
  }

  /// Records the validation metrics of what is measured, and what they mean for the learning rate.
  void measure() {
    const trace::Span span("evaluate");
    const auto start = Clock::now();
    record_.measure(step_ / steps_per_epoch_, step_, measured());
    find_plateau();
    result_.seconds.compute += seconds_since(start);
  }

  void find_plateau() {
    std::vector<double> values;
    for (const auto& point : result_.history["validation." + options_.monitor]) values.push_back(point.value);
    plateau_ = options_.schedule->measured_factor(values, lower_is_better_);
  }

  /// Remembers the best epoch, and says when to stop.
  void judge(double value) {
    const bool first = epochs_without_gain_ < 0;
    const double gain = lower_is_better_ ? best_value_ - value : value - best_value_;
    if (first || gain > options_.min_delta) {
      best_value_ = value;
      epochs_without_gain_ = 0;
      if (options_.keep == Keep::kBest) {
        best_ = measured().clone();
        best_step_ = step_;
        best_metrics_ = result_.metrics;
        save_best();
      }
    } else {
      ++epochs_without_gain_;
      stopped_early_ = options_.patience > 0 && epochs_without_gain_ >= options_.patience;
    }
  }

  /// A copy for the root, of the whole model's tensors. Collective where they are split.
  [[nodiscard]] StateDict whole(const StateDict& state) const {
    return split_ == nullptr ? state.clone() : split_->gather(state, comm_.is_root());
  }

  [[nodiscard]] io::Checkpoint snapshot(const StateDict& state) const {
    auto checkpoint = saved_.snapshot(whole(state));
    checkpoint.metrics = result_.history;
    checkpoint.progress =
        io::ProgressRecord{options_.stage, step_ / steps_per_epoch_, step_, samples_, options_.seed, {}};
    return checkpoint;
  }

  [[nodiscard]] io::Checkpoint full_snapshot() const {
    auto checkpoint = snapshot(state_);
    checkpoint.optimizer = io::OptimizerRecord{std::string(optimizer_.kind()), {}};
    auto& slots = checkpoint.optimizer->slots;
    for (const auto& [name, slot] : optimizer_.slots()) slots.emplace_back(name, whole(slot));
    for (const auto& [name, slot] : std::as_const(transforms_).slots()) slots.emplace_back(name, whole(slot));
    if (!average_.state().empty()) slots.emplace_back(kAverageSlot, whole(average_.state()));
    checkpoint.progress->extra = {{"best_value", best_value_},
                                  {"epochs_without_gain", static_cast<double>(epochs_without_gain_)},
                                  {"epoch_loss", epoch_loss_},
                                  {"epoch_weight", epoch_weight_}};
    return checkpoint;
  }

  /// What SavedRun asks for on the root alone, where it cannot communicate: made before if that is needed, by
  /// the ranks that hold parts of the root's samples' model.
  template <class Make>
  std::function<io::Checkpoint()> prepared(Make make) const {
    if (split_ == nullptr || task_.state_directory.empty() || !data_.is_root()) return make;
    auto made = std::make_shared<io::Checkpoint>(make());
    return [made] { return std::move(*made); };
  }

  void save() {
    const trace::Span span("save");
    result_.seconds.checkpoint += saved_.save(prepared([this] { return full_snapshot(); }));
  }

  void save_best() {
    result_.seconds.checkpoint += saved_.save_as(kBestName, prepared([this] { return snapshot(best_); }));
  }

  /// What this rank has of values of the whole model.
  [[nodiscard]] StateDict own_part(StateDict whole) const {
    return split_ == nullptr ? std::move(whole) : split_->slice(whole);
  }

  /// Every rank reads the newest state of the same key, if there is one.
  void restore() {
    auto found = saved_.newest();
    if (!found) return;
    auto& [path, checkpoint] = *found;
    const auto values = own_part(std::move(checkpoint.state));
    for (const auto& entry : state_.layout().entries()) {
      const auto from = values.values(entry.name);
      std::copy(from.begin(), from.end(), state_.values(entry).begin());
    }
    if (checkpoint.optimizer) restore_optimizer(*checkpoint.optimizer);
    const auto& progress = *checkpoint.progress;
    step_ = progress.step;
    samples_ = progress.samples;
    best_value_ = progress.extra.at("best_value");
    epochs_without_gain_ = static_cast<int>(progress.extra.at("epochs_without_gain"));
    epoch_loss_ = progress.extra.at("epoch_loss");
    epoch_weight_ = progress.extra.at("epoch_weight");
    result_.history = checkpoint.metrics;
    for (const auto& [name, points] : result_.history) result_.metrics[name] = points.back().value;
    if (options_.schedule->is_measured()) find_plateau();
    if (options_.keep == Keep::kBest && epochs_without_gain_ >= 0) {
      auto best = io::read_checkpoint(saved_.directory() / kBestName);
      best_ = own_part(std::move(best.state));
      best_step_ = best.progress.value().step;
      for (const auto& [name, points] : best.metrics) best_metrics_[name] = points.back().value;
    }
    log::info(fmt::format("{}: continuing after step {} of {} ({})", options_.stage, step_, total_steps_,
                          path.filename().string()));
  }

  void restore_optimizer(io::OptimizerRecord& saved) {
    auto& slots = saved.slots;
    for (auto& [name, slot] : slots) slot = own_part(std::move(slot));
    if (!slots.empty() && slots.back().first == kAverageSlot) {
      StateDict average(state_.layout_ptr());
      average.copy_from(slots.back().second);
      average_.restore(std::move(average));
      slots.pop_back();
    }
    const auto own = std::min(slots.size(), optimizer_.slots().size());
    optimizer_.restore(saved.kind, std::span(slots).first(own));
    transforms_.restore(std::span(slots).subspan(own));
  }

  [[nodiscard]] SumParts sum_parts() const {
    if (split_ == nullptr) return {};
    return [this](std::span<const std::string> names, std::span<double> sums) {
      split_->sum_parts(names, sums);
    };
  }

  /// Makes what computes gradients, and returns the threads that can share the optimizer's work.
  WorkerTeam* make_engine(const Split* split) {
    if (options_.local_steps > 1) {
      workers_ =
          std::make_unique<LocalWorkers>(data_, task_.spec, task_.objective, engine_options(),
                                         options_.optimizer, options_.groups, all_transforms(options_));
      return nullptr;
    }
    engine_ = std::make_unique<GradientEngine>(data_, split == nullptr ? task_.spec : split->trained,
                                               split == nullptr ? task_.objective : split->objective,
                                               engine_options());
    return &engine_->team();
  }

  [[nodiscard]] EngineSeconds engine_seconds() const {
    return workers_ ? workers_->seconds() : engine_->seconds();
  }

  [[nodiscard]] EngineOptions engine_options() const {
    auto engine = static_cast<const EngineOptions&>(options_);
    engine.trainable = [this](const std::string& name) { return !group_of(options_.groups, name).frozen; };
    engine.has_parts = split_ != nullptr;
    return engine;
  }

  const comm::Comm& comm_;
  const comm::Comm& data_;
  const parallel::TensorModel* split_;
  const TrainerOptions& options_;
  const TrainTask& task_;
  StateDict& state_;
  std::unique_ptr<GradientEngine> engine_;  // one of these two
  std::unique_ptr<LocalWorkers> workers_;   // with local steps
  Optimizer optimizer_;
  TransformChain transforms_;
  WeightAverage average_;
  SavedRun saved_;
  std::int64_t steps_per_epoch_;
  std::int64_t updates_per_epoch_;
  std::int64_t total_steps_;
  ProgressLine progress_;
  bool lower_is_better_;

  std::int64_t step_ = 0;
  std::int64_t samples_ = 0;
  double epoch_loss_ = 0;  // sum over the labels of the epoch so far, each as often as it weighs
  double epoch_weight_ = 0;

  // By the last step. A run stops and is saved only then, so that sums of gradients and what the workers of
  // local steps have by themselves need not be.
  bool updated_ = false;
  StateDict sum_;  // of gradients times their batches' weights
  double sum_weight_ = 0;
  double waiting_weight_ = 0;  // of the update's batches before the last, whose losses lack the penalties
  double plateau_ = 1;         // what the recorded metrics make of the learning rate

  double best_value_ = 0;
  int epochs_without_gain_ = -1;  // -1: nothing judged yet
  bool stopped_early_ = false;
  StateDict best_;
  std::int64_t best_step_ = 0;
  std::map<std::string, double> best_metrics_;
  TrainResult result_;
  Recorder record_{data_, options_, task_, result_};
};

/// That all methods of the run go together.
void check(const TrainerOptions& options, const TrainTask& task) {
  if (task.train->size() == 0) throw Error("there is nothing to train on").at(options.stage).collective();
  auto all = capabilities_of(options);
  for (auto& need : validation_needs(options)) all.push_back(std::move(need));
  all.push_back(capabilities_of(task.objective));
  all.push_back(capabilities_of(task.spec, options.groups));
  if (task.validation != nullptr)
    all.push_back({.key = "dataset", .uses = {{Feature::kValidation, {"dataset"}}}});
  const auto found = conflicts(all);
  if (!found.empty())
    throw Error(found[0].text, ErrorKind::kUsage).at(options.stage + ": " + found[0].key).collective();
  if (!options.solver) return;
  auto why = options.solver->why_not(task.objective.on_labels(), options.l2);
  if (!why.empty()) throw Error(why, ErrorKind::kUsage).at(options.stage + ": objective").collective();
}

/// Trains the parts of the model, and puts them together.
TrainResult train_split(const comm::Mesh& mesh, TrainerOptions options, const TrainTask& task,
                        StateDict& state) {
  const parallel::TensorModel split(task.spec, mesh.tensor());
  options.threads = 1;  // one thread of a rank at a time can speak to the other ranks
  const TrainTask own{.spec = split.spec(),
                      .objective = task.objective,
                      .train = task.train,
                      .validation = task.validation,
                      .on_event = task.on_event,
                      .stop = task.stop,
                      .state_directory = task.state_directory,
                      .state_key = task.state_key};
  const auto training = split.training(task.objective);
  const Run::Split stand_in{split, task.spec, training.spec,
                            training.objective ? *training.objective : task.objective};
  auto part = split.slice(state);
  state = StateDict();  // the memory that splitting saves
  auto result = Run(mesh, &stand_in, options, own, part).execute();
  state = split.gather(part);
  result.seconds.communication += split.seconds();
  result.seconds.compute -= split.seconds();
  return result;
}

}  // namespace

std::vector<GradientTransformPtr> all_transforms(const TrainerOptions& options) {
  std::vector<GradientTransformPtr> all;
  if (options.l2 > 0) all.push_back(make_l2(options.l2));
  all.insert(all.end(), options.transforms.begin(), options.transforms.end());
  return all;
}

TrainResult train(const comm::Comm& comm, const TrainerOptions& options, const TrainTask& task,
                  StateDict& state) {
  check(options, task);
  const comm::Mesh mesh(comm, options.mesh);
  if (mesh.tensor().size() > 1) return train_split(mesh, options, task, state);
  if (options.solver) return options.solver->solve(comm, options, task, state);
  return Run(mesh, nullptr, options, task, state).execute();
}

}  // namespace impart::train
