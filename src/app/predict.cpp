// predict: class and probabilities of each sample of a dataset.

#include <fmt/format.h>

#include <algorithm>
#include <vector>

#include "app/deck_argument.hpp"
#include "impart/app/commands.hpp"
#include "impart/core/error.hpp"
#include "impart/core/files.hpp"
#include "impart/io/arrays.hpp"
#include "impart/metrics/classification.hpp"
#include "impart/stages/run_context.hpp"

namespace impart::app {

namespace {

namespace fs = std::filesystem;

/// What is known of each row of the outputs: one for each sample, or one for each place of a sequence.
struct Predictions {
  Tensor probabilities;               // (rows, classes)
  std::vector<std::int32_t> classes;  // (rows), the most probable
  std::vector<std::int32_t> labels;   // (rows), or empty when there are none

  [[nodiscard]] std::span<const float> row(std::size_t i) const {
    const auto width = static_cast<std::size_t>(probabilities.shape()[1]);
    return probabilities.values().subspan(i * width, width);
  }
};

Predictions with_classes_and_labels(Tensor probabilities, const data::Dataset& dataset) {
  Predictions result{std::move(probabilities), {}, {}};
  for (std::size_t i = 0; i < static_cast<std::size_t>(result.probabilities.shape()[0]); ++i) {
    result.classes.push_back(metrics::argmax(result.row(i)));
  }
  const auto each = static_cast<std::size_t>(dataset.labels_per_sample());
  if (each == 0) return result;
  result.labels.resize(each * static_cast<std::size_t>(dataset.size()));
  for (std::size_t i = 0; i < static_cast<std::size_t>(dataset.size()); ++i) {
    dataset.labels(static_cast<std::int64_t>(i), std::span(result.labels).subspan(i * each, each));
  }
  return result;
}

// "97.85% right" when that is known.
std::string accuracy_of(const Predictions& predictions) {
  if (predictions.labels.empty()) return "";
  std::size_t right = 0;
  for (std::size_t i = 0; i < predictions.labels.size(); ++i) {
    right += predictions.labels[i] == predictions.classes[i] ? 1 : 0;
  }
  return fmt::format(", {:.2f}% right",
                     100 * static_cast<double>(right) / static_cast<double>(predictions.labels.size()));
}

void write_csv(const fs::path& path, const Predictions& predictions) {
  std::string text = predictions.labels.empty() ? "class" : "class,label";
  for (std::int64_t c = 0; c < predictions.probabilities.shape()[1]; ++c) text += fmt::format(",p{}", c);
  text += '\n';
  for (std::size_t i = 0; i < predictions.classes.size(); ++i) {
    text += std::to_string(predictions.classes[i]);
    if (!predictions.labels.empty()) text += fmt::format(",{}", predictions.labels[i]);
    for (const float p : predictions.row(i)) text += fmt::format(",{}", p);
    text += '\n';
  }
  write_file_atomically(path, text);
}

void write_hdf5(const fs::path& path, const Predictions& predictions) {
  const auto& shape = predictions.probabilities.shape();
  const Shape rows{shape[0]};
  std::vector<io::NamedArray> arrays{{"probabilities", shape, predictions.probabilities.values()},
                                     {"class", rows, std::span(predictions.classes)}};
  if (!predictions.labels.empty()) arrays.push_back({"label", rows, std::span(predictions.labels)});
  io::write_arrays(path, arrays);
}

}  // namespace

std::string predict(const comm::Comm& comm, const Options& options) {
  const auto [deck, named] = deck_argument(comm, options.data, "--data");
  const auto& name = named;  // for the closure below
  const auto* dataset = deck.find_dataset(name);
  if (dataset == nullptr) {
    throw Error("there is no [dataset." + name + "]", ErrorKind::kUsage).at(deck.path.string()).collective();
  }
  std::string digest;
  const auto model = stages::read_model(comm, options.checkpoint, digest);
  const auto data = data::read_parts(comm, "dataset." + name, dataset->settings);
  if (model.input_shape() != data.all->sample_shape()) {
    throw Error("the model does not take the dataset's samples", ErrorKind::kUsage)
        .at(options.checkpoint.string())
        .expected(model.input_shape().str())
        .got(data.all->sample_shape().str())
        .collective();
  }
  auto probabilities = share::probabilities(comm, model, data.all, 1.0, options.threads);
  std::string line;
  comm::agree(comm, "predictions", [&] {
    if (!comm.is_root()) return;
    const auto samples = share::inputs_of(model.members.front(), data.all);
    const auto predictions = with_classes_and_labels(std::move(probabilities), *samples);
    if (options.output.extension() == ".csv") {
      write_csv(options.output, predictions);
    } else {
      write_hdf5(options.output, predictions);
    }
    line = fmt::format("{}: {} predictions for {} samples of {}{}\n", options.output.string(),
                       predictions.classes.size(), samples->size(), name, accuracy_of(predictions));
  });
  return line;
}

}  // namespace impart::app
