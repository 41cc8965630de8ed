// The process's oneDNN engine, and the threads and instruction set that the libraries use.
#include <cpuid.h>
#include <fmt/format.h>
#include <omp.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <string_view>
#include <utility>

#include "impart/core/clock.hpp"
#include "impart/core/error.hpp"
#include "impart/nn/network.hpp"
#include "nn/kernels/dnnl_util.hpp"
#include "nn/kernels/isa.hpp"
#include "nn/kernels/kernels.hpp"

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
    const auto start = Clock::now();
    const volatile float kept = kernels().multiply_add_chains(kRounds);
    static_cast<void>(kept);
    best = std::max(best, static_cast<double>(kRounds * kernels().peak_operations) / seconds_since(start));
  }
  return best;
}

namespace {

struct IsaLevel {
  std::string_view name;  // as in ONEDNN_MAX_CPU_ISA
  dnnl::cpu_isa isa;
  bool (*supported)();
};

// In ascending order.
constexpr std::array<IsaLevel, 5> kIsaLevels = {{
    {"AVX2", dnnl::cpu_isa::avx2, [] { return true; }},  // what all of impart is compiled for
    {"AVX512_CORE", dnnl::cpu_isa::avx512_core,
     [] {
       return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
              __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq");
     }},
    {"AVX512_CORE_VNNI", dnnl::cpu_isa::avx512_core_vnni,
     [] { return __builtin_cpu_supports("avx512vnni") != 0; }},
    {"AVX512_CORE_BF16", dnnl::cpu_isa::avx512_core_bf16,
     [] { return __builtin_cpu_supports("avx512bf16") != 0; }},
    {"AVX512_CORE_AMX", dnnl::cpu_isa::avx512_core_amx,
     [] {
       unsigned a = 0, b = 0, c = 0, d = 0;
       constexpr unsigned kTiles = 1U << 24 | 1U << 22;  // AMX-TILE and AMX-BF16
       return __get_cpuid_count(7, 0, &a, &b, &c, &d) != 0 && (d & kTiles) == kTiles;
     }},
}};

// What else ONEDNN_MAX_CPU_ISA may say, version 3 included, and the level that is left of it.
constexpr std::array<std::pair<std::string_view, std::string_view>, 4> kBetweenLevels = {{
    {"AVX2_VNNI", "AVX2"},
    {"AVX2_VNNI_2", "AVX2"},
    {"AVX512_CORE_FP16", "AVX512_CORE_BF16"},
    {"AVX10_1_512", "AVX512_CORE_BF16"},
}};

// An instruction set is a set of bits, which includes those of the sets that it has.
bool onednn_uses(dnnl::cpu_isa isa) {
  const auto bits = static_cast<unsigned>(isa);
  return (static_cast<unsigned>(dnnl::get_effective_cpu_isa()) & bits) == bits;
}

}  // namespace

int isa_level() {
  int level = 0;
  while (level + 1 < static_cast<int>(kIsaLevels.size()) &&
         kIsaLevels[static_cast<std::size_t>(level) + 1].supported()) {
    ++level;
  }
  const char* variable = std::getenv("ONEDNN_MAX_CPU_ISA");
  std::string_view limit = variable == nullptr ? "" : variable;
  for (const auto& [name, lower] : kBetweenLevels) {
    if (name == limit) limit = lower;
  }
  for (int i = 0; i < level; ++i) {
    if (kIsaLevels[static_cast<std::size_t>(i)].name == limit) level = i;
  }
  return level;
}

bool have_avx512() { return onednn_uses(dnnl::cpu_isa::avx512_core); }
bool onednn_uses_amx() { return onednn_uses(dnnl::cpu_isa::avx512_core_amx); }

void limit_isa(int level) {
  const auto& wanted = kIsaLevels.at(static_cast<std::size_t>(level));
  if (dnnl::set_max_cpu_isa(wanted.isa) != dnnl::status::success) {
    throw Error("the kernels' instruction set is already chosen").expected(std::string(wanted.name));
  }
}

std::string kernel_isa() {
  using Isa = dnnl::cpu_isa;
  // oneDNN 3 knows more sets; what they add is not used in single precision, so that each counts as what it has
  // of these.
  constexpr std::array<std::pair<Isa, std::string_view>, 8> kNames = {{
      {Isa::avx512_core_amx, "avx512_core_amx"},
      {Isa::avx512_core_bf16, "avx512_core_bf16"},
      {Isa::avx512_core_vnni, "avx512_core_vnni"},
      {Isa::avx512_core, "avx512_core"},
      {Isa::avx2_vnni, "avx2_vnni"},
      {Isa::avx2, "avx2"},
      {Isa::avx, "avx"},
      {Isa::sse41, "sse41"},
  }};
  const auto* const name = std::ranges::find_if(kNames, [](const auto& n) { return onednn_uses(n.first); });
  return std::string(name == kNames.end() ? "generic" : name->second);
}

std::string kernel_library() {
  const auto* version = dnnl::version();
  return fmt::format("oneDNN {}.{}.{}", version->major, version->minor, version->patch);
}

}  // namespace impart::nn
