#include "train/shard_losses.hpp"

#include <algorithm>

#include "impart/nn/shard_tree.hpp"
#include "impart/train/training_state.hpp"

namespace impart::train {

namespace {

const data::ShardBatch& stream_of(const data::Batch& batch, std::size_t stream, std::size_t shard) {
  return stream == 0 ? batch.shards[shard] : batch.more[stream - 1][shard];
}

nn::Targets targets_of(const data::ShardBatch& shard) {
  return {
      .labels = shard.labels, .rows = shard.rows, .other_labels = shard.other_labels, .share = shard.lambda};
}

/// Part `i` of `count` equal ones; of nothing, nothing.
template <class T>
std::span<T> part_of(std::span<T> values, std::size_t i, std::size_t count) {
  const auto size = values.size() / count;
  return values.subspan(i * size, size);
}

/// So many samples, from `begin` on, of values that are `each` of a sample.
template <class T>
std::span<T> samples_of(std::span<T> values, std::size_t begin, std::size_t count, std::size_t each) {
  return values.empty() ? values : values.subspan(begin * each, count * each);
}

}  // namespace

ShardLosses::ShardLosses(const nn::Objective& objective, std::int64_t classes)
    : objective_(objective), classes_(classes), worker_(objective.worker()) {
  const auto needs = objective.needs();
  taps_ = needs.taps.size();
  if (!needs.parts.empty()) parts_ = part_layout(needs);
}

void ShardLosses::load(const StateDict& state) {
  if (worker_) worker_->load(state);
}

void ShardLosses::evaluate(const ComputedShards& shards, float scale, std::span<float> gradient,
                           StateDict& gradients, std::span<ShardLoss> losses) {
  if (worker_) look_at(shards, gradient);
  for (std::size_t i = 0; i < shards.count; ++i) {
    const auto& shard = shards.batch.shards[shards.first + i];
    const auto targets = targets_of(shard);
    const double loss = worker_ ? by_worker(shards, i, scale, gradient)
                                : objective_.evaluate(part_of(shards.outputs, i, shards.count), targets,
                                                      classes_, scale, part_of(gradient, i, shards.count));
    losses[i] = {loss, objective_.weight(targets), static_cast<double>(shard.labels.size())};
  }
  if (parts_) put_part_gradients(gradients);
}

/// Clears all gradients, to which the worker adds.
void ShardLosses::look_at(const ComputedShards& shards, std::span<float> gradient) {
  std::fill(gradient.begin(), gradient.end(), 0.0F);
  for (std::size_t k = 0; k < taps_; ++k) {
    const auto tap = shards.network.tap_gradient(k);
    std::fill(tap.begin(), tap.end(), 0.0F);
  }
  if (parts_) part_gradients_.assign(shards.count * parts_->arena_size(), 0.0F);
  streams_.resize(1 + shards.batch.more.size());
  tapped_.resize(streams_.size() * taps_);
}

double ShardLosses::by_worker(const ComputedShards& shards, std::size_t i, float scale,
                              std::span<float> gradient) {
  const auto outputs = part_of(shards.outputs, i, shards.count);
  const auto slopes = part_of(gradient, i, shards.count);
  const auto all_ids = part_of(shards.pass.sample_ids, i, shards.count);
  const auto each = outputs.size() / all_ids.size();
  std::size_t begin = 0;
  for (std::size_t s = 0; s < streams_.size(); ++s) {
    const auto& shard = stream_of(shards.batch, s, shards.first + i);
    const auto count = static_cast<std::size_t>(shard.size);
    const std::span taps(tapped_.data() + s * taps_, taps_);
    for (std::size_t k = 0; k < taps_; ++k) {
      const auto values = part_of(shards.network.tap(k), i, shards.count);
      const auto tap_each = values.size() / all_ids.size();
      taps[k] = {
          samples_of(values, begin, count, tap_each),
          samples_of(part_of(shards.network.tap_gradient(k), i, shards.count), begin, count, tap_each)};
    }
    streams_[s] = {.samples = shard.size,
                   .targets = targets_of(shard),
                   .inputs = shard.inputs,
                   .sample_ids = shard.sample_ids,
                   .outputs = samples_of(outputs, begin, count, each),
                   .gradient = samples_of(slopes, begin, count, each),
                   .taps = taps};
    begin += count;
  }
  nn::ShardView view{.streams = streams_, .classes = classes_, .scale = scale, .pass = shards.pass};
  view.pass.sample_ids = all_ids;
  if (!parts_) return worker_->evaluate(view);
  auto part_gradients = StateDict::view(parts_, part_of(std::span(part_gradients_), i, shards.count));
  view.part_gradients = &part_gradients;
  return worker_->evaluate(view);
}

/// The sum over the shards, in their tree, to where the parts' tensors lie behind the model's.
void ShardLosses::put_part_gradients(StateDict& gradients) {
  nn::sum_in_tree(std::span(part_gradients_), parts_->arena_size());
  const auto sum = std::span(part_gradients_).first(parts_->arena_size());
  const auto parameters = sum.first(parts_->parameter_arena_size());
  const auto buffers = sum.subspan(parameters.size());
  std::ranges::copy(parameters, gradients.parameters().last(parameters.size()).begin());
  std::ranges::copy(buffers, gradients.buffers().last(buffers.size()).begin());
}

}  // namespace impart::train
