// A dataset that counts how often each sample is read, for tests of who reads what.
#pragma once

#include <atomic>
#include <chrono>
#include <functional>
#include <numeric>
#include <thread>
#include <utility>
#include <vector>

#include "impart/comm/comm.hpp"
#include "impart/data/dataset.hpp"

namespace impart::testing_support {

class CountingDataset final : public data::Dataset {
 public:
  /// Each read takes at least `pause`, and calls `on_read`, if there is one.
  explicit CountingDataset(data::DatasetPtr base, std::chrono::microseconds pause = {},
                           std::function<void(std::int64_t i)> on_read = {})
      : base_(std::move(base)),
        pause_(pause),
        on_read_(std::move(on_read)),
        reads_(static_cast<std::size_t>(base_->size())) {}

  [[nodiscard]] std::int64_t size() const override { return base_->size(); }
  [[nodiscard]] const Shape& sample_shape() const override { return base_->sample_shape(); }
  [[nodiscard]] int classes() const override { return base_->classes(); }
  void get(std::int64_t i, std::span<float> out) const override {
    ++reads_[static_cast<std::size_t>(i)];
    if (on_read_) on_read_(i);
    if (pause_.count() > 0) std::this_thread::sleep_for(pause_);
    base_->get(i, out);
  }
  [[nodiscard]] std::int32_t label(std::int64_t i) const override { return base_->label(i); }
  [[nodiscard]] std::uint64_t id(std::int64_t i) const override { return base_->id(i); }
  [[nodiscard]] const Digest& digest(std::int64_t i) const override { return base_->digest(i); }

  /// How often this rank has read each sample.
  [[nodiscard]] std::vector<std::int64_t> reads() const { return {reads_.begin(), reads_.end()}; }
  /// How often all ranks together have.
  [[nodiscard]] std::vector<std::int64_t> reads(const comm::Comm& comm) const {
    auto all = reads();
    comm.sum_in_place(std::span(all), "reads");
    return all;
  }

 private:
  data::DatasetPtr base_;
  std::chrono::microseconds pause_;
  std::function<void(std::int64_t i)> on_read_;
  mutable std::vector<std::atomic<std::int64_t>> reads_;
};

}  // namespace impart::testing_support
