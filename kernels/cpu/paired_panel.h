// Products of 8-bit rows with many rounded columns (column.h), on processors that multiply and add pairs of
// 16-bit integers at once (AVX-512 VNNI).
//
// A panel holds some rows turned round: pairs of neighbouring k side by side, row after row, so that a vector
// holds one pair of every row and meets the same pair of each column. Nothing is summed up across a vector,
// and a block's scale is applied once to 32 products of all rows.
#pragma once

#include "cpu/factor_row.h"
#include "cpu/simd.h"

#if defined(__AVX512BW__) && defined(__AVX512VNNI__)
#define SVF_PAIRED_PANEL 1
#else
#define SVF_PAIRED_PANEL 0
#endif

#if SVF_PAIRED_PANEL

#include <algorithm>
#include <cstring>

namespace svf {

constexpr int     PAIRED_ROWS  = 16;
constexpr int     PAIRED_PAIRS = QK8_0 / 2;
// Elements of k that panels hold together: 8 KiB, a quarter of the first-level cache.
constexpr int64_t PAIRED_DEPTH = 512;
// Columns a tile covers: two accumulators each, of 32 registers.
constexpr int     PAIRED_COLUMNS = 12;

// 32 elements of PAIRED_ROWS rows.
struct paired_block {
    __m256i     pairs[PAIRED_PAIRS]; // of 8-bit integers, a pair of each row
    ggml_fp16_t scales[PAIRED_ROWS];
};

// Element j of row i becomes element i of row j, of 16 bits each.
inline void transpose(__m256i (&m)[16]) {
    __m256i t[16];
    for (int i = 0; i < 16; i += 2) {
        t[i]     = _mm256_unpacklo_epi16(m[i], m[i + 1]);
        t[i + 1] = _mm256_unpackhi_epi16(m[i], m[i + 1]);
    }
    for (int i = 0; i < 16; i += 4) {
        m[i]     = _mm256_unpacklo_epi32(t[i], t[i + 2]);
        m[i + 1] = _mm256_unpackhi_epi32(t[i], t[i + 2]);
        m[i + 2] = _mm256_unpacklo_epi32(t[i + 1], t[i + 3]);
        m[i + 3] = _mm256_unpackhi_epi32(t[i + 1], t[i + 3]);
    }
    // Afterwards half h of t[8i + j] holds element 8h + j of rows 8i to 8i + 7.
    for (int i = 0; i < 16; i += 8) {
        for (int j = 0; j < 4; j++) {
            t[i + 2 * j]     = _mm256_unpacklo_epi64(m[i + j], m[i + 4 + j]);
            t[i + 2 * j + 1] = _mm256_unpackhi_epi64(m[i + j], m[i + 4 + j]);
        }
    }
    for (int j = 0; j < 8; j++) {
        m[j]     = _mm256_permute2x128_si256(t[j], t[8 + j], 0x20);
        m[8 + j] = _mm256_permute2x128_si256(t[j], t[8 + j], 0x31);
    }
}

// Fills `panel` with elements k0 ≤ k < k1 of n_rows rows; rows past the last are zero.
inline void load_panel(const char * w, size_t w_stride, int64_t n_rows, int64_t k0, int64_t k1, paired_block * panel) {
    // What is read next, which the hardware cannot guess from so many streams: the same rows further on, or of
    // short rows the next ones.
    const size_t ahead = std::min(PAIRED_ROWS * w_stride, (size_t) PAIRED_DEPTH / QK8_0 * sizeof(block_q8_0));
    for (int64_t k = k0; k < k1; k += QK8_0, panel++) {
        __m256i rows[16];
        for (int i = 0; i < PAIRED_ROWS; i++) {
            if (i >= n_rows) {
                rows[i]          = _mm256_setzero_si256();
                panel->scales[i] = 0;
                continue;
            }
            const char * row = w + i * w_stride;
            q8_0_row::prefetch(row + ahead, k);
            const block_q8_0 & block = q8_0_row::block(row, k);
            rows[i]          = _mm256_loadu_si256((const __m256i *) block.qs);
            panel->scales[i] = block.d;
        }
        transpose(rows);
        std::copy_n(rows, PAIRED_PAIRS, panel->pairs);
    }
}

// sums[n] = Σ_k w[k]·x_n[k] over the panel's `depth` elements, x_n of scale 1, a row in each element.
template <int N>
inline void dot_panel(const paired_block * panel, int64_t depth, const int16_t * const * x, vf (&sums)[N]) {
    for (vf & sum : sums) {
        sum = vf_zero();
    }
    for (int64_t k = 0; k < depth; k += QK8_0, panel++) {
        __m512i products[N];
        for (__m512i & product : products) {
            product = _mm512_setzero_si512();
        }
        for (int pair = 0; pair < PAIRED_PAIRS; pair++) {
            const __m512i w = _mm512_cvtepi8_epi16(panel->pairs[pair]);
            for (int n = 0; n < N; n++) {
                int32_t of_column;
                std::memcpy(&of_column, x[n] + k + 2 * pair, sizeof(of_column));
                products[n] = _mm512_dpwssd_epi32(products[n], w, _mm512_set1_epi32(of_column));
            }
        }
        const vf scales = vf_load_f16(panel->scales);
        for (int n = 0; n < N; n++) {
            sums[n] = vf_fma(_mm512_cvtepi32_ps(products[n]), scales, sums[n]);
        }
    }
}

// Calls store(c, sum) for columns 0 ≤ c < n_columns ≤ N, with a vector of the panel's rows.
template <int N = PAIRED_COLUMNS, class Store>
inline void dot_panel_columns(const paired_block * panel, int64_t depth, const int16_t * const * x, int64_t n_columns, const Store & store) {
    if constexpr (N > 0) {
        if (n_columns < N) {
            dot_panel_columns<N - 1>(panel, depth, x, n_columns, store);
            return;
        }
        vf sums[N];
        dot_panel<N>(panel, depth, x, sums);
        for (int c = 0; c < N; c++) {
            store(c, sums[c]);
        }
    }
}

} // namespace svf

#endif
