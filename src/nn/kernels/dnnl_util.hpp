// What all uses of oneDNN share, and the one place that knows how versions 2 and 3 differ. Only for .cpp files
// that build primitives.
#pragma once

#include <cstddef>
#include <dnnl.hpp>
#include <utility>
#include <vector>

#include "impart/nn/layer.hpp"

namespace impart::nn {

/// The one engine of this process.
const dnnl::engine& cpu_engine();

/// A primitive with its arguments. Memory made without a handle is pointed at the caller's values at each
/// execution.
class Call {
 public:
  Call() = default;
  /// Reserves the primitive's scratchpad in `scratch`, which outlives this.
  template <class Primitive>
  Call(const Primitive& primitive, const dnnl::memory::desc& scratchpad, Scratch& scratch)
      : primitive_(primitive), stream_(cpu_engine()), scratch_(&scratch) {
    scratch.reserve(scratchpad.get_size());
    scratch_bytes_ = scratchpad.get_size();
    bind(DNNL_ARG_SCRATCHPAD, dnnl::memory(scratchpad, cpu_engine(), DNNL_MEMORY_NONE));
  }

  [[nodiscard]] std::size_t scratch_bytes() const { return scratch_bytes_; }
  void bind(int argument, dnnl::memory memory) {
    arguments_.push_back({argument, memory.get()});
    memories_.push_back(std::move(memory));
  }
  /// For memory that the caller owns: bound with `bind` once, pointed with `point` at each execution.
  void point(int argument, const float* values) {
    // oneDNN takes inputs and outputs by the same type; it writes to outputs alone.
    set(argument, const_cast<float*>(values));
  }
  void execute() {
    set(DNNL_ARG_SCRATCHPAD, scratch_->data());
    // The C function: the C++ one makes a list of the arguments each time.
    dnnl::error::wrap_c_api(dnnl_primitive_execute(primitive_.get(), stream_.get(),
                                                   static_cast<int>(arguments_.size()), arguments_.data()),
                            "could not execute a primitive");
    stream_.wait();
  }

 private:
  void set(int argument, void* values) {
    for (std::size_t k = 0; k < arguments_.size(); ++k) {
      if (arguments_[k].arg == argument) memories_[k].set_data_handle(values);
    }
  }

  dnnl::primitive primitive_;
  dnnl::stream stream_;
  Scratch* scratch_ = nullptr;
  std::size_t scratch_bytes_ = 0;
  std::vector<dnnl::memory> memories_;
  std::vector<dnnl_exec_arg_t> arguments_;  // of memories_
};

/// Attributes that every primitive here has: the caller brings the scratchpad.
inline dnnl::primitive_attr user_scratchpad() {
  dnnl::primitive_attr attributes;
  attributes.set_scratchpad_mode(dnnl::scratchpad_mode::user);
  return attributes;
}

// Version 2 has descriptors of operations, of which descriptors of primitives are made; version 3 makes those
// of the same arguments at once.

/// The descriptor of a primitive that runs forward; `operation` are its arguments in oneDNN's order.
template <class Primitive, class... Operation>
typename Primitive::primitive_desc forward_desc(const dnnl::primitive_attr& attributes,
                                                const Operation&... operation) {
#if DNNL_VERSION_MAJOR >= 3
  return {cpu_engine(), operation..., attributes};
#else
  return {typename Primitive::desc(operation...), attributes, cpu_engine()};
#endif
}

/// The same for one that runs backward; `forward` is the descriptor of what it belongs to.
template <class Primitive, class Forward, class... Operation>
typename Primitive::primitive_desc backward_desc(const dnnl::primitive_attr& attributes,
                                                 const Forward& forward, const Operation&... operation) {
#if DNNL_VERSION_MAJOR >= 3
  return {cpu_engine(), operation..., forward, attributes};
#else
  return {typename Primitive::desc(operation...), attributes, cpu_engine(), forward};
#endif
}

/// What is done to a primitive's results as they are written: rectified.
inline dnnl::post_ops rectified() {
  dnnl::post_ops after;
#if DNNL_VERSION_MAJOR >= 3
  after.append_eltwise(dnnl::algorithm::eltwise_relu, 0.0F, 0.0F);
#else
  after.append_eltwise(1.0F, dnnl::algorithm::eltwise_relu, 0.0F, 0.0F);
#endif
  return after;
}

}  // namespace impart::nn
