// A row of a factor in its stored type, read eight elements at a time and widened to floats.
//
// ALIGNED says that every row starts at a multiple of 16 bytes; then eight elements are one or two loads of
// 16 bytes. Blocks of Q8_0 have 34 bytes, so they are always read in pieces of two bytes.
#pragma once

#include <cstdint>

namespace svf {

constexpr int GROUP = 8; // elements read at a time

// Loads a group of floats; also used for columns.
template <bool ALIGNED>
static __device__ __forceinline__ void load_floats(const float * from, float * to) {
    if constexpr (ALIGNED) {
        const float4 a = ((const float4 *) from)[0], b = ((const float4 *) from)[1];
        to[0] = a.x; to[1] = a.y; to[2] = a.z; to[3] = a.w;
        to[4] = b.x; to[5] = b.y; to[6] = b.z; to[7] = b.w;
    } else {
#pragma unroll
        for (int i = 0; i < GROUP; i++) {
            to[i] = from[i];
        }
    }
}

struct f32_factor {
    static __device__ __forceinline__ const char * address(const char * row, int k) { return row + (int64_t) k * 4; }
    static __device__ __forceinline__ float at(const char * row, int k) { return ((const float *) row)[k]; }
    template <bool ALIGNED>
    static __device__ __forceinline__ void load(const char * row, int k, float * to) {
        load_floats<ALIGNED>((const float *) row + k, to);
    }
};

// Elements of two bytes; Format widens one of them, or two that lie in one word.
template <class Format>
struct two_byte_factor {
    static __device__ __forceinline__ const char * address(const char * row, int k) { return row + (int64_t) k * 2; }
    static __device__ __forceinline__ float at(const char * row, int k) { return Format::widen(address(row, k)); }
    template <bool ALIGNED>
    static __device__ __forceinline__ void load(const char * row, int k, float * to) {
        if constexpr (ALIGNED) {
            const uint4 raw = *(const uint4 *) address(row, k);
            const uint32_t words[4] = { raw.x, raw.y, raw.z, raw.w };
#pragma unroll
            for (int i = 0; i < 4; i++) {
                const float2 pair = Format::widen_two(words[i]);
                to[2*i] = pair.x;
                to[2*i + 1] = pair.y;
            }
        } else {
#pragma unroll
            for (int i = 0; i < GROUP; i++) {
                to[i] = at(row, k + i);
            }
        }
    }
};

struct f16_format {
    static __device__ __forceinline__ float widen(const char * one) { return __half2float(*(const half *) one); }
    static __device__ __forceinline__ float2 widen_two(uint32_t word) { return __half22float2(*(const half2 *) &word); }
};

// The upper half of a float.
struct bf16_format {
    static __device__ __forceinline__ float widen(const char * one) {
        return __uint_as_float((uint32_t) *(const uint16_t *) one << 16);
    }
    static __device__ __forceinline__ float2 widen_two(uint32_t word) {
        return { __uint_as_float(word << 16), __uint_as_float(word & 0xffff0000u) };
    }
};

using f16_factor  = two_byte_factor<f16_format>;
using bf16_factor = two_byte_factor<bf16_format>;

// Blocks of 32: a scale (half), then 32 signed bytes. A row holds whole blocks, so that `at` is not needed.
struct q8_0_factor {
    static constexpr int BLOCK = 32, BLOCK_BYTES = 34;

    static __device__ __forceinline__ const char * address(const char * row, int k) {
        return row + (int64_t) (k / BLOCK) * BLOCK_BYTES + 2 + k % BLOCK;
    }
    static __device__ __forceinline__ float at(const char * row, int k) {
        return __half2float(*(const half *) (row + (int64_t) (k / BLOCK) * BLOCK_BYTES)) * *(const int8_t *) address(row, k);
    }
    template <bool>
    static __device__ __forceinline__ void load(const char * row, int k, float * to) {
        const float      scale = __half2float(*(const half *) (row + (int64_t) (k / BLOCK) * BLOCK_BYTES));
        const uint16_t * pairs = (const uint16_t *) address(row, k);
#pragma unroll
        for (int i = 0; i < GROUP/2; i++) {
            const uint16_t pair = pairs[i];
            to[2*i]     = scale * (int8_t) (pair & 0xff);
            to[2*i + 1] = scale * (int8_t) (pair >> 8);
        }
    }
};

} // namespace svf
