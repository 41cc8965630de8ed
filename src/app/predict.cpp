// predict: class and probabilities of each sample of a dataset.

#include <fmt/format.h>
#include <hdf5.h>

#include <algorithm>

#include "app/deck_argument.hpp"
#include "impart/app/commands.hpp"
#include "impart/core/error.hpp"
#include "impart/metrics/classification.hpp"
#include "impart/stages/run_context.hpp"
#include "runner/run_record.hpp"

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
  runner::write_file_atomically(path, text);
}

// An HDF5 object that is closed at the end of its scope.
class Handle {
 public:
  Handle(hid_t id, herr_t (*close)(hid_t), const fs::path& path) : id_(id), close_(close) {
    if (id < 0) throw Error("cannot be written").at(path.string()).hint("check permissions and free space");
  }
  Handle(const Handle&) = delete;
  Handle& operator=(const Handle&) = delete;
  ~Handle() { close_(id_); }
  [[nodiscard]] hid_t get() const noexcept { return id_; }

 private:
  hid_t id_;
  herr_t (*close_)(hid_t);
};

void write_dataset(hid_t file, const fs::path& path, const char* name, std::span<const hsize_t> dims,
                   hid_t type, hid_t memory_type, const void* values) {
  const Handle space(H5Screate_simple(static_cast<int>(dims.size()), dims.data(), nullptr), H5Sclose, path);
  const Handle set(H5Dcreate2(file, name, type, space.get(), H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT), H5Dclose,
                   path);
  if (H5Dwrite(set.get(), memory_type, H5S_ALL, H5S_ALL, H5P_DEFAULT, values) < 0) {
    throw Error("cannot be written").at(path.string()).hint("check free space");
  }
}

void write_hdf5(const fs::path& path, const Predictions& predictions) {
  H5Eset_auto2(H5E_DEFAULT, nullptr, nullptr);  // our own message says it in one line
  auto beside = path;
  beside += ".part";
  {
    const Handle file(H5Fcreate(beside.c_str(), H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT), H5Fclose, path);
    const auto& shape = predictions.probabilities.shape();
    const hsize_t dims[] = {static_cast<hsize_t>(shape[0]), static_cast<hsize_t>(shape[1])};
    const auto rows = std::span(dims).first(1);
    write_dataset(file.get(), path, "probabilities", dims, H5T_IEEE_F32LE, H5T_NATIVE_FLOAT,
                  predictions.probabilities.data());
    write_dataset(file.get(), path, "class", rows, H5T_STD_I32LE, H5T_NATIVE_INT32,
                  predictions.classes.data());
    if (!predictions.labels.empty()) {
      write_dataset(file.get(), path, "label", rows, H5T_STD_I32LE, H5T_NATIVE_INT32,
                    predictions.labels.data());
    }
  }
  fs::rename(beside, path);
}

}  // namespace

std::string predict(const comm::Comm& comm, const Options& options) {
  const auto [deck, name] = deck_argument(comm, options.data, "--data");
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
