// The part of CUDA's language that kernels/cuda/ uses, on top of the harness; also stands in for cuda/launch.cuh.
#pragma once

#include "group.h"

#include <algorithm>

#define __device__
#define __global__
#define __forceinline__ inline

#define threadIdx (::emulated::thread().index)
#define blockIdx  (::emulated::group_index())
#define blockDim  (::emulated::group_threads())

using half = _Float16;

struct alignas(4) half2 { half x, y; };
struct alignas(8) float2 { float x, y; };

// The sanitizer checks the alignment of what a constructor copies, but not of a plain copy.
template <class T> struct alignas(16) vector4 {
    T x, y, z, w;
    vector4(const vector4 & other) : x(other.x), y(other.y), z(other.z), w(other.w) {}
};
using float4 = vector4<float>;
using uint4  = vector4<uint32_t>;

struct dim3 {
    unsigned x, y, z;
    dim3(unsigned x, unsigned y = 1, unsigned z = 1) : x(x), y(y), z(z) {}
};

using std::min;

inline float __half2float(half value) { return (float) value; }
inline float2 __half22float2(half2 value) { return { (float) value.x, (float) value.y }; }

inline float __uint_as_float(uint32_t bits) {
    float value;
    memcpy(&value, &bits, sizeof(value));
    return value;
}

inline uint32_t __float_as_uint(float value) {
    uint32_t bits;
    memcpy(&bits, &value, sizeof(bits));
    return bits;
}

inline void __syncthreads(int line = __builtin_LINE()) { emulated::group_barrier(line); }

inline int __syncthreads_or(int predicate, int line = __builtin_LINE()) {
    auto & votes = emulated::shared<unsigned char[1024]>(-line);
    votes[emulated::thread().linear] = predicate != 0;
    emulated::group_barrier(line);
    int any = 0;
    for (unsigned i = 0; i < emulated::group_threads().count(); i++) {
        any |= votes[i];
    }
    emulated::group_barrier(line);
    return any;
}

// Each run of `width` lanes is among itself.
inline float __shfl_xor_sync(uint32_t mask, float value, int lanes, int width, int line = __builtin_LINE()) {
    if (mask != 0xffffffffu || lanes >= width) {
        fprintf(stderr, "emulated: lanes that would not take part\n");
        _Exit(3);
    }
    return emulated::exchange_xor(value, (unsigned) lanes, line);
}

inline void atomicOr(uint32_t * address, uint32_t bits) { *address |= bits; }

namespace svf {

template <int N> struct constant { static constexpr int value = N; };

using stream_type = emulated::Schedule;

template <class... Parameters, class... Arguments>
static void launch(void (*kernel)(Parameters...), dim3 grid, dim3 block, stream_type schedule, Arguments... arguments) {
    emulated::launch({ grid.x, grid.y, grid.z }, { block.x, block.y, block.z }, 0, schedule, [&] { kernel(arguments...); });
}

inline void prefetch_l2(const char * address) { (void) *(volatile const char *) address; }

}  // namespace svf
