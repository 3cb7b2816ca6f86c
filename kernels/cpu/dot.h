// Dot products of a factor's rows with columns: one column, or many at a time.
//
// One column: rows are read straight through, and instructions per element count. Many columns: a tile of
// rows is widened once and meets several columns in registers.
#pragma once

#include "cpu/column.h"
#include "cpu/factor_row.h"

#include <algorithm>
#include <cstddef>
#include <type_traits>

namespace svf {

// How far ahead factors are fetched, to cover the latency of memory.
constexpr size_t PREFETCH_BYTES = 2048;

// Register tile of the dot products: ROWS × COLUMNS accumulators.
constexpr int ROWS    = 4;
constexpr int COLUMNS = VF_REGISTERS >= 32 ? 6 : 2;

// Rows this long are read one after the other when there is one column: memory is fastest in a straight
// line, and the end of a row costs little.
constexpr int64_t LONG_ROW = 256;

// Elements of k a tile covers at a time: its columns then stay in the first-level cache.
constexpr int64_t K_PIECE = 1024;

template <int N> using constant = std::integral_constant<int, N>;

// --- one column -------------------------------------------------------------------------------------

// sum + Σ w[k]·x[k] over the group at k.
template <class Row>
inline vf dot_group(const char * row, int64_t k, const float * x, vf sum) {
    for (int v = 0; v < GROUP_VECTORS; v++) {
        sum = vf_fma(Row::vector(row, k, v), vf_load(x + k + v * VF_WIDTH), sum);
    }
    return sum;
}

template <>
inline vf dot_group<q8_0_row>(const char * row, int64_t k, const float * x, vf sum) {
    // The block's scale is applied once, to its sum.
    const block_q8_0 & b = q8_0_row::block(row, k);
    vf part = vf_mul(vf_load_i8(b.qs), vf_load(x + k));
    for (int v = 1; v < GROUP_VECTORS; v++) {
        part = vf_fma(vf_load_i8(b.qs + v * VF_WIDTH), vf_load(x + k + v * VF_WIDTH), part);
    }
    return vf_fma(vf_set_f16(b.d), part, sum);
}

// The same for a rounded column, without its scale.
template <class Row>
inline vf dot_group(const char * row, int64_t k, const int16_t * x, vf sum) {
    static_assert(std::is_same<Row, q8_0_row>::value, "rounded columns meet 8-bit rows only");
    const block_q8_0 & b = q8_0_row::block(row, k);
    return vf_fma(vf_set_f16(b.d), vf_dot_i8_i16(b.qs, x + k), sum);
}

// Σ_k w[k]·x[k], 0 ≤ k < n, with several sums under way so that none waits for the one before.
template <class Row, class X>
inline float dot_row(const char * w, const X * x, int64_t n) {
    constexpr int UNROLL = 4;
    vf sum[UNROLL];
    for (vf & part : sum) {
        part = vf_zero();
    }
    int64_t k = 0;
    for (; k + UNROLL * GROUP <= n; k += UNROLL * GROUP) {
        for (int u = 0; u < UNROLL; u++) {
            Row::prefetch(w + PREFETCH_BYTES, k + u * GROUP); // across the row's end into the next one
            sum[u] = dot_group<Row>(w, k + u * GROUP, x, sum[u]);
        }
    }
    for (; k + GROUP <= n; k += GROUP) {
        sum[0] = dot_group<Row>(w, k, x, sum[0]);
    }
    float total = vf_sum(vf_add(vf_add(sum[0], sum[1]), vf_add(sum[2], sum[3])));
    for (; k < n; k++) {
        total += Row::at(w, k) * x[k];
    }
    return total;
}

// sums[i] = Σ_k w_i[k]·x[k] for ROWS rows, summed up side by side.
template <class Row, class X>
inline void dot_short_rows(const char * w, size_t w_stride, const X * x, int64_t n, float * sums) {
    vf sum[ROWS];
    for (vf & part : sum) {
        part = vf_zero();
    }
    int64_t k = 0;
    for (; k + GROUP <= n; k += GROUP) {
        for (int i = 0; i < ROWS; i++) {
            const char * row = w + i * w_stride;
            Row::prefetch(row + PREFETCH_BYTES, k);
            sum[i] = dot_group<Row>(row, k, x, sum[i]);
        }
    }
    if constexpr (std::is_same<X, float>::value) { // rows of blocks end with a group
        for (; k + VF_WIDTH <= n; k += VF_WIDTH) {
            for (int i = 0; i < ROWS; i++) {
                sum[i] = vf_fma(Row::vector(w + i * w_stride, k, 0), vf_load(x + k), sum[i]);
            }
        }
    }
    vf_sum4(sum[0], sum[1], sum[2], sum[3], sums);
    for (; k < n; k++) {
        for (int i = 0; i < ROWS; i++) {
            sums[i] += Row::at(w + i * w_stride, k) * x[k];
        }
    }
}

// Calls store(n_rows, row, sums) with Σ_k w_row[k]·x[k], 0 ≤ k < n; n_rows is known at compile time.
template <class Row, class X, class Store>
inline void dot_column(const char * w, size_t w_stride, int64_t row0, int64_t row1, const X * x, int64_t n, const Store & store) {
    float   sums[ROWS];
    int64_t row = row0;
    for (; n < LONG_ROW && row + ROWS <= row1; row += ROWS) {
        dot_short_rows<Row>(w + row * w_stride, w_stride, x, n, sums);
        store(constant<ROWS>(), row, sums);
    }
    for (; row < row1; row++) {
        sums[0] = dot_row<Row>(w + row * w_stride, x, n);
        store(constant<1>(), row, sums);
    }
}

// --- many columns -----------------------------------------------------------------------------------

// sum[j][i] += w_i[k]·x_j[k] for a vector of k, M rows and N columns.
template <class Row, int M, int N>
inline void add_vector(const char * w, size_t w_stride, int64_t k, int v, const float * const * x, vf (&sum)[N][ROWS]) {
    vf row[M];
    for (int i = 0; i < M; i++) {
        row[i] = vf_keep(Row::vector(w + i * w_stride, k, v));
    }
    for (int j = 0; j < N; j++) {
        const vf column = vf_keep(vf_load(x[j] + k + v * VF_WIDTH));
        for (int i = 0; i < M; i++) {
            sum[j][i] = vf_fma(row[i], column, sum[j][i]);
        }
    }
}

// sum[j][i] += Σ w_i[k]·x_j[k] over the group at k.
template <class Row, int M, int N>
inline void add_group(const char * w, size_t w_stride, int64_t k, const float * const * x, vf (&sum)[N][ROWS]) {
    for (int v = 0; v < GROUP_VECTORS; v++) {
        add_vector<Row, M>(w, w_stride, k, v, x, sum);
    }
}

// The same for rounded columns, without their scales.
template <class Row, int M, int N>
inline void add_group(const char * w, size_t w_stride, int64_t k, const int16_t * const * x, vf (&sum)[N][ROWS]) {
    for (int i = 0; i < M; i++) {
        const block_q8_0 & b     = Row::block(w + i * w_stride, k);
        const vf           scale = vf_set_f16(b.d);
        for (int j = 0; j < N; j++) {
            sum[j][i] = vf_fma(scale, vf_dot_i8_i16(b.qs, x[j] + k), sum[j][i]);
        }
    }
}

// sums[j][i] = Σ_k w_i[k]·x_j[k] for k0 ≤ k < k1; k0 is a multiple of GROUP. Sums from M on are zero.
template <class Row, int M, int N, class X>
inline void dot_tile(const char * w, size_t w_stride, const X * const * x, int64_t k0, int64_t k1, float (*sums)[ROWS]) {
    vf sum[N][ROWS];
    for (auto & column : sum) {
        for (vf & part : column) {
            part = vf_zero();
        }
    }
    // What the next tile of rows reads, which the hardware cannot guess from several streams at once; for
    // short rows, further on in their one stream.
    const size_t ahead = std::max(M * w_stride, PREFETCH_BYTES);
    int64_t k = k0;
    for (; k + GROUP <= k1; k += GROUP) {
        for (int i = 0; i < M; i++) {
            Row::prefetch(w + i * w_stride + ahead, k);
        }
        add_group<Row, M>(w, w_stride, k, x, sum);
    }
    if constexpr (std::is_same<X, float>::value) { // rows of blocks end with a group
        for (; k + VF_WIDTH <= k1; k += VF_WIDTH) {
            add_vector<Row, M>(w, w_stride, k, 0, x, sum);
        }
    }
    for (int j = 0; j < N; j++) {
        vf_sum4(sum[j][0], sum[j][1], sum[j][2], sum[j][3], sums[j]);
    }
    for (; k < k1; k++) {
        for (int j = 0; j < N; j++) {
            for (int i = 0; i < M; i++) {
                sums[j][i] += Row::at(w + i * w_stride, k) * x[j][k];
            }
        }
    }
}

// One tile of M rows against all columns; store(column, sums) takes M sums.
template <class Row, int M, class X, class Store>
inline void dot_tiles(const char * w, size_t w_stride, const X * const * x, int64_t n_columns,
                      int64_t k0, int64_t k1, const Store & store) {
    float sums[COLUMNS][ROWS];
    int64_t column = 0;
    // Tiles of nearly equal width: a narrow last one would widen its rows for few columns.
    for (int64_t tiles = (n_columns + COLUMNS - 1) / COLUMNS; tiles > 0; tiles--) {
        const int64_t n = (n_columns - column + tiles - 1) / tiles;
        const X * const * columns = x + column;
        switch (n) {
            case 1: dot_tile<Row, M, 1>(w, w_stride, columns, k0, k1, sums); break;
            case 2: dot_tile<Row, M, std::min(2, COLUMNS)>(w, w_stride, columns, k0, k1, sums); break;
            case 3: dot_tile<Row, M, std::min(3, COLUMNS)>(w, w_stride, columns, k0, k1, sums); break;
            case 4: dot_tile<Row, M, std::min(4, COLUMNS)>(w, w_stride, columns, k0, k1, sums); break;
            case 5: dot_tile<Row, M, std::min(5, COLUMNS)>(w, w_stride, columns, k0, k1, sums); break;
            default: dot_tile<Row, M, COLUMNS>(w, w_stride, columns, k0, k1, sums); break;
        }
        for (int64_t j = 0; j < n; j++) {
            store(column + j, sums[j]);
        }
        column += n;
    }
}

// Calls store(n_rows, row, column, sums) with Σ_k w_row[k]·x_column[k], k0 ≤ k < k1, for tiles of rows;
// n_rows is known at compile time.
template <class Row, class X, class Store>
inline void dot_columns(const char * w, size_t w_stride, int64_t row0, int64_t row1,
                        const X * const * x, int64_t n_columns, int64_t k0, int64_t k1, const Store & store) {
    int64_t row = row0;
    for (; row + ROWS <= row1; row += ROWS) {
        dot_tiles<Row, ROWS>(w + row * w_stride, w_stride, x, n_columns, k0, k1,
            [&](int64_t column, const float * sums) { store(constant<ROWS>(), row, column, sums); });
    }
    for (; row < row1; row++) {
        dot_tiles<Row, 1>(w + row * w_stride, w_stride, x, n_columns, k0, k1,
            [&](int64_t column, const float * sums) { store(constant<1>(), row, column, sums); });
    }
}

} // namespace svf
