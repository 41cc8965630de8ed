// predict: class and probabilities of each sample of a dataset.

#include <fmt/format.h>
#include <hdf5.h>

#include <algorithm>

#include "impart/core/error.hpp"
#include "impart/metrics/classification.hpp"
#include "impart/stages/commands.hpp"
#include "stages/deck_argument.hpp"
#include "stages/run_context.hpp"
#include "stages/run_record.hpp"

namespace impart::stages {

namespace {

namespace fs = std::filesystem;

std::span<const float> row_of(const Tensor& probabilities, std::size_t i, std::size_t classes) {
  return probabilities.values().subspan(i * classes, classes);
}

void write_csv(const fs::path& path, const Tensor& probabilities, const std::vector<std::int32_t>& classes) {
  const auto width = static_cast<std::size_t>(probabilities.shape()[1]);
  std::string text = "class";
  for (std::size_t c = 0; c < width; ++c) text += fmt::format(",p{}", c);
  text += '\n';
  for (std::size_t i = 0; i < classes.size(); ++i) {
    text += std::to_string(classes[i]);
    for (const float p : row_of(probabilities, i, width)) text += fmt::format(",{}", p);
    text += '\n';
  }
  write_file_atomically(path, text);
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

void write_hdf5(const fs::path& path, const Tensor& probabilities, const std::vector<std::int32_t>& classes) {
  H5Eset_auto2(H5E_DEFAULT, nullptr, nullptr);  // our own message says it in one line
  auto beside = path;
  beside += ".part";
  {
    const Handle file(H5Fcreate(beside.c_str(), H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT), H5Fclose, path);
    const hsize_t dims[] = {static_cast<hsize_t>(probabilities.shape()[0]),
                            static_cast<hsize_t>(probabilities.shape()[1])};
    write_dataset(file.get(), path, "probabilities", dims, H5T_IEEE_F32LE, H5T_NATIVE_FLOAT,
                  probabilities.data());
    write_dataset(file.get(), path, "class", std::span(dims).first(1), H5T_STD_I32LE, H5T_NATIVE_INT32,
                  classes.data());
  }
  fs::rename(beside, path);
}

}  // namespace

void predict(const comm::Comm& comm, const Options& options) {
  const auto [deck, name] = deck_argument(comm, options.data, "--data");
  const auto* settings = deck.find_dataset(name);
  if (settings == nullptr) {
    throw Error("there is no [dataset." + name + "]", ErrorKind::kUsage).at(deck.path.string()).collective();
  }
  std::string digest;
  const auto model = read_model(comm, options.checkpoint, digest);
  const auto data = read_parts(comm, *settings);
  if (model.input_shape() != data.all->sample_shape()) {
    throw Error("the model does not take the dataset's samples", ErrorKind::kUsage)
        .at(options.checkpoint.string())
        .expected(model.input_shape().str())
        .got(data.all->sample_shape().str())
        .collective();
  }
  const auto probabilities = share::probabilities(comm, model, data.all, 1.0, options.threads);
  comm::agree(comm, "predictions", [&] {
    if (!comm.is_root()) return;
    const auto width = static_cast<std::size_t>(model.classes());
    std::vector<std::int32_t> classes;
    for (std::size_t i = 0; i < static_cast<std::size_t>(data.all->size()); ++i) {
      classes.push_back(static_cast<std::int32_t>(metrics::argmax(row_of(probabilities, i, width))));
    }
    if (options.output.extension() == ".csv") {
      write_csv(options.output, probabilities, classes);
    } else {
      write_hdf5(options.output, probabilities, classes);
    }
  });
}

}  // namespace impart::stages
