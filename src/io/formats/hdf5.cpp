#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <utility>

#include "impart/core/error.hpp"
#include "io/formats/formats.hpp"
#include "io/hdf5.hpp"
#include "io/samples.hpp"

namespace impart::io {

namespace {

namespace fs = std::filesystem;

class Hdf5Source : public SampleSource {
 public:
  Hdf5Source(fs::path path, std::string samples, std::string labels, const Shape& shape)
      : path_(std::move(path)), samples_(std::move(samples)), labels_(std::move(labels)) {
    with_path([&] {
      require_extents(shape, samples_);
      const auto file = h5::open_file(path_);
      describe_samples(file, shape);
      check_labels(file);
    });
  }

  [[nodiscard]] const SampleInfo& info() const override { return info_; }

  void read(std::span<std::byte> samples, std::span<std::int32_t> labels) override {
    require_room(info_, samples, labels);
    with_path([&] {
      const auto file = h5::open_file(path_);
      const auto known = info_;
      describe_samples(file, known.shape);
      check_labels(file);
      if (info_.samples != known.samples || info_.element != known.element) {
        throw Error("the file has changed since it was opened");
      }
      const bool is_bytes = info_.element == ElementType::kUint8;
      h5::read_values(h5::open_dataset(file, samples_), is_bytes ? H5T_NATIVE_UINT8 : H5T_NATIVE_FLOAT,
                      samples.data());
      if (!is_bytes) require_finite(samples);
      if (labels_.empty()) return;
      h5::read_values(h5::open_dataset(file, labels_), H5T_NATIVE_INT32, labels.data());
      require_labels(labels);
    });
  }

 private:
  template <class Work>
  void with_path(const Work& work) const {
    try {
      work();
    } catch (Error& error) {
      error.at(path_.string());
      throw;
    }
  }

  void describe_samples(const h5::Handle& file, const Shape& shape) {
    const auto dataset = h5::open_dataset(file, samples_);
    const auto stored = h5::describe(dataset, fs::file_size(path_));
    if (stored.type != H5T_INTEGER && stored.type != H5T_FLOAT) {
      throw Error("samples must be numbers").at(samples_).got("another type");
    }
    if (stored.shape.rank() < 2 || stored.shape.elements() == 0) {
      throw Error("samples must have two or more extents, and hold something")
          .at(samples_)
          .expected("(samples, ...)")
          .got(stored.shape.str());
    }
    info_.samples = stored.shape[0];
    info_.shape = shape.rank() == 0 ? stored.shape.without_batch() : shape;
    if (info_.shape.elements() != stored.shape.without_batch().elements()) {
      throw Error("the samples do not have this shape")
          .at(samples_)
          .expected(info_.shape.str())
          .got(stored.shape.without_batch().str());
    }
    info_.element = h5::has_type(dataset, H5T_STD_U8LE) ? ElementType::kUint8 : ElementType::kFloat32;
  }

  void check_labels(const h5::Handle& file) {
    if (labels_.empty()) {
      info_.labels_per_sample = 0;
      return;
    }
    const auto stored = h5::describe(h5::open_dataset(file, labels_), fs::file_size(path_));
    if (stored.type != H5T_INTEGER) {
      throw Error("labels must be of an integer type").at(labels_).got("another type");
    }
    if (stored.shape != Shape{info_.samples}) {
      throw Error("there must be one label for each sample")
          .at(labels_)
          .expected(fmt::format("extent {}", info_.samples))
          .got(stored.shape.str());
    }
  }

  void require_finite(std::span<const std::byte> samples) const {
    for (std::size_t i = 0; i < samples.size(); i += sizeof(float)) {
      float value = 0;
      std::memcpy(&value, samples.data() + i, sizeof value);
      if (!std::isfinite(value)) {
        const auto sample = i / sizeof(float) / static_cast<std::size_t>(info_.shape.elements());
        throw Error("no finite number").at(samples_).got(fmt::format("{} in sample {}", value, sample));
      }
    }
  }

  void require_labels(std::span<const std::int32_t> labels) const {
    // HDF5 turns what does not fit into the largest and smallest number of the type.
    const auto bad = std::find_if(labels.begin(), labels.end(), [](std::int32_t label) {
      return label < 0 || label == std::numeric_limits<std::int32_t>::max();
    });
    if (bad == labels.end()) return;
    throw Error("a label must be a whole number of at least 0")
        .at(labels_)
        .got(fmt::format("{} at sample {}", *bad, bad - labels.begin()));
  }

  fs::path path_;
  std::string samples_, labels_;
  SampleInfo info_;
};

class Hdf5 final : public DataFormat {
 public:
  Hdf5(Settings& settings, const PathResolver& resolve)
      : file_(require_file(settings, "file", resolve, "the file")) {
    settings.read("samples", samples_, "path of the samples in the file");
    settings.read("labels", labels_, "path of the labels in the file; empty: there are none");
    read_shape(settings, shape_);
  }

  [[nodiscard]] DataTraits traits() const override { return {.labels = !labels_.empty()}; }
  [[nodiscard]] std::vector<fs::path> files() const override { return {file_}; }

 private:
  [[nodiscard]] std::unique_ptr<SampleSource> open_source() const override {
    return open_hdf5(file_, samples_, labels_, shape_);
  }

  fs::path file_;
  std::string samples_ = "samples";
  std::string labels_ = "labels";
  Shape shape_;
};

}  // namespace

std::unique_ptr<SampleSource> open_hdf5(const fs::path& file, const std::string& samples,
                                        const std::string& labels, const Shape& shape) {
  return std::make_unique<Hdf5Source>(file, samples, labels, shape);
}

DataFormatPtr make_hdf5(Settings& settings, const PathResolver& resolve) {
  return std::make_shared<Hdf5>(settings, resolve);
}

}  // namespace impart::io
