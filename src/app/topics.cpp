// What `impart help` knows: the tables of kinds, and what stands beside them.

#include <filesystem>
#include <functional>
#include <utility>

#include "impart/app/reference.hpp"
#include "impart/data/augment.hpp"
#include "impart/data/dataset_settings.hpp"
#include "impart/data/sampler.hpp"
#include "impart/io/data_format.hpp"
#include "impart/metrics/metric.hpp"
#include "impart/nn/layer.hpp"
#include "impart/nn/objective.hpp"
#include "impart/nn/zoo.hpp"
#include "impart/share/combine/combiner.hpp"
#include "impart/share/distil/distil_loss.hpp"
#include "impart/share/federate/algorithm.hpp"
#include "impart/stages/deck.hpp"
#include "impart/stages/stage.hpp"
#include "impart/train/average.hpp"
#include "impart/train/optimizer.hpp"
#include "impart/train/schedule.hpp"
#include "impart/train/solver.hpp"
#include "impart/train/transform.hpp"

namespace impart::app {

namespace {

constexpr int kClasses = 10;  // of the models of the zoo whose settings are told: any number would do

std::vector<SettingDoc> rows(const std::function<void(Settings&)>& read) {
  std::vector<SettingDoc> docs;
  auto settings = Settings::defaults(&docs);
  read(settings);
  return docs;
}

template <class Made, class... Context>
Topic topic_of(const Registry<Made, Context...>& kinds, std::string text, std::vector<SettingDoc> settings,
               Context... context) {
  return {std::string(kinds.topic()), std::move(text), std::move(settings), kinds.document(context...)};
}

}  // namespace

std::vector<Topic> topics() {
  const io::PathResolver as_written = [](const std::string& file) { return std::filesystem::path(file); };
  std::vector<Topic> all;
  all.push_back({"run",
                 "[run], what holds for all stages",
                 rows([](Settings& settings) {
                   stages::RunSettings run;
                   stages::read_run(settings, run);
                 }),
                 {}});
  all.push_back(topic_of<std::unique_ptr<stages::Stage>, const stages::Deck&>(
      stages::stage_kinds(), "[[stage]], in the order in which they run, each of a `kind`",
      rows(stages::document_stage), stages::Deck{}));
  all.push_back(topic_of<io::DataFormatPtr, const io::PathResolver&>(
      io::data_formats(), "[dataset.*], each of a `format`",
      rows([&](Settings& settings) { data::read_dataset_settings(settings, as_written); }), as_written));
  all.push_back(topic_of(nn::zoo(),
                         "of a [model.*] with `classes` instead of `layers`: a model that is known by name",
                         {}, kClasses));
  all.push_back(topic_of<std::unique_ptr<nn::Layer>, const nn::LayerContext&>(
      nn::layers(),
      "of the `layers` of a [model.*] with `input` and `classes`, each of a `kind`, with a `name` and, in "
      "`from`, the layers that it reads, if they are others than the one before",
      {}, nn::LayerContext{}));
  all.push_back(topic_of(nn::objectives(), "what training minimises", {}));
  all.push_back(topic_of(train::optimizers(), "how a gradient becomes a step", {}));
  all.push_back(
      topic_of(train::solvers(), "as `optimizer`: all the data at once, instead of step by step", {}));
  all.push_back(topic_of(train::schedules(), "the learning rate along the training", {}));
  all.push_back(topic_of(train::averages(), "of the weights along the training", {}));
  all.push_back(topic_of(train::gradient_transforms(), "of `transforms`, what is done to gradients", {}));
  all.push_back(topic_of(data::samplers(), "which samples make each step", {}));
  all.push_back(topic_of(data::augmentations(), "of `augment`, random changes of training samples", {}));
  all.push_back(
      topic_of(metrics::classification_metrics(), "of an evaluation's `metrics`, beside the loss", {}));
  all.push_back(topic_of(share::combiners(), "as a merge's `method`, whose settings stand in the stage", {}));
  all.push_back(topic_of(share::distil_losses(), "as a distillation's `loss`", {}));
  all.push_back(topic_of(share::federated_algorithms(), "as a federation's `algorithm`", {}));
  return all;
}

}  // namespace impart::app
