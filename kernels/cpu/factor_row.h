// A row of a factor in its stored type, widened to floats in registers.
#pragma once

#include "ggml.h"

#define GGML_COMMON_DECL_CPP
#include "ggml-common.h"
#include "cpu/simd.h"

#include <cstdint>

namespace svf {

// A factor is read in groups of 32 elements: one Q8_0 block, or 32 plain numbers.
constexpr int GROUP         = 32;
constexpr int GROUP_VECTORS = GROUP / VF_WIDTH;

// Reading ahead of the end of a factor is harmless: a prefetch never faults.
inline void prefetch_line(const char * address) {
#if defined(__GNUC__)
    __builtin_prefetch(address);
#else
    (void) address;
#endif
}

struct f32_row {
    static void prefetch(const char * row, int64_t k) {
        prefetch_line(row + k * sizeof(float));
        prefetch_line(row + k * sizeof(float) + 64);
    }
    static vf vector(const char * row, int64_t k, int v) { return vf_load((const float *) row + k + v * VF_WIDTH); }
    static float at(const char * row, int64_t k) { return ((const float *) row)[k]; }
};

struct f16_row {
    static void prefetch(const char * row, int64_t k) { prefetch_line(row + k * sizeof(ggml_fp16_t)); }
    static vf vector(const char * row, int64_t k, int v) { return vf_load_f16((const ggml_fp16_t *) row + k + v * VF_WIDTH); }
    static float at(const char * row, int64_t k) { return half_to_float(((const ggml_fp16_t *) row)[k]); }
};

struct q8_0_row {
    static void prefetch(const char * row, int64_t k) { prefetch_line((const char *) &block(row, k)); }
    static const block_q8_0 & block(const char * row, int64_t k) { return ((const block_q8_0 *) row)[(uint64_t) k / QK8_0]; }
    static vf vector(const char * row, int64_t k, int v) {
        const block_q8_0 & b = block(row, k);
        return vf_mul(vf_set_f16(b.d), vf_load_i8(b.qs + v * VF_WIDTH));
    }
    static float at(const char * row, int64_t k) {
        const block_q8_0 & b = block(row, k);
        return half_to_float(b.d) * b.qs[(uint64_t) k % QK8_0];
    }
};

// Writes elements k0 ≤ k < k1 of a row as floats; k0 is a multiple of GROUP.
template <class Row>
inline void widen(const char * row, int64_t k0, int64_t k1, float * out) {
    int64_t k = k0;
    for (; k + GROUP <= k1; k += GROUP) {
        for (int v = 0; v < GROUP_VECTORS; v++) {
            vf_store(out + (k - k0) + v * VF_WIDTH, Row::vector(row, k, v));
        }
    }
    for (; k < k1; k++) {
        out[k - k0] = Row::at(row, k);
    }
}

} // namespace svf
