// The process's oneDNN engine, and the threads and instruction set that the libraries use.
#include <omp.h>

#include <algorithm>
#include <chrono>

#include "impart/nn/network.hpp"
#include "nn/dnnl_util.hpp"
#include "nn/kernels.hpp"

namespace impart::nn {

const dnnl::engine& cpu_engine() {
  static const dnnl::engine engine(dnnl::engine::kind::cpu, 0);
  return engine;
}

// OpenMP's number of threads belongs to the calling thread.
void use_one_kernel_thread() { omp_set_num_threads(1); }

double peak_flops() {
  constexpr std::int64_t kRounds = 100'000;
  double best = 0;
  for (int attempt = 0; attempt < 20; ++attempt) {
    const auto start = std::chrono::steady_clock::now();
    const volatile float kept = kernels().multiply_add_chains(kRounds);
    static_cast<void>(kept);
    const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
    best = std::max(best, static_cast<double>(kRounds * kernels().peak_operations) / seconds.count());
  }
  return best;
}

std::string kernel_isa() {
  switch (dnnl::get_effective_cpu_isa()) {
    case dnnl::cpu_isa::sse41:
      return "sse41";
    case dnnl::cpu_isa::avx:
      return "avx";
    case dnnl::cpu_isa::avx2:
      return "avx2";
    case dnnl::cpu_isa::avx2_vnni:
      return "avx2_vnni";
    case dnnl::cpu_isa::avx512_core:
      return "avx512_core";
    case dnnl::cpu_isa::avx512_core_vnni:
      return "avx512_core_vnni";
    case dnnl::cpu_isa::avx512_core_bf16:
      return "avx512_core_bf16";
    case dnnl::cpu_isa::avx512_core_amx:
      return "avx512_core_amx";
    default:
      return "generic";
  }
}

}  // namespace impart::nn
