// merge: one network from several.

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>

#include "impart/core/log.hpp"
#include "impart/nn/network.hpp"
#include "impart/nn/objective.hpp"
#include "impart/share/combine/combine.hpp"
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
                                {context.execution(), batch_size, run.seed}, samples, model.state);
}

class MergeStage final : public Stage {
 public:
  MergeStage(Settings& settings, const Deck& deck) {
    read_inputs(settings, "inputs", inputs_, 2, "stages, or paths that end in .h5, of one architecture");
    settings.read(
        "base_model", base_model_,
        "of methods that need one: the stage, or the path that ends in .h5, that the inputs come from");
    read_method(settings);
    settings.read("dataset", dataset_, "on whose validation part the result is measured; empty: it is not");
    settings.read(
        "recalibrate", recalibrate_,
        "a dataset whose training part gives batch norms their statistics; empty: a mean of the inputs'");
    batch_size_ = std::int64_t{32} * deck.run.shards;  // statistics of 32 samples and more
    settings.read("batch_size", batch_size_, between(1, 1 << 24).in("samples"),
                  "of a batch of the recalibration");
    const auto* first = inputs_.empty() ? nullptr : deck.find_stage(inputs_.front());  // of those before
    if (first != nullptr) model_ = first->model();
  }

  [[nodiscard]] StageUses uses() const override {
    auto uses = uses_of(inputs_, weights_, "input", dataset_);
    if (!base_model_.empty()) uses.artifacts.push_back({base_model_, "base"});
    const auto& recalibrated = recalibrate_;
    if (!recalibrated.empty() && recalibrated != dataset_) uses.datasets.push_back(recalibrated);
    return uses;
  }

  [[nodiscard]] std::string describe() const override {
    const auto& data = recalibrate_;
    return fmt::format("{} of {}{}", method_, fmt::join(inputs_, ", "),
                       data.empty() ? "" : ", recalibrated on " + data);
  }

  [[nodiscard]] std::string model() const override { return model_; }

  std::optional<ModelOutline> check(CheckContext& context) const override {
    const auto path = this->path() + ".inputs";
    std::vector<const nn::ModelSpec*> specs;
    for (const auto& input : inputs_) specs.push_back(context.network(path, input));
    if (specs.empty() || std::ranges::find(specs, nullptr) != specs.end()) return std::nullopt;
    const auto first = nn::state_layout(*specs.front());
    const auto same = [&](const std::string& other, const nn::ModelSpec& spec) {
      if (const auto difference = first->difference(*nn::state_layout(spec))) {
        context.problem(path, fmt::format("'{}' and '{}' are of different architectures: {}", inputs_[0],
                                          other, *difference));
      }
    };
    for (std::size_t i = 1; i < specs.size(); ++i) same(inputs_[i], *specs[i]);
    if (const auto* base = context.network(this->path() + ".base_model", base_model_))
      same(base_model_, *base);
    check_method(context, *first);
    context.measured(this->path() + ".dataset", dataset_, *specs.front());
    check_recalibrated(context, *specs.front());
    return ModelOutline{{*specs.front()}};
  }

  // The training part is passed once, forward and backward.
  [[nodiscard]] double cost(RunContext& context) const override {
    if (recalibrate_.empty()) return 0;
    const auto model = share::model_of(io::read_summary(context.find(inputs_.front())->path).model);
    const auto& spec = model.members.front().spec;
    const auto samples = context.data(recalibrate_).part(data::Part::kTrain)->size();
    return static_cast<double>(samples) *
           context.seconds_per_sample(spec,
                                      std::max<std::int64_t>(2, batch_size_ / context.deck().run.shards));
  }

  StageResult run(RunContext& context) const override {
    std::vector<share::Model> models;
    StateDict merged;
    comm::agree(context.comm(), name(), [&] { models = descriptions(context); });
    std::vector<const share::Member*> members;
    for (const auto& model : models) members.push_back(&model.members.front());
    const auto weights = weights_.empty() ? std::vector<double>(models.size(), 1.0) : weights_;
    if (context.comm().is_root() && share::encodings_differ(members)) {
      log::warn(
          fmt::format("{}: the models were trained on data that are normalised in other ways; the "
                      "result takes the mean (give their datasets one `normalise = {{ mean, std }}`)",
                      name()));
    }
    merged = combine(context);
    StageResult result;
    comm::agree(context.comm(), method_, [&] {
      result.model =
          share::single(members.front()->spec, std::move(merged), share::merged_encoding(members, weights));
    });
    recalibrate(context, recalibrate_, batch_size_, *result.model);
    result.metrics = validation_metrics(context, dataset_, *result.model);
    return result;
  }

 private:
  // The method's own settings stand beside it, as in mergekit's files.
  void read_method(Settings& settings) {
    const auto& methods = share::combiners();
    const auto names = methods.names();
    std::size_t chosen = 0;
    std::string word;
    if (settings.is_text("method")) {
      auto look = settings;
      look.read("method", word, "how the inputs become one; its own settings stand beside it");
    }
    if (const auto successor = share::combiner_successor(word); !successor.empty()) {
      settings.problem("method", fmt::format("'{}' is called '{}' now", word, successor));
    } else {
      settings.choose_word("method", chosen, names, "how the inputs become one");
    }
    method_ = names[chosen];
    settings.renamed("weights", "weight");
    combiner_ = methods.entries()[chosen].make(settings);
    const auto resolved = settings.resolved();
    const auto* weight = find_setting(resolved, "weight");
    const auto* list = weight == nullptr ? nullptr : weight->as<SettingArray>();
    for (std::size_t i = 0; list != nullptr && i < list->size(); ++i) weights_.push_back((*list)[i].number());
    if (weights_.size() == 1) weights_.assign(inputs_.size(), weights_[0]);
  }

  void check_method(CheckContext& context, const StateLayout& layout) const {
    const auto needs = combiner_->needs();
    if (needs.base && base_model_.empty())
      context.problem(path(), fmt::format("method '{}' needs a `base_model`", method_));
    if (!needs.base && !base_model_.empty())
      context.problem(path() + ".base_model", fmt::format("method '{}' has no use for it", method_));
    try {
      combiner_->begin(layout, inputs_.size());
    } catch (const Error& e) {
      context.problem(path(), e.what());
    }
  }

  /// What the inputs are, without their values. Local.
  [[nodiscard]] std::vector<share::Model> descriptions(const RunContext& context) const {
    std::vector<share::Model> models;
    for (const auto& input : inputs_)
      models.push_back(share::model_of(io::read_summary(context.find(input)->path).model));
    return models;
  }

  /// Tensor by tensor, out of the files. Collective.
  [[nodiscard]] StateDict combine(RunContext& context) const {
    std::vector<std::unique_ptr<share::CheckpointSource>> sources;
    std::vector<const share::TensorSource*> models;
    std::unique_ptr<share::CheckpointSource> base;
    comm::agree(context.comm(), name(), [&] {
      for (const auto& input : inputs_) {
        sources.push_back(std::make_unique<share::CheckpointSource>(context.find(input)->path));
        models.push_back(sources.back().get());
      }
      if (!base_model_.empty())
        base = std::make_unique<share::CheckpointSource>(context.find(base_model_)->path);
    });
    return share::combine(context.comm(), context.deck().run.shards, *combiner_, {models, base.get()});
  }

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

  std::string model_;  // of the inputs
  std::vector<std::string> inputs_;
  std::string method_;
  std::string base_model_;
  std::unique_ptr<share::Combiner> combiner_;
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
