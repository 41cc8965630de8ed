#include "nn/kernels/conv_primitives.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <optional>

#include "impart/core/error.hpp"
#include "impart/nn/shard_tree.hpp"
#include "nn/kernels/dnnl_util.hpp"

namespace impart::nn {

namespace {

using Desc = dnnl::memory::desc;
using Tag = dnnl::memory::format_tag;
constexpr auto kFloat = dnnl::memory::data_type::f32;

// Memory whose values the caller owns and points to at each execution.
dnnl::memory unowned(const Desc& desc) { return {desc, cpu_engine(), DNNL_MEMORY_NONE}; }

std::size_t round_up(std::size_t bytes) { return (bytes + kAlignment - 1) / kAlignment * kAlignment; }

// A copy of weights with another order of the values.
class Reorder {
 public:
  Reorder(const Desc& from, const Desc& to, Scratch& scratch) {
    const dnnl::reorder::primitive_desc desc(cpu_engine(), from, cpu_engine(), to, user_scratchpad());
    call_ = Call(dnnl::reorder(desc), desc.scratchpad_desc(), scratch);
    call_.bind(DNNL_ARG_FROM, unowned(from));
    call_.bind(DNNL_ARG_TO, unowned(to));
  }
  [[nodiscard]] std::size_t scratch_bytes() const { return call_.scratch_bytes(); }
  void run(const float* from, float* to) {
    call_.point(DNNL_ARG_FROM, from);
    call_.point(DNNL_ARG_TO, to);
    call_.execute();
  }

 private:
  Call call_;
};

// Weights in the order that a primitive wants.
class PackedWeight {
 public:
  PackedWeight(const Desc& canonical, const Desc& packed, Scratch& scratch)
      : memory_(packed, cpu_engine()), pack_(canonical, packed, scratch) {
    scratch.count_table(packed.get_size());
  }
  [[nodiscard]] dnnl::memory memory() const { return memory_; }
  [[nodiscard]] std::size_t scratch_bytes() const { return pack_.scratch_bytes(); }
  void load(const float* weight) { pack_.run(weight, static_cast<float*>(memory_.get_data_handle())); }

 private:
  dnnl::memory memory_;
  Reorder pack_;
};

// A convolution of one shard, in oneDNN's words.
struct Shapes {
  Shapes(const ConvGeometry& g, bool has_bias)
      : x({g.batch / g.shards, g.channels, g.height, g.width}, kFloat, Tag::nhwc),
        y({g.batch / g.shards, g.filters, g.out_height, g.out_width}, kFloat, Tag::nhwc),
        strides{g.window.stride, g.window.stride},
        dilation{g.window.dilation - 1, g.window.dilation - 1},
        padding{g.window.padding, g.window.padding} {
    dnnl::memory::dims extents{g.filters, g.channels / g.groups, g.window.kernel, g.window.kernel};
    if (g.groups > 1) extents = {g.groups, g.filters / g.groups, extents[1], extents[2], extents[3]};
    weight = Desc(extents, kFloat, g.groups > 1 ? Tag::goihw : Tag::oihw);
    any_weight = Desc(extents, kFloat, Tag::any);
    if (has_bias) bias = Desc({g.filters}, kFloat, Tag::a);
  }

  [[nodiscard]] dnnl::convolution_forward::primitive_desc forward(const dnnl::primitive_attr& with) const {
    return forward_desc<dnnl::convolution_forward>(with, dnnl::prop_kind::forward_training,
                                                   dnnl::algorithm::convolution_direct, x, any_weight, bias,
                                                   y, strides, dilation, padding, padding);
  }

  Desc x, y, weight, any_weight, bias;
  dnnl::memory::dims strides, dilation, padding;
};

class OnednnForward final : public ConvForward {
 public:
  OnednnForward(const ConvGeometry& g, const ConvOptions& options, Scratch& scratch)
      : geometry_(g), bias_(options.bias) {
    const Shapes shapes(g, options.bias);
    auto attributes = user_scratchpad();
    if (options.relu) attributes.set_post_ops(rectified());
    const auto desc = shapes.forward(attributes);
    call_ = Call(dnnl::convolution_forward(desc), desc.scratchpad_desc(), scratch);
    weight_.emplace(shapes.weight, desc.weights_desc(), scratch);
    call_.bind(DNNL_ARG_SRC, unowned(shapes.x));
    call_.bind(DNNL_ARG_WEIGHTS, weight_->memory());
    if (bias_) call_.bind(DNNL_ARG_BIAS, unowned(shapes.bias));
    call_.bind(DNNL_ARG_DST, unowned(shapes.y));
  }

  [[nodiscard]] std::size_t scratch_bytes() const override {
    return std::max(call_.scratch_bytes(), weight_->scratch_bytes());
  }
  void load(const float* weight, const float* bias) override {
    weight_->load(weight);
    if (bias_) call_.point(DNNL_ARG_BIAS, bias);
  }
  void run(const float* x, float* y) override {
    for (std::int64_t s = 0; s < geometry_.shards; ++s) {
      call_.point(DNNL_ARG_SRC, x + s * geometry_.shard_input());
      call_.point(DNNL_ARG_DST, y + s * geometry_.shard_output());
      call_.execute();
    }
  }

 private:
  ConvGeometry geometry_;
  bool bias_;
  Call call_;
  std::optional<PackedWeight> weight_;
};

class OnednnBackwardData final : public ConvBackwardData {
 public:
  OnednnBackwardData(const ConvGeometry& g, Scratch& scratch) : geometry_(g), scratch_(&scratch) {
    const Shapes shapes(g, false);
    const auto pd = backward_desc<dnnl::convolution_backward_data>(
        user_scratchpad(), shapes.forward(user_scratchpad()), dnnl::algorithm::convolution_direct, shapes.x,
        shapes.any_weight, shapes.y, shapes.strides, shapes.dilation, shapes.padding, shapes.padding);
    call_ = Call(dnnl::convolution_backward_data(pd), pd.scratchpad_desc(), scratch);
    weight_.emplace(shapes.weight, pd.weights_desc(), scratch);
    call_.bind(DNNL_ARG_DIFF_DST, unowned(shapes.y));
    call_.bind(DNNL_ARG_WEIGHTS, weight_->memory());
    call_.bind(DNNL_ARG_DIFF_SRC, unowned(shapes.x));
    image_offset_ = round_up(std::max(call_.scratch_bytes(), weight_->scratch_bytes()));
    scratch.reserve(scratch_bytes());
  }

  [[nodiscard]] std::size_t scratch_bytes() const override {
    return image_offset_ + static_cast<std::size_t>(geometry_.shard_input()) * sizeof(float);
  }
  void load(const float* weight) override { weight_->load(weight); }
  void run(const float* grad_y, float* grad_x, bool add) override {
    const std::int64_t size = geometry_.shard_input();
    for (std::int64_t s = 0; s < geometry_.shards; ++s) {
      float* to = grad_x + s * size;
      float* written = add ? reinterpret_cast<float*>(scratch_->data() + image_offset_) : to;
      call_.point(DNNL_ARG_DIFF_DST, grad_y + s * geometry_.shard_output());
      call_.point(DNNL_ARG_DIFF_SRC, written);
      call_.execute();
      for (std::int64_t i = 0; i < size && add; ++i) to[i] += written[i];
    }
  }

 private:
  ConvGeometry geometry_;
  Scratch* scratch_;
  Call call_;
  std::optional<PackedWeight> weight_;
  std::size_t image_offset_ = 0;  // where a shard is written that is to be added
};

class OnednnBackwardWeights final : public ConvBackwardWeights {
 public:
  OnednnBackwardWeights(const ConvGeometry& g, const ConvOptions& options, Scratch& scratch)
      : geometry_(g), bias_(options.bias), scratch_(&scratch) {
    const Shapes shapes(g, options.bias);
    const auto pd = backward_desc<dnnl::convolution_backward_weights>(
        user_scratchpad(), shapes.forward(user_scratchpad()), dnnl::algorithm::convolution_direct, shapes.x,
        shapes.any_weight, shapes.bias, shapes.y, shapes.strides, shapes.dilation, shapes.padding,
        shapes.padding);
    call_ = Call(dnnl::convolution_backward_weights(pd), pd.scratchpad_desc(), scratch);
    call_.bind(DNNL_ARG_SRC, unowned(shapes.x));
    call_.bind(DNNL_ARG_DIFF_DST, unowned(shapes.y));
    if (bias_) call_.bind(DNNL_ARG_DIFF_BIAS, unowned(shapes.bias));
    std::size_t bytes = call_.scratch_bytes();
    if (pd.diff_weights_desc() == shapes.weight) {
      call_.bind(DNNL_ARG_DIFF_WEIGHTS, unowned(shapes.weight));
    } else {
      gradient_ = dnnl::memory(pd.diff_weights_desc(), cpu_engine());
      scratch.count_table(pd.diff_weights_desc().get_size());
      call_.bind(DNNL_ARG_DIFF_WEIGHTS, gradient_);
      unpack_.emplace(pd.diff_weights_desc(), shapes.weight, scratch);
      bytes = std::max(bytes, unpack_->scratch_bytes());
    }
    partial_offset_ = round_up(bytes);
    scratch.reserve(scratch_bytes());
  }

  [[nodiscard]] std::size_t scratch_bytes() const override {
    const auto floats = ShardTree::partial_floats(geometry_.shards, weights() + geometry_.filters);
    return partial_offset_ + static_cast<std::size_t>(floats) * sizeof(float);
  }
  void run(const float* x, const float* grad_y, float* grad_weight, float* grad_bias) override {
    auto* partial = reinterpret_cast<float*>(scratch_->data() + partial_offset_);
    ShardTree weight_tree(weights(), grad_weight, partial);
    partial += ShardTree::partial_floats(geometry_.shards, weights());
    ShardTree bias_tree(geometry_.filters, grad_bias, partial);
    for (std::int64_t s = 0; s < geometry_.shards; ++s) {
      call_.point(DNNL_ARG_SRC, x + s * geometry_.shard_input());
      call_.point(DNNL_ARG_DIFF_DST, grad_y + s * geometry_.shard_output());
      if (bias_) call_.point(DNNL_ARG_DIFF_BIAS, bias_tree.next());
      if (!unpack_) call_.point(DNNL_ARG_DIFF_WEIGHTS, weight_tree.next());
      call_.execute();
      if (unpack_) unpack_->run(static_cast<float*>(gradient_.get_data_handle()), weight_tree.next());
      weight_tree.put();
      if (bias_) bias_tree.put();
    }
  }

 private:
  [[nodiscard]] std::int64_t weights() const { return geometry_.filters * geometry_.taps(); }

  ConvGeometry geometry_;
  bool bias_;
  Scratch* scratch_;
  Call call_;
  dnnl::memory gradient_;          // in the primitive's order,
  std::optional<Reorder> unpack_;  // unless it writes the canonical order by itself
  std::size_t partial_offset_ = 0;
};

// `make` with oneDNN's errors as ours.
template <class Make>
auto built(const ConvGeometry& g, Make make) {
  try {
    return make();
  } catch (const dnnl::error& e) {
    throw Error(fmt::format("oneDNN cannot build this convolution: {}", e.what()))
        .got(fmt::format("{}x{}x{}x{} to {} filters of {}x{}", g.batch / g.shards, g.channels, g.height,
                         g.width, g.filters, g.window.kernel, g.window.kernel));
  }
}

}  // namespace

bool onednn_serves(const ConvGeometry& /*g*/, ConvDirection /*direction*/) { return true; }

std::unique_ptr<ConvForward> make_onednn_forward(const ConvGeometry& g, const ConvOptions& options,
                                                 Scratch& scratch) {
  return built(g, [&] { return std::make_unique<OnednnForward>(g, options, scratch); });
}

std::unique_ptr<ConvBackwardData> make_onednn_backward_data(const ConvGeometry& g,
                                                            const ConvOptions& /*options*/,
                                                            Scratch& scratch) {
  return built(g, [&] { return std::make_unique<OnednnBackwardData>(g, scratch); });
}

std::unique_ptr<ConvBackwardWeights> make_onednn_backward_weights(const ConvGeometry& g,
                                                                  const ConvOptions& options,
                                                                  Scratch& scratch) {
  return built(g, [&] { return std::make_unique<OnednnBackwardWeights>(g, options, scratch); });
}

}  // namespace impart::nn
