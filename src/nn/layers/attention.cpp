// multi_head_attention (Vaswani et al. 2017, section 3.2), with PyTorch's parameters.
//
// Projections are convolutions of 1x1 over all steps of the batch; what follows happens for each sample and
// each head on its own.
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <memory>
#include <vector>

#include "impart/core/aligned.hpp"
#include "impart/core/error.hpp"
#include "impart/core/rng.hpp"
#include "nn/kernels/kernels.hpp"
#include "nn/kernels/projection.hpp"
#include "nn/layers/layers.hpp"

namespace impart::nn {

namespace {

/// A matrix within a larger one: rows are `stride` values apart.
struct Block {
  float* values = nullptr;
  std::int64_t rows = 0;
  std::int64_t columns = 0;
  std::int64_t stride = 0;
};

std::size_t panel_floats(std::int64_t depth, std::int64_t columns) {
  const auto width = kernels().tile_columns;
  return static_cast<std::size_t>((columns + width - 1) / width * width * depth);
}

/// b into panels, as Product::b.
void pack(const Block& b, float* panels) {
  const auto width = kernels().tile_columns;
  for (std::int64_t column = 0; column < b.columns; column += width) {
    const std::int64_t count = std::min(width, b.columns - column);
    for (std::int64_t d = 0; d < b.rows; ++d, panels += width) {
      std::copy_n(b.values + d * b.stride + column, count, panels);
    }
  }
}

/// b' into panels.
void pack_transposed(const Block& b, std::span<std::int64_t> places, float* panels) {
  const auto width = kernels().tile_columns;
  for (std::int64_t d = 0; d < b.columns; ++d) places[static_cast<std::size_t>(d)] = d * width;
  for (std::int64_t row = 0; row < b.rows; row += width, panels += b.columns * width) {
    kernels().transpose({.rows = std::min(width, b.rows - row),
                         .columns = b.columns,
                         .from = b.values + row * b.stride,
                         .stride = b.stride,
                         .to = panels,
                         .to_row = places.data()});
  }
}

/// b' row-major.
void transpose(const Block& b, std::span<std::int64_t> places, float* to) {
  for (std::int64_t d = 0; d < b.columns; ++d) places[static_cast<std::size_t>(d)] = d * b.rows;
  kernels().transpose({.rows = b.rows,
                       .columns = b.columns,
                       .from = b.values,
                       .stride = b.stride,
                       .to = to,
                       .to_row = places.data()});
}

/// c = a b, with b in panels.
void multiply(const Block& a, const float* panels, const Block& c) {
  kernels().product({.rows = c.rows,
                     .columns = c.columns,
                     .depth = a.columns,
                     .a = a.values,
                     .a_stride = a.stride,
                     .b = panels,
                     .c = c.values,
                     .c_stride = c.stride});
}

enum Role : std::int64_t { kQuery, kKey, kValue };

class MultiHeadAttention final : public Layer {
 public:
  MultiHeadAttention(Settings& settings, const LayerContext& context)
      : name_(context.name), part_(context.part) {
    double rate = 0;
    settings.require("heads", heads_, extents(), "equal parts of the features that attend by themselves");
    settings.read("causal", causal_, "each step sees itself and those before it");
    settings.read("dropout", rate, below(0, 1), "share of the weights that training leaves out");
    rate_ = static_cast<float>(rate);
  }

  [[nodiscard]] Shape output_shape(std::span<const Shape> inputs) const override;
  [[nodiscard]] std::vector<ParameterSpec> parameters(std::span<const Shape> inputs) const override {
    const std::int64_t width = inputs[0][1];
    const std::int64_t own = width / part_.of;
    std::vector<ParameterSpec> tensors{
        {"in_proj_weight", {3 * own, width}, StateKind::kParameter, Init::kGlorot, width, 3 * width},
        {"in_proj_bias", {3 * own}},
        {"out_proj.weight", {width, own}, StateKind::kParameter, Init::kGlorot, width, width}};
    if (is_whole()) tensors.push_back({"out_proj.bias", {width}});
    return tensors;
  }

  void setup(const Setup& setup) override;
  void load(std::span<const std::span<const float>> state) override;
  [[nodiscard]] Needs needs() const override { return {.inputs = true, .output = false}; }
  [[nodiscard]] bool adds_gradients() const override { return true; }
  [[nodiscard]] Work work_of_pass() const override;
  void forward(const Pass& pass, Inputs inputs, std::span<float> output) override;
  void backward(const Pass& pass, const Backward& call) override;

 private:
  [[nodiscard]] bool is_whole() const { return part_.of == 1; }

  /// What is projected from one input: queries, keys and values lie side by side in its rows.
  struct Source {
    std::int64_t first = 0;  // role
    std::int64_t roles = 0;  // how many
    std::int64_t steps = 0;
    std::unique_ptr<Projection> projection;
    Kept<float> projected;  // (N, steps, roles * own width)
  };
  /// The scratch, behind what projections use there.
  enum Room : std::size_t { kPanels, kScores, kTransposed, kContextGradient, kGradients };

  void set_up_projections(const Setup& setup);
  void plan_scratch(const Setup& setup);
  [[nodiscard]] float* work(std::size_t k) const {
    return reinterpret_cast<float*>(scratch_->data() + offsets_[k]);
  }
  /// Queries, keys or values of one sample and head within `projected`, or their gradients.
  [[nodiscard]] Block block(Role role, std::int64_t sample, std::int64_t head, bool gradient = false);
  /// The same of (N, queries, own width).
  [[nodiscard]] Block block_of(float* values, std::int64_t sample, std::int64_t head) const {
    return {values + sample * queries_ * own_width_ + head * head_, queries_, head_, own_width_};
  }
  /// One of the maps of (N, heads, queries, keys), or the only one when evaluating.
  [[nodiscard]] Block map_of(const Kept<float>& maps, std::int64_t sample, std::int64_t head) const {
    const std::int64_t map = training_ ? sample * own_heads_ + head : 0;
    return {maps.data() + map * queries_ * keys_, queries_, keys_, keys_};
  }
  /// Keys that query `q` looks at.
  [[nodiscard]] std::int64_t seen(std::int64_t q) const { return causal_ ? q + 1 : keys_; }
  void attend(const Pass& pass, std::int64_t sample, std::int64_t head);
  void attend_backward(const Pass& pass, std::int64_t sample, std::int64_t head);
  /// `from` without those weights that dropout takes away, the others scaled.
  void drop(const Pass& pass, std::int64_t sample, std::int64_t head, const Block& from,
            const Block& to) const;
  [[nodiscard]] bool drops(const Pass& pass) const { return pass.training && rate_ > 0; }

  std::string name_;
  Part part_;
  std::int64_t heads_ = 1;  // of all parts
  bool causal_ = false;
  float rate_ = 0;

  bool training_ = false;
  std::int64_t batch_ = 0;
  std::int64_t width_ = 0;      // of all parts' heads
  std::int64_t own_heads_ = 1;  // of this part
  std::int64_t own_width_ = 0;  // of them
  std::int64_t head_ = 0;       // of one
  std::int64_t queries_ = 0;    // steps
  std::int64_t keys_ = 0;
  std::vector<std::string> purposes_;  // of each head's random numbers
  std::vector<Source> sources_;        // of each input
  std::unique_ptr<Projection> out_;
  Kept<float> weights_;               // (N, heads, queries, keys)
  Kept<float> dropped_;               // the same after dropout, when there is any
  Kept<float> context_;               // (N, queries, own width): what the heads have found
  std::vector<std::int64_t> places_;  // for transposing
  std::vector<std::size_t> offsets_;  // of Room, in bytes; a source's gradient each from kGradients
  Scratch* scratch_ = nullptr;
};

Shape MultiHeadAttention::output_shape(std::span<const Shape> inputs) const {
  if (inputs.empty() || inputs.size() > 3) {
    throw Error("attention reads one input, or queries and a memory, or queries, keys and values",
                ErrorKind::kUsage)
        .got(fmt::format("{} in `from`", inputs.size()));
  }
  const Shape& query = sequence_shape(inputs[0]);
  for (const auto& input : inputs) {
    if (sequence_shape(input)[1] == query[1]) continue;
    throw Error("the inputs of attention differ in their features", ErrorKind::kUsage)
        .expected(fmt::format("{}, as the first one", query[1]))
        .got(input.str())
        .hint("a dense layer changes the features");
  }
  if (inputs.size() == 3 && inputs[1] != inputs[2]) {
    throw Error("keys and values differ in shape", ErrorKind::kUsage)
        .expected(inputs[1].str())
        .got(inputs[2].str());
  }
  if (query[1] % heads_ != 0) {
    throw Error("`heads` does not divide the features", ErrorKind::kUsage)
        .expected(fmt::format("a divisor of {}", query[1]))
        .got(fmt::format("{}", heads_));
  }
  if (causal_ && inputs.back()[0] != query[0]) {
    throw Error("causal attention needs as many keys as queries", ErrorKind::kUsage)
        .expected(fmt::format("{} steps", query[0]))
        .got(fmt::format("{}", inputs.back()[0]));
  }
  return query;
}

void MultiHeadAttention::setup(const Setup& setup) {
  training_ = setup.training;
  batch_ = setup.inputs[0][0];
  queries_ = setup.inputs[0][1];
  width_ = setup.inputs[0][2];
  keys_ = setup.inputs.back()[1];
  head_ = width_ / heads_;
  own_heads_ = heads_ / part_.of;
  own_width_ = own_heads_ * head_;
  scratch_ = setup.scratch;
  purposes_.clear();
  for (std::int64_t head = 0; head < own_heads_; ++head)
    purposes_.push_back(fmt::format("dropout:{}:{}", name_, part_.index * own_heads_ + head));
  set_up_projections(setup);
  const std::int64_t maps = training_ ? batch_ * own_heads_ : 1;
  setup.keep(weights_, static_cast<std::size_t>(maps * queries_ * keys_));
  if (training_ && rate_ > 0) setup.keep(dropped_, weights_.size());
  setup.keep(context_, static_cast<std::size_t>(batch_ * queries_ * own_width_));
  places_.resize(static_cast<std::size_t>(std::max({queries_, keys_, head_})));
  plan_scratch(setup);
}

// The last input gives all roles that are left: with one input all three, with two keys and values.
void MultiHeadAttention::set_up_projections(const Setup& setup) {
  Projection::Options options{.width = own_width_,
                              .shards = setup.shards,
                              .bias = is_whole(),
                              .data_gradient = setup.training,
                              .weight_gradient = setup.training && setup.trainable};
  options.rows = batch_ * queries_;
  options.outputs = width_;
  out_ = std::make_unique<Projection>(options, *scratch_);
  options.width = width_;
  options.bias = true;
  sources_ = std::vector<Source>(setup.inputs.size());
  for (std::size_t k = 0; k < setup.inputs.size(); ++k) {
    Source& source = sources_[k];
    source.first = static_cast<std::int64_t>(k);
    source.roles = k + 1 == setup.inputs.size() ? 3 - source.first : 1;
    source.steps = setup.inputs[k][1];
    options.rows = batch_ * source.steps;
    options.outputs = source.roles * own_width_;
    options.data_gradient = setup.training && setup.need_input_gradient[k];
    source.projection = std::make_unique<Projection>(options, *scratch_);
    setup.keep(source.projected, static_cast<std::size_t>(options.rows * options.outputs));
  }
}

void MultiHeadAttention::plan_scratch(const Setup& setup) {
  std::size_t end = out_->scratch_bytes();
  for (const auto& source : sources_) end = std::max(end, source.projection->scratch_bytes());
  offsets_.clear();
  const auto place = [&](std::size_t floats) {
    end = (end + kAlignment - 1) / kAlignment * kAlignment;
    offsets_.push_back(end);
    end += floats * sizeof(float);
  };
  const std::int64_t steps = std::max(queries_, keys_);
  place(std::max(panel_floats(head_, steps), panel_floats(steps, head_)));
  place(static_cast<std::size_t>(queries_ * keys_));
  place(static_cast<std::size_t>(queries_ * keys_));
  if (setup.training) {
    place(context_.size());
    for (const auto& source : sources_) place(source.projected.size());
  }
  scratch_->reserve(end);
}

void MultiHeadAttention::load(std::span<const std::span<const float>> state) {
  for (auto& source : sources_) {
    source.projection->load(state[0].data() + source.first * own_width_ * width_,
                            state[1].data() + source.first * own_width_);
  }
  out_->load(state[2].data(), is_whole() ? state[3].data() : nullptr);
}

// The projections, and two products of all heads: queries with keys, weights with values. Each of these two
// has two gradients.
Work MultiHeadAttention::work_of_pass() const {
  Work work = out_->work();
  for (const auto& source : sources_) {
    const Work more = source.projection->work();
    work.forward += more.forward;
    work.backward += more.backward;
  }
  const double product = 2.0 * static_cast<double>(batch_ * queries_ * keys_ * own_width_);
  work.forward += 2 * product;
  if (training_) work.backward += 4 * product;
  return work;
}

Block MultiHeadAttention::block(Role role, std::int64_t sample, std::int64_t head, bool gradient) {
  const std::size_t k = std::min(static_cast<std::size_t>(role), sources_.size() - 1);
  auto& source = sources_[k];
  float* values = gradient ? work(kGradients + k) : source.projected.data();
  const std::int64_t stride = source.roles * own_width_;
  const std::int64_t column = (role - source.first) * own_width_ + head * head_;
  return {values + sample * source.steps * stride + column, source.steps, head_, stride};
}

void MultiHeadAttention::drop(const Pass& pass, std::int64_t sample, std::int64_t head, const Block& from,
                              const Block& to) const {
  Rng rng(pass.seed, purposes_[static_cast<std::size_t>(head)],
          pass.sample_ids[static_cast<std::size_t>(sample)], pass.step);
  const float kept = 1.0F / (1.0F - rate_);
  for (std::int64_t q = 0; q < queries_; ++q) {
    const float* values = from.values + q * keys_;
    float* row = to.values + q * keys_;
    for (std::int64_t k = 0; k < seen(q); ++k) row[k] = rng.uniform() < rate_ ? 0.0F : values[k] * kept;
    std::fill(row + seen(q), row + keys_, 0.0F);
  }
}

void MultiHeadAttention::forward(const Pass& pass, Inputs inputs, std::span<float> output) {
  if (drops(pass)) {
    if (pass.sample_ids.size() != static_cast<std::size_t>(batch_)) {
      throw Error("dropout needs the id of each sample of the batch");
    }
    if (dropped_.size() == 0) throw Error("a network that was built for evaluation cannot train");
  }
  for (std::size_t k = 0; k < sources_.size(); ++k) {
    sources_[k].projection->forward(inputs[k].data(), sources_[k].projected.data());
  }
  for (std::int64_t sample = 0; sample < batch_; ++sample) {
    for (std::int64_t head = 0; head < own_heads_; ++head) attend(pass, sample, head);
  }
  out_->forward(context_.data(), output.data());
}

// softmax(Q K' / sqrt(head)) V: equation 1.
void MultiHeadAttention::attend(const Pass& pass, std::int64_t sample, std::int64_t head) {
  const Block weights = map_of(weights_, sample, head);
  pack_transposed(block(kKey, sample, head), places_, work(kPanels));
  multiply(block(kQuery, sample, head), work(kPanels), weights);
  const float scale = 1.0F / std::sqrt(static_cast<float>(head_));
  for (std::int64_t q = 0; q < queries_; ++q) {
    float* row = weights.values + q * keys_;
    kernels().softmax(seen(q), scale, row, row);
    std::fill(row + seen(q), row + keys_, 0.0F);
  }
  if (drops(pass)) drop(pass, sample, head, weights, map_of(dropped_, sample, head));
  pack(block(kValue, sample, head), work(kPanels));
  multiply(map_of(drops(pass) ? dropped_ : weights_, sample, head), work(kPanels),
           block_of(context_.data(), sample, head));
}

void MultiHeadAttention::backward(const Pass& pass, const Backward& call) {
  const bool trains = !call.gradients[0].empty();
  if (trains) {
    out_->weight_gradient(context_.data(), call.grad_output.data(), call.gradients[2].data(),
                          is_whole() ? call.gradients[3].data() : nullptr);
  }
  out_->data_gradient(call.grad_output.data(), work(kContextGradient), false);
  for (std::int64_t sample = 0; sample < batch_; ++sample) {
    for (std::int64_t head = 0; head < own_heads_; ++head) attend_backward(pass, sample, head);
  }
  for (std::size_t k = 0; k < sources_.size(); ++k) {
    auto& source = sources_[k];
    const float* gradient = work(kGradients + k);
    if (trains) {
      source.projection->weight_gradient(call.inputs[k].data(), gradient,
                                         call.gradients[0].data() + source.first * own_width_ * width_,
                                         call.gradients[1].data() + source.first * own_width_);
    }
    const auto& to = call.grad_inputs[k];
    if (!to.values.empty()) source.projection->data_gradient(gradient, to.values.data(), to.add);
  }
}

void MultiHeadAttention::attend_backward(const Pass& pass, std::int64_t sample, std::int64_t head) {
  const Block context = block_of(work(kContextGradient), sample, head);
  const Block weights = map_of(weights_, sample, head);
  const Block used = map_of(drops(pass) ? dropped_ : weights_, sample, head);
  const Block scores{work(kScores), queries_, keys_, keys_};
  const Block transposed{work(kTransposed), keys_, queries_, queries_};
  // Values: the weights, transposed, times the gradient of what was found.
  transpose(used, places_, transposed.values);
  pack(context, work(kPanels));
  multiply(transposed, work(kPanels), block(kValue, sample, head, true));
  // Scores, through the softmax.
  pack_transposed(block(kValue, sample, head), places_, work(kPanels));
  multiply(context, work(kPanels), scores);
  if (drops(pass)) {  // a weight of zero passes nothing on, whether it was dropped or not
    const float kept = 1.0F / (1.0F - rate_);
    for (std::int64_t i = 0; i < queries_ * keys_; ++i) {
      scores.values[i] = used.values[i] > 0 ? scores.values[i] * kept : 0.0F;
    }
  }
  const float scale = 1.0F / std::sqrt(static_cast<float>(head_));
  for (std::int64_t q = 0; q < queries_; ++q) {
    float* row = scores.values + q * keys_;
    kernels().softmax_backward(seen(q), scale, weights.values + q * keys_, row, row);
    std::fill(row + seen(q), row + keys_, 0.0F);
  }
  // Queries and keys.
  pack(block(kKey, sample, head), work(kPanels));
  multiply(scores, work(kPanels), block(kQuery, sample, head, true));
  transpose(scores, places_, transposed.values);
  pack(block(kQuery, sample, head), work(kPanels));
  multiply(transposed, work(kPanels), block(kKey, sample, head, true));
}

}  // namespace

std::unique_ptr<Layer> make_multi_head_attention(Settings& settings, const LayerContext& context) {
  return std::make_unique<MultiHeadAttention>(settings, context);
}

}  // namespace impart::nn
