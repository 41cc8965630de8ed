#include "impart/data/dataset.hpp"

#include <algorithm>
#include <cstring>
#include <string>
#include <utility>

#include "impart/comm/node_memory.hpp"
#include "impart/core/error.hpp"

namespace impart::data {

namespace {

/// Where the parts of a dataset lie in its buffer: digests, labels, samples.
struct Parts {
  Parts(std::span<std::byte> buffer, const io::SampleInfo& info) {
    const auto n = static_cast<std::size_t>(info.samples);
    digests = {reinterpret_cast<Digest*>(buffer.data()), n};
    labels = {reinterpret_cast<std::int32_t*>(buffer.data() + n * sizeof(Digest)),
              static_cast<std::size_t>(info.labels())};
    samples = buffer.subspan(n * sizeof(Digest) + labels.size_bytes(), info.bytes());
  }
  static std::size_t bytes(const io::SampleInfo& info) {
    return static_cast<std::size_t>(info.samples) * sizeof(Digest) +
           static_cast<std::size_t>(info.labels()) * sizeof(std::int32_t) + info.bytes();
  }

  std::span<Digest> digests;
  std::span<std::int32_t> labels;
  std::span<std::byte> samples;
};

/// Samples as stored, once per node.
class NodeDataset final : public Dataset {
 public:
  NodeDataset(const comm::Comm& comm, io::SampleSource& source, const std::string& name, int classes)
      : info_(source.info()),
        classes_(classes),
        buffer_(comm, Parts::bytes(info_)),
        parts_(buffer_.bytes(), info_) {
    comm::agree(comm, "dataset " + name, [&] {
      if (!buffer_.is_writer()) return;
      source.read(parts_.samples, parts_.labels);
      check_labels();
      for (std::int64_t i = 0; i < size(); ++i) {
        Hasher hasher;
        for (const auto label : labels_of(i)) hasher.number(label);
        parts_.digests[static_cast<std::size_t>(i)] = hasher.bytes(stored(i)).finish();
      }
    });
    buffer_.publish();
  }

  [[nodiscard]] std::int64_t size() const override { return info_.samples; }
  [[nodiscard]] const Shape& sample_shape() const override { return info_.shape; }
  [[nodiscard]] int classes() const override { return classes_; }
  [[nodiscard]] std::int32_t label(std::int64_t i) const override { return labels_of(i).front(); }
  [[nodiscard]] std::int64_t labels_per_sample() const override { return info_.labels_per_sample; }
  void labels(std::int64_t i, std::span<std::int32_t> out) const override {
    std::ranges::copy(labels_of(i), out.begin());
  }
  [[nodiscard]] std::uint64_t id(std::int64_t i) const override { return static_cast<std::uint64_t>(i); }
  [[nodiscard]] const Digest& digest(std::int64_t i) const override {
    return parts_.digests[static_cast<std::size_t>(i)];
  }

  void get(std::int64_t i, std::span<float> out) const override {
    const auto bytes = stored(i);
    if (info_.element == io::ElementType::kFloat32) {
      std::memcpy(out.data(), bytes.data(), bytes.size());
    } else {
      std::transform(bytes.begin(), bytes.end(), out.begin(),
                     [](std::byte b) { return static_cast<float>(b); });
    }
  }

 private:
  [[nodiscard]] std::span<const std::byte> stored(std::int64_t i) const {
    const auto each = io::element_size(info_.element) * static_cast<std::size_t>(info_.shape.elements());
    return parts_.samples.subspan(static_cast<std::size_t>(i) * each, each);
  }

  [[nodiscard]] std::span<const std::int32_t> labels_of(std::int64_t i) const {
    const auto each = static_cast<std::size_t>(info_.labels_per_sample);
    return std::span<const std::int32_t>(parts_.labels).subspan(static_cast<std::size_t>(i) * each, each);
  }

  void check_labels() const {
    for (std::int64_t i = 0; i < size(); ++i) {
      for (const auto label : labels_of(i)) {
        if (label >= 0 && label < classes_) continue;
        throw Error("label outside the classes")
            .expected("0 to " + std::to_string(classes_ - 1))
            .got(std::to_string(label) + " at sample " + std::to_string(i))
            .hint("check `classes` of the dataset");
      }
    }
  }

  io::SampleInfo info_;
  int classes_;
  comm::NodeBuffer buffer_;
  Parts parts_;
};

class Subset final : public Dataset {
 public:
  Subset(DatasetPtr base, std::vector<std::int64_t> indices)
      : base_(std::move(base)), indices_(std::move(indices)) {}

  [[nodiscard]] std::int64_t size() const override { return static_cast<std::int64_t>(indices_.size()); }
  [[nodiscard]] const Shape& sample_shape() const override { return base_->sample_shape(); }
  [[nodiscard]] int classes() const override { return base_->classes(); }
  void get(std::int64_t i, std::span<float> out) const override { base_->get(at(i), out); }
  [[nodiscard]] const Encoding* encoding() const override { return base_->encoding(); }
  void get_stored(std::int64_t i, std::span<float> out) const override { base_->get_stored(at(i), out); }
  [[nodiscard]] std::int32_t label(std::int64_t i) const override { return base_->label(at(i)); }
  [[nodiscard]] std::int64_t labels_per_sample() const override { return base_->labels_per_sample(); }
  void labels(std::int64_t i, std::span<std::int32_t> out) const override { base_->labels(at(i), out); }
  [[nodiscard]] std::uint64_t id(std::int64_t i) const override { return base_->id(at(i)); }
  [[nodiscard]] const Digest& digest(std::int64_t i) const override { return base_->digest(at(i)); }

 private:
  [[nodiscard]] std::int64_t at(std::int64_t i) const { return indices_[static_cast<std::size_t>(i)]; }

  DatasetPtr base_;
  std::vector<std::int64_t> indices_;
};

}  // namespace

DatasetPtr read_dataset(const comm::Comm& comm, io::SampleSource& source, const std::string& name,
                        int classes) {
  return std::make_shared<NodeDataset>(comm, source, name, classes);
}

DatasetPtr subset(DatasetPtr base, std::vector<std::int64_t> indices) {
  return std::make_shared<Subset>(std::move(base), std::move(indices));
}

Digest fingerprint(const Dataset& dataset) {
  Hasher hasher;
  hasher.number(dataset.size()).number(dataset.classes());
  for (const auto d : dataset.sample_shape().dims()) hasher.number(d);
  for (std::int64_t i = 0; i < dataset.size(); ++i)
    hasher.bytes(std::as_bytes(std::span(dataset.digest(i).bytes)));
  return hasher.finish();
}

}  // namespace impart::data
