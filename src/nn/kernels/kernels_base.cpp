#define IMPART_KERNEL_TABLE kernels_base
#include "nn/kernels/kernels.inl"
