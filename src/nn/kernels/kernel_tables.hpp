// The kernel tables that kernels.inl is compiled into. Only kernels.cpp chooses among them.
#pragma once

#include "nn/kernels/kernels.hpp"

namespace impart::nn {

const KernelTable& kernels_base();    ///< for the instruction set that all of impart is compiled for
const KernelTable& kernels_avx512();  ///< REQUIRES: have_avx512()
bool have_avx512();                   ///< AVX-512 F, BW, DQ and VL, here and in the build

}  // namespace impart::nn
