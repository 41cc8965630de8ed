// Decorators that change samples: resizing and encoding.

#include <algorithm>
#include <cmath>
#include <utility>

#include "impart/core/error.hpp"
#include "impart/data/dataset.hpp"

namespace impart::data {

namespace {

/// Everything but the samples' values comes from the dataset beneath.
class Decorator : public Dataset {
 public:
  explicit Decorator(DatasetPtr base) : base_(std::move(base)) {}

  [[nodiscard]] std::int64_t size() const override { return base_->size(); }
  [[nodiscard]] const Shape& sample_shape() const override { return base_->sample_shape(); }
  [[nodiscard]] int classes() const override { return base_->classes(); }
  [[nodiscard]] std::int32_t label(std::int64_t i) const override { return base_->label(i); }
  [[nodiscard]] std::int64_t labels_per_sample() const override { return base_->labels_per_sample(); }
  void labels(std::int64_t i, std::span<std::int32_t> out) const override { base_->labels(i, out); }
  [[nodiscard]] std::uint64_t id(std::int64_t i) const override { return base_->id(i); }
  [[nodiscard]] const Digest& digest(std::int64_t i) const override { return base_->digest(i); }

 protected:
  [[nodiscard]] const Dataset& base() const { return *base_; }

 private:
  DatasetPtr base_;
};

class Resized final : public Decorator {
 public:
  Resized(DatasetPtr base, std::int64_t height, std::int64_t width) : Decorator(std::move(base)) {
    const auto& from = this->base().sample_shape();
    if (from.rank() != 3) {
      throw Error("only images can be resized").expected("samples of shape CxHxW").got(from.str());
    }
    shape_ = Shape{from[0], height, width};
    rows_ = taps(from[1], height);
    columns_ = taps(from[2], width);
  }

  [[nodiscard]] const Shape& sample_shape() const override { return shape_; }

  void get(std::int64_t i, std::span<float> out) const override {
    const auto& from = base().sample_shape();
    // Samples are fetched by the loader's thread and by evaluation threads, each with scratch of its own.
    thread_local std::vector<float> source;
    source.resize(static_cast<std::size_t>(from.elements()));
    base().get(i, source);
    auto* value = out.data();
    for (std::int64_t c = 0; c < from[0]; ++c) {
      const float* plane = source.data() + c * from[1] * from[2];
      for (const auto& y : rows_) {
        const float* upper = plane + y.low * from[2];
        const float* lower = plane + y.high * from[2];
        for (const auto& x : columns_) {
          const float a = upper[x.low] + (upper[x.high] - upper[x.low]) * x.part;
          const float b = lower[x.low] + (lower[x.high] - lower[x.low]) * x.part;
          *value++ = a + (b - a) * y.part;
        }
      }
    }
  }

 private:
  /// The two source positions that an output position lies between, and how near it is to the second.
  struct Tap {
    std::int64_t low = 0;
    std::int64_t high = 0;
    float part = 0;
  };

  static std::vector<Tap> taps(std::int64_t from, std::int64_t to) {
    std::vector<Tap> result;
    const double ratio = static_cast<double>(from) / static_cast<double>(to);
    for (std::int64_t i = 0; i < to; ++i) {
      const double at = std::max(0.0, (static_cast<double>(i) + 0.5) * ratio - 0.5);
      const auto low = std::min(static_cast<std::int64_t>(at), from - 1);
      result.push_back({low, std::min(low + 1, from - 1), static_cast<float>(at - static_cast<double>(low))});
    }
    return result;
  }

  Shape shape_;
  std::vector<Tap> rows_;
  std::vector<Tap> columns_;
};

class Encoded final : public Decorator {
 public:
  Encoded(DatasetPtr base, Encoding encoding) : Decorator(std::move(base)), encoding_(std::move(encoding)) {
    const auto& n = encoding_.normalisation;
    const auto channels = static_cast<std::size_t>(channels_of(this->base().sample_shape()));
    if (n.deviation.size() != n.mean.size() || (!n.mean.empty() && n.mean.size() != channels)) {
      throw Error("means and deviations do not fit the channels")
          .expected(std::to_string(channels) + " of each")
          .got(std::to_string(n.mean.size()) + " and " + std::to_string(n.deviation.size()));
    }
    for (std::size_t c = 0; c < channels; ++c) {
      const double deviation = n.mean.empty() ? 1.0 : n.deviation[c];
      if (!(deviation > 0)) throw Error("a deviation must be positive").got(std::to_string(deviation));
      factor_.push_back(static_cast<float>(n.scale / deviation));
      offset_.push_back(n.mean.empty() ? 0.0F : static_cast<float>(-n.mean[c] / deviation));
    }
  }

  [[nodiscard]] const Encoding* encoding() const override { return &encoding_; }
  void get_stored(std::int64_t i, std::span<float> out) const override { base().get_stored(i, out); }
  void get(std::int64_t i, std::span<float> out) const override {
    get_stored(i, out);
    const auto plane = out.size() / factor_.size();
    for (std::size_t c = 0; c < factor_.size(); ++c) {
      for (auto& x : out.subspan(c * plane, plane)) x = x * factor_[c] + offset_[c];
    }
  }

 private:
  Encoding encoding_;
  std::vector<float> factor_;  // by channel
  std::vector<float> offset_;
};

/// A text whose characters have other indices than in its own vocabulary.
class Recoded final : public Decorator {
 public:
  Recoded(DatasetPtr base, const Encoding& encoding) : Decorator(std::move(base)), encoding_(encoding) {
    const auto& known = encoding_.vocabulary;
    for (const char character : this->base().encoding()->vocabulary) {
      const auto found = known.find(character);
      if (found == std::string::npos) {
        throw Error("the text has a character that the model's vocabulary does not have")
            .expected("one of the " + std::to_string(known.size()) + " that it was trained on")
            .got("byte " + std::to_string(static_cast<unsigned char>(character)));
      }
      index_.push_back(static_cast<std::int32_t>(found));
    }
  }

  [[nodiscard]] int classes() const override { return static_cast<int>(encoding_.vocabulary.size()); }
  [[nodiscard]] const Encoding* encoding() const override { return &encoding_; }
  void get_stored(std::int64_t i, std::span<float> out) const override { base().get_stored(i, out); }
  void get(std::int64_t i, std::span<float> out) const override {
    base().get(i, out);
    for (auto& x : out) x = static_cast<float>(index_[static_cast<std::size_t>(x)]);
  }
  [[nodiscard]] std::int32_t label(std::int64_t i) const override {
    return index_[static_cast<std::size_t>(base().label(i))];
  }
  void labels(std::int64_t i, std::span<std::int32_t> out) const override {
    base().labels(i, out);
    for (auto& label : out) label = index_[static_cast<std::size_t>(label)];
  }

 private:
  Encoding encoding_;
  std::vector<std::int32_t> index_;  // in the model's vocabulary, by the dataset's
};

}  // namespace

DatasetPtr resize(DatasetPtr base, std::int64_t height, std::int64_t width) {
  return std::make_shared<Resized>(std::move(base), height, width);
}

std::int64_t channels_of(const Shape& sample) { return sample.rank() == 3 ? sample[0] : 1; }

DatasetPtr encode(DatasetPtr base, Encoding encoding) {
  return std::make_shared<Encoded>(std::move(base), std::move(encoding));
}

DatasetPtr encoded_as(const DatasetPtr& dataset, const Encoding& wanted) {
  auto encoding = wanted;
  const auto* own = dataset->encoding();
  if (own != nullptr) {
    encoding.normalisation.scale = own->normalisation.scale;
    if (encoding == *own) return dataset;
  }
  const bool text = own != nullptr && !own->vocabulary.empty();
  if (text != !wanted.vocabulary.empty()) {
    throw Error(text ? "the model was not trained on text"
                     : "the model was trained on text, and reads nothing else");
  }
  if (text) return std::make_shared<Recoded>(dataset, encoding);
  return encode(dataset, std::move(encoding));
}

Normalisation channel_statistics(const comm::Comm& comm, const Dataset& dataset, double scale) {
  constexpr std::int64_t kBlock = 256;  // samples; a block is summed by one rank, whatever their number
  const auto channels = static_cast<std::size_t>(channels_of(dataset.sample_shape()));
  const auto elements = static_cast<std::size_t>(dataset.sample_shape().elements());
  const auto plane = elements / channels;
  const auto blocks = (dataset.size() + kBlock - 1) / kBlock;

  std::vector<double> sums(static_cast<std::size_t>(blocks) * channels * 2);  // (block, channel, {x, x^2})
  std::vector<float> sample(elements);
  for (std::int64_t block = comm.rank(); block < blocks; block += comm.size()) {
    auto* sum = &sums[static_cast<std::size_t>(block) * channels * 2];
    const auto end = std::min((block + 1) * kBlock, dataset.size());
    for (std::int64_t i = block * kBlock; i < end; ++i) {
      dataset.get(i, sample);
      for (std::size_t c = 0; c < channels; ++c) {
        for (std::size_t p = 0; p < plane; ++p) {
          const double x = scale * static_cast<double>(sample[c * plane + p]);
          sum[2 * c] += x;
          sum[2 * c + 1] += x * x;
        }
      }
    }
  }
  comm.sum_in_place(std::span(sums), "channel statistics");

  Normalisation result{scale, {}, {}};
  const double count = static_cast<double>(dataset.size()) * static_cast<double>(plane);
  for (std::size_t c = 0; c < channels; ++c) {
    double x = 0;
    double xx = 0;
    for (std::size_t block = 0; block < static_cast<std::size_t>(blocks); ++block) {
      x += sums[(block * channels + c) * 2];
      xx += sums[(block * channels + c) * 2 + 1];
    }
    const double mean = count > 0 ? x / count : 0;
    const double variance = count > 0 ? std::max(0.0, xx / count - mean * mean) : 0;
    result.mean.push_back(mean);
    // Rounding leaves a constant channel with a tiny variance; dividing by its root would blow up what is
    // noise.
    result.deviation.push_back(variance > 1e-12 * (1 + mean * mean) ? std::sqrt(variance) : 1.0);
  }
  return result;
}

}  // namespace impart::data
