// What of the processor the kernels may use. It is oneDNN's answer, so that its kernels and ours use the same
// instruction set, ONEDNN_MAX_CPU_ISA and limit_isa included.
#pragma once

namespace impart::nn {

bool have_avx512();      ///< AVX-512 F, BW, DQ and VL
bool onednn_uses_amx();  ///< AMX for bfloat16; whether the build and the system have it, too: have_amx()

}  // namespace impart::nn
