// The few things kernels here need of CUDA beyond the language, in one place so that tests can run the kernels on
// the CPU with another version of this file.
#pragma once

#include <cstdint>

namespace svf {

template <int N> struct constant { static constexpr int value = N; };

using stream_type = cudaStream_t;

template <class... Parameters, class... Arguments>
static void launch(void (*kernel)(Parameters...), dim3 grid, dim3 block, stream_type stream, Arguments... arguments) {
    kernel<<<grid, block, 0, stream>>>(arguments...);
}

// Asks for a line of memory and goes on.
static __device__ __forceinline__ void prefetch_l2(const char * address) {
#if defined(__CUDA_ARCH__) && !defined(GGML_USE_HIP) && !defined(GGML_USE_MUSA)
    asm volatile("prefetch.L2 [%0];" :: "l"(address));
#else
    (void) address;
#endif
}

} // namespace svf
