// Compiled for AVX-512, called only where the machine has it.
#if defined(__AVX512F__) && defined(__AVX512BW__) && defined(__AVX512DQ__) && defined(__AVX512VL__)

#define IMPART_KERNEL_TABLE kernels_avx512
#include "nn/kernels/kernels.inl"

#else

#include "nn/kernels/kernel_tables.hpp"

namespace impart::nn {

const KernelTable& kernels_avx512() { return kernels_base(); }

}  // namespace impart::nn

#endif
