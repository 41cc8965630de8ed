// merge: one network from several.

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>

#include "impart/core/log.hpp"
#include "impart/nn/network.hpp"
#include "impart/nn/objective.hpp"
#include "impart/share/combine.hpp"
#include "impart/stages/check_context.hpp"
#include "impart/stages/run_context.hpp"
#include "impart/train/recalibration.hpp"
#include "stages/kinds.hpp"

namespace impart::stages {

namespace {

// Gives the batch norms of `model` the statistics of the dataset's training part, when one is named.
// Collective.
void recalibrate(RunContext& context, const std::string& name, std::int64_t batch_size, share::Model& model) {
  if (name.empty()) return;
  const auto& train = context.data(name).part(data::Part::kTrain);
  const auto& member = model.members.front();
  data::DatasetPtr samples;
  comm::agree(context.comm(), name, [&] { samples = share::inputs_of(member, train); });
  const auto& run = context.deck().run;
  const auto objective = nn::make_cross_entropy();
  train::recalibrate_batch_norm(context.comm(), member.spec, *objective,
                                {{.shards = run.shards,
                                  .threads = context.options().threads,
                                  .overlap = run.overlap,
                                  .reproducible = run.reproducible},
                                 batch_size,
                                 run.seed},
                                samples, model.state);
}

class MergeStage final : public Stage {
 public:
  MergeStage(Settings& settings, const Deck& deck) {
    read_inputs(settings, "inputs", inputs_, 2, "stages, or paths that end in .h5, of one architecture");
    const auto names = share::combiner_names();
    std::size_t method = 0;
    settings.choose_word("method", method, names, "how they become one");
    method_ = names[method];
    read_weights(settings, weights_, inputs_.size(), at_least(0), "of each input");
    if (method_ == "weighted" && !settings.has("weights")) settings.missing("weights");
    if (method_ == "average" && !weights_.empty())
      settings.problem("weights", "method \"average\" takes none (method = \"weighted\" does)");
    settings.read("dataset", dataset_, "on whose validation part the result is measured; empty: it is not");
    settings.read(
        "recalibrate", recalibrate_,
        "a dataset whose training part gives batch norms their statistics; empty: a mean of the inputs'");
    batch_size_ = std::int64_t{32} * deck.run.shards;  // statistics of 32 samples and more
    settings.read("batch_size", batch_size_, between(1, 1 << 24).in("samples"),
                  "of a batch of the recalibration");
  }

  [[nodiscard]] StageUses uses() const override {
    auto uses = uses_of(inputs_, weights_, "input", dataset_);
    const auto& recalibrated = recalibrate_;
    if (!recalibrated.empty() && recalibrated != dataset_) uses.datasets.push_back(recalibrated);
    return uses;
  }

  [[nodiscard]] std::string describe() const override {
    const auto& data = recalibrate_;
    return fmt::format("{} of {}{}", method_, fmt::join(inputs_, ", "),
                       data.empty() ? "" : ", recalibrated on " + data);
  }

  [[nodiscard]] std::string model(const Deck& deck) const override {
    const auto* first = inputs_.empty() ? nullptr : deck.find_stage(inputs_.front());
    return first == nullptr ? "" : first->model(deck);
  }

  std::optional<ModelOutline> check(CheckContext& context) const override {
    const auto path = this->path() + ".inputs";
    std::vector<const nn::ModelSpec*> specs;
    for (const auto& input : inputs_) specs.push_back(context.network(path, input));
    if (specs.empty() || std::ranges::find(specs, nullptr) != specs.end()) return std::nullopt;
    const auto first = nn::state_layout(*specs.front());
    for (std::size_t i = 1; i < specs.size(); ++i) {
      if (const auto difference = first->difference(*nn::state_layout(*specs[i]))) {
        context.problem(path, fmt::format("'{}' and '{}' are of different architectures: {}", inputs_[0],
                                          inputs_[i], *difference));
      }
    }
    context.measured(this->path() + ".dataset", dataset_, *specs.front());
    check_recalibrated(context, *specs.front());
    return ModelOutline{{*specs.front()}};
  }

  // The training part is passed once, forward and backward.
  [[nodiscard]] double cost(RunContext& context) const override {
    if (recalibrate_.empty()) return 0;
    const auto& spec = context.model(inputs_.front()).members.front().spec;
    const auto samples = context.data(recalibrate_).part(data::Part::kTrain)->size();
    return static_cast<double>(samples) *
           context.seconds_per_sample(spec,
                                      std::max<std::int64_t>(2, batch_size_ / context.deck().run.shards));
  }

  StageResult run(RunContext& context) const override {
    std::vector<const StateDict*> states;
    std::vector<const share::Member*> members;
    for (const auto& input : inputs_) {
      states.push_back(&context.model(input).state);
      members.push_back(&context.model(input).members.front());
    }
    const auto weights = weights_.empty() ? std::vector<double>(states.size(), 1.0) : weights_;
    if (context.comm().is_root() && share::encodings_differ(members)) {
      log::warn(
          fmt::format("{}: the models were trained on data that are normalised in other ways; the "
                      "result takes the mean (give their datasets one `normalise = {{ mean, deviation }}`)",
                      name()));
    }
    StageResult result;
    comm::agree(context.comm(), method_, [&] {
      auto merged = share::find_combiner(method_)(states, weights);
      result.model =
          share::single(members.front()->spec, std::move(merged), share::merged_encoding(members, weights));
    });
    recalibrate(context, recalibrate_, batch_size_, *result.model);
    result.metrics = validation_metrics(context, dataset_, *result.model);
    return result;
  }

 private:
  void check_recalibrated(CheckContext& context, const nn::ModelSpec& spec) const {
    const auto path = this->path() + ".recalibrate";
    const auto* data = context.dataset(path, recalibrate_);
    if (data == nullptr) return;
    if (std::ranges::find(spec.layers, "batch_norm", &nn::LayerSpec::kind) == spec.layers.end()) {
      context.problem(
          path, fmt::format("model '{}' has no batch_norm: there is nothing to recalibrate", spec.name));
    }
    context.match(path, spec, *data, recalibrate_);
    context.need_part(path, recalibrate_, *data, data::Part::kTrain);
    context.recalibration(this->path(), spec, batch_size_);
  }

  std::vector<std::string> inputs_;
  std::string method_;
  std::vector<double> weights_;  // one for each input; empty: all equal
  std::string dataset_;
  std::string recalibrate_;
  std::int64_t batch_size_ = 0;
};

}  // namespace

std::unique_ptr<Stage> make_merge(Settings& settings, const Deck& deck) {
  return std::make_unique<MergeStage>(settings, deck);
}

}  // namespace impart::stages
