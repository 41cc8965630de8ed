#include "nn/conv_primitives.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <optional>

#include "impart/core/error.hpp"
#include "nn/dnnl_util.hpp"

namespace impart::nn {

namespace {

using Desc = dnnl::memory::desc;
using Tag = dnnl::memory::format_tag;
constexpr auto kFloat = dnnl::memory::data_type::f32;

// Memory whose values the caller owns and points to at each execution.
dnnl::memory unowned(const Desc& desc) { return {desc, cpu_engine(), DNNL_MEMORY_NONE}; }

// One call of `primitive` per pack or unpack of weights: a copy with another order of the values.
class Reorder {
 public:
  Reorder(const Desc& from, const Desc& to, Scratch& scratch) {
    const dnnl::reorder::primitive_desc desc(cpu_engine(), from, cpu_engine(), to, user_scratchpad());
    call_ = Call(dnnl::reorder(desc), desc.scratchpad_desc(), scratch);
  }
  void from(dnnl::memory memory) { call_.bind(DNNL_ARG_FROM, std::move(memory)); }
  void to(dnnl::memory memory) { call_.bind(DNNL_ARG_TO, std::move(memory)); }
  Call& call() { return call_; }

 private:
  Call call_;
};

}  // namespace

struct ConvPrimitives::Impl {
  Impl(const ConvGeometry& g, const ConvBuild& build, Scratch& scratch);

  void build_forward(const ConvBuild& build, Scratch& scratch);
  void build_backward_data(Scratch& scratch);
  void build_backward_weights(const ConvBuild& build, Scratch& scratch);
  // Packed weights for one primitive, filled by `packs` at each load.
  dnnl::memory packed(const Desc& desc, Scratch& scratch);

  Desc x, y, weight, any_weight, bias;
  dnnl::memory::dims strides, padding;
  dnnl::convolution_forward::primitive_desc forward_desc;
  bool has_bias = false;
  Call forward;
  std::optional<Call> backward_data;
  std::optional<Call> backward_weights;
  std::vector<Reorder> packs;
  std::optional<Reorder> unpack_gradient;  // absent when the primitive writes the canonical order by itself
};

ConvPrimitives::Impl::Impl(const ConvGeometry& g, const ConvBuild& build, Scratch& scratch)
    : x({g.batch, g.channels, g.height, g.width}, kFloat, Tag::nhwc),
      y({g.batch, g.filters, g.out_height, g.out_width}, kFloat, Tag::nhwc),
      weight({g.filters, g.channels, g.window.kernel, g.window.kernel}, kFloat, Tag::oihw),
      any_weight({g.filters, g.channels, g.window.kernel, g.window.kernel}, kFloat, Tag::any),
      bias({g.filters}, kFloat, Tag::a),
      strides{g.window.stride, g.window.stride},
      padding{g.window.padding, g.window.padding},
      has_bias(build.bias) {
  if (!build.bias) bias = Desc();
  build_forward(build, scratch);
  if (build.backward_data) build_backward_data(scratch);
  if (build.backward_weights) build_backward_weights(build, scratch);
}

dnnl::memory ConvPrimitives::Impl::packed(const Desc& desc, Scratch& scratch) {
  dnnl::memory memory(desc, cpu_engine());
  auto& pack = packs.emplace_back(weight, desc, scratch);
  pack.from(unowned(weight));
  pack.to(memory);
  return memory;
}

void ConvPrimitives::Impl::build_forward(const ConvBuild& build, Scratch& scratch) {
  const dnnl::convolution_forward::desc desc(dnnl::prop_kind::forward_training,
                                             dnnl::algorithm::convolution_direct, x, any_weight, bias, y,
                                             strides, padding, padding);
  auto attributes = user_scratchpad();
  if (build.relu) {
    dnnl::post_ops after;
    after.append_eltwise(1.0F, dnnl::algorithm::eltwise_relu, 0.0F, 0.0F);
    attributes.set_post_ops(after);
  }
  forward_desc = {desc, attributes, cpu_engine()};
  forward = Call(dnnl::convolution_forward(forward_desc), forward_desc.scratchpad_desc(), scratch);
  forward.bind(DNNL_ARG_SRC, unowned(x));
  forward.bind(DNNL_ARG_WEIGHTS, packed(forward_desc.weights_desc(), scratch));
  if (has_bias) forward.bind(DNNL_ARG_BIAS, unowned(bias));
  forward.bind(DNNL_ARG_DST, unowned(y));
}

void ConvPrimitives::Impl::build_backward_data(Scratch& scratch) {
  const dnnl::convolution_backward_data::desc desc(dnnl::algorithm::convolution_direct, x, any_weight, y,
                                                   strides, padding, padding);
  const dnnl::convolution_backward_data::primitive_desc pd(desc, user_scratchpad(), cpu_engine(),
                                                           forward_desc);
  backward_data.emplace(dnnl::convolution_backward_data(pd), pd.scratchpad_desc(), scratch);
  backward_data->bind(DNNL_ARG_DIFF_DST, unowned(y));
  backward_data->bind(DNNL_ARG_WEIGHTS, packed(pd.weights_desc(), scratch));
  backward_data->bind(DNNL_ARG_DIFF_SRC, unowned(x));
}

void ConvPrimitives::Impl::build_backward_weights(const ConvBuild& build, Scratch& scratch) {
  const dnnl::convolution_backward_weights::desc desc(dnnl::algorithm::convolution_direct, x, any_weight,
                                                      bias, y, strides, padding, padding);
  const dnnl::convolution_backward_weights::primitive_desc pd(desc, user_scratchpad(), cpu_engine(),
                                                              forward_desc);
  backward_weights.emplace(dnnl::convolution_backward_weights(pd), pd.scratchpad_desc(), scratch);
  backward_weights->bind(DNNL_ARG_SRC, unowned(x));
  backward_weights->bind(DNNL_ARG_DIFF_DST, unowned(y));
  if (build.bias) backward_weights->bind(DNNL_ARG_DIFF_BIAS, unowned(bias));
  if (pd.diff_weights_desc() == weight) {
    backward_weights->bind(DNNL_ARG_DIFF_WEIGHTS, unowned(weight));
    return;
  }
  const dnnl::memory gradient(pd.diff_weights_desc(), cpu_engine());
  backward_weights->bind(DNNL_ARG_DIFF_WEIGHTS, gradient);
  unpack_gradient.emplace(pd.diff_weights_desc(), weight, scratch);
  unpack_gradient->from(gradient);
  unpack_gradient->to(unowned(weight));
}

ConvPrimitives::ConvPrimitives(const ConvGeometry& g, const ConvBuild& build, Scratch& scratch) {
  try {
    impl_ = std::make_unique<Impl>(g, build, scratch);
  } catch (const dnnl::error& e) {
    throw Error(fmt::format("oneDNN cannot build this convolution: {}", e.what()))
        .got(fmt::format("{}x{}x{}x{} to {} filters of {}x{}", g.batch, g.channels, g.height, g.width,
                         g.filters, g.window.kernel, g.window.kernel));
  }
}

ConvPrimitives::~ConvPrimitives() = default;

std::size_t ConvPrimitives::scratch_bytes() const {
  std::size_t bytes = impl_->forward.scratch_bytes();
  if (impl_->backward_data) bytes = std::max(bytes, impl_->backward_data->scratch_bytes());
  if (impl_->backward_weights) bytes = std::max(bytes, impl_->backward_weights->scratch_bytes());
  if (impl_->unpack_gradient) bytes = std::max(bytes, impl_->unpack_gradient->call().scratch_bytes());
  return bytes;
}

void ConvPrimitives::load(const float* weight, const float* bias) {
  for (auto& pack : impl_->packs) {
    pack.call().point(DNNL_ARG_FROM, weight);
    pack.call().execute();
  }
  if (impl_->has_bias) impl_->forward.point(DNNL_ARG_BIAS, bias);
}

void ConvPrimitives::forward(const float* x, float* y) {
  impl_->forward.point(DNNL_ARG_SRC, x);
  impl_->forward.point(DNNL_ARG_DST, y);
  impl_->forward.execute();
}

void ConvPrimitives::backward_data(const float* grad_y, float* grad_x) {
  auto& call = *impl_->backward_data;
  call.point(DNNL_ARG_DIFF_DST, grad_y);
  call.point(DNNL_ARG_DIFF_SRC, grad_x);
  call.execute();
}

void ConvPrimitives::backward_weights(const float* x, const float* grad_y, float* grad_weight,
                                      float* grad_bias) {
  auto& call = *impl_->backward_weights;
  call.point(DNNL_ARG_SRC, x);
  call.point(DNNL_ARG_DIFF_DST, grad_y);
  if (impl_->has_bias) call.point(DNNL_ARG_DIFF_BIAS, grad_bias);
  if (!impl_->unpack_gradient) {
    call.point(DNNL_ARG_DIFF_WEIGHTS, grad_weight);
    call.execute();
    return;
  }
  call.execute();
  impl_->unpack_gradient->call().point(DNNL_ARG_TO, grad_weight);
  impl_->unpack_gradient->call().execute();
}

}  // namespace impart::nn
