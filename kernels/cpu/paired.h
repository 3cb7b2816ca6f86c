// y = base + U·(s ⊙ (Vᵀ·x)) for many tokens and 8-bit factors, with rounded columns and paired panels.
#pragma once

#include "cpu/paired_panel.h"

#if SVF_PAIRED_PANEL

#include "cpu/column.h"
#include "cpu/problem.h"

namespace svf {

// Calls store(row, n_rows, j, sum, k0, k1) with Σ_k w[k]·x_j[k], k0 ≤ k < k1, for vectors of rows and for tokens;
// the vector's first n_rows elements count.
template <class Store>
void multiply_panels(const problem & p, const ggml_tensor * factor, range rows, range tokens, const Store & store) {
    const int64_t   n        = factor->ne[0];
    const size_t    w_stride = factor->nb[1];
    const char    * w        = (const char *) factor->data;
    paired_blocks   blocks;
    const int16_t * x[PAIRED_COLUMNS];
    // Short rows: several panels together, so that a token's outputs are written in long pieces.
    const int64_t step = PAIRED_ROWS * std::max<int64_t>(PAIRED_DEPTH / n, 1);
    for (int64_t row0 = rows.begin; row0 < rows.end; row0 += step) {
        const int64_t row1 = std::min(row0 + step, rows.end);
        for (int64_t k0 = 0; k0 < n; k0 += PAIRED_DEPTH) {
            const int64_t k1       = std::min(k0 + PAIRED_DEPTH, n);
            const auto    panel_of = [&](int64_t row) { return blocks.at + (row - row0) / PAIRED_ROWS * ((k1 - k0) / QK8_0); };
            for (int64_t row = row0; row < row1; row += PAIRED_ROWS) {
                load_panel(w + row * w_stride, w_stride, row1 - row, k0, k1, panel_of(row));
            }
            int64_t j = tokens.begin;
            for (int64_t tiles = (tokens.end - j + PAIRED_COLUMNS - 1) / PAIRED_COLUMNS; tiles > 0; tiles--) {
                const int64_t n_columns = (tokens.end - j + tiles - 1) / tiles;
                for (int64_t c = 0; c < n_columns; c++) {
                    x[c] = p.rounded_of(j + c) + k0;
                }
                for (int64_t row = row0; row < row1; row += PAIRED_ROWS) {
                    dot_panel_columns(panel_of(row), k1 - k0, x, n_columns,
                        [&](int64_t c, vf sum) { store(row, row1 - row, j + c, sum, k0, k1); });
                }
                j += n_columns;
            }
        }
    }
}

// All threads of the op together.
inline void compute_paired(const problem & p, ggml_threadpool * pool) {
    const range own = share(p.n_active, 1, p.thread, p.n_threads);
    for (int64_t j = own.begin; j < own.end; j++) {
        p.scales[j] = round_column(p.x_of(p.active[j]), p.n_in, p.rounded_of(j)).scale;
    }
    ggml_barrier(pool);

    // Vᵀ has few rows: threads beyond them share the tokens.
    const int   n_panels = (int) ((p.r + PAIRED_ROWS - 1) / PAIRED_ROWS);
    const int   n_across = std::min(p.n_threads, n_panels), n_along = p.n_threads / n_across;
    if (p.thread < n_across * n_along) {
        const range rows   = share(p.r, PAIRED_ROWS, p.thread % n_across, n_across);
        const range tokens = share(p.n_active, 1, p.thread / n_across, n_along);
        multiply_panels(p, p.vt, rows, tokens, [&](int64_t row, int64_t n_rows, int64_t j, vf sum, int64_t k0, int64_t k1) {
            float * t = p.t_of(j) + row;
            store_rows(t, k0 > 0 ? t : nullptr, vf_mul(sum, vf_set(p.scales[j])), n_rows);
            if (k1 == p.n_in) {
                const float * s = p.s_of(p.active[j]) + row;
                for (int64_t i = 0; i < std::min<int64_t>(n_rows, PAIRED_ROWS); i++) {
                    t[i] *= s[i];
                }
            }
        });
    }
    ggml_barrier(pool);

    for (int64_t j = own.begin; j < own.end; j++) {
        p.scales[j] = round_column(p.t_of(j), p.r, p.rounded_of(j)).scale;
    }
    ggml_barrier(pool);

    const range rows = share(p.n_out, PAIRED_ROWS, p.thread, p.n_threads);
    multiply_panels(p, p.u, rows, { 0, p.n_active }, [&](int64_t row, int64_t n_rows, int64_t j, vf sum, int64_t k0, int64_t) {
        const int64_t token = p.active[j];
        const float * start = p.start_of(token, k0);
        store_rows(p.y_of(token) + row, start == nullptr ? nullptr : start + row, vf_mul(sum, vf_set(p.scales[j])), n_rows);
    });
}

} // namespace svf

#endif
