// Each class equally often, however many samples it has.

#include <algorithm>
#include <utility>
#include <vector>

#include "data/samplers/samplers.hpp"
#include "impart/core/rng.hpp"

namespace impart::data {

namespace {

/// Goes round the classes, in a new order each time; a class gives its samples in a random order, all of them
/// before any comes again. So in any run of steps, classes are drawn equally often, up to one draw, and so are
/// the samples of each class.
class BalancedSequence final : public SampleSequence {
 public:
  BalancedSequence(const Dataset& dataset, std::int64_t batch_size, std::uint64_t seed)
      : batch_size_(batch_size), seed_(seed) {
    std::vector<Class> classes(static_cast<std::size_t>(dataset.classes()));
    for (std::int64_t row = 0; row < dataset.size(); ++row) {
      classes[static_cast<std::size_t>(dataset.label(row))].rows.push_back(row);
    }
    for (std::size_t label = 0; label < classes.size(); ++label) {
      if (classes[label].rows.empty()) continue;  // a part of a data set need not have all classes
      classes[label].label = label;
      classes_.push_back(std::move(classes[label]));
    }
  }

  std::span<const Draw> draws(std::int64_t step) override {
    draws_.clear();
    const auto number = static_cast<std::int64_t>(classes_.size());
    for (auto at = step * batch_size_; at < (step + 1) * batch_size_; ++at) {
      const auto round = at / number;
      if (round != round_) {
        turns_ = Rng(seed_, "balanced classes", 0, static_cast<std::uint64_t>(round)).permutation(number);
        round_ = round;
      }
      const auto turn = turns_[static_cast<std::size_t>(at % number)];
      draws_.push_back(draw(classes_[static_cast<std::size_t>(turn)], round));
    }
    return draws_;
  }

 private:
  struct Class {
    std::uint64_t label = 0;
    std::vector<std::int64_t> rows;
    std::int64_t pass = -1;  // of `order`
    std::vector<std::int64_t> order;
  };

  /// The one that class `from` gives for the `count`-th time.
  Draw draw(Class& from, std::int64_t count) const {
    const auto size = static_cast<std::int64_t>(from.rows.size());
    const auto pass = count / size;
    if (pass != from.pass) {
      from.order = Rng(seed_, "balanced", from.label, static_cast<std::uint64_t>(pass)).permutation(size);
      from.pass = pass;
    }
    const auto place = from.order[static_cast<std::size_t>(count % size)];
    return {from.rows[static_cast<std::size_t>(place)], pass};
  }

  std::int64_t batch_size_;
  std::uint64_t seed_;
  std::vector<Class> classes_;  // those that have samples
  std::int64_t round_ = -1;     // of `turns_`
  std::vector<std::int64_t> turns_;
  std::vector<Draw> draws_;
};

class Balanced final : public Sampler {
 public:
  [[nodiscard]] SamplerTraits traits() const override { return {.one_label = true}; }
  [[nodiscard]] std::unique_ptr<SampleSequence> over(DatasetPtr dataset, std::int64_t batch_size,
                                                     std::uint64_t seed) const override {
    return std::make_unique<BalancedSequence>(*dataset, batch_size, seed);
  }
};

}  // namespace

SamplerPtr make_balanced(Settings& /*settings*/) { return std::make_shared<Balanced>(); }

}  // namespace impart::data
