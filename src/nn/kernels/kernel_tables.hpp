// The kernel tables that kernels.inl is compiled into. Only kernels.cpp chooses among them.
#pragma once

#include "nn/kernels/kernels.hpp"

namespace impart::nn {

const KernelTable& kernels_base();    ///< for the instruction set that all of impart is compiled for
const KernelTable& kernels_avx512();  ///< REQUIRES: have_avx512()

}  // namespace impart::nn
