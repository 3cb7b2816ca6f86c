// y = base + U·(s ⊙ (Vᵀ·x)) for 8-bit factors, with columns rounded to 16 bits (column.h).
#pragma once

#include "cpu/column.h"
#include "cpu/dot.h"
#include "cpu/paired_panel.h"
#include "cpu/problem.h"
#include "ggml-cpu-impl.h"

namespace svf {

// Where the products of one column go: out[row] = (start[row] + scale·sum)·s[row]; without start from zero,
// without s times one.
struct target {
    float       * out;
    const float * start;
    float         scale;
    const float * s;

    template <int N>
    void put(constant<N>, int64_t row, const float * sums) const {
        for (int i = 0; i < N; i++) {
            const float sum = scale * sums[i];
            out[row + i] = start == nullptr ? sum : start[row + i] + sum;
        }
        if (s != nullptr) {
            for (int i = 0; i < N; i++) {
                out[row + i] *= s[row + i];
            }
        }
    }
};

// One token. Each thread rounds the column for itself, which takes less time than waiting.
inline void compute_one_rounded(const problem & p, ggml_threadpool * pool) {
    const int64_t token    = p.active[0];
    const auto    multiply = [&](const ggml_tensor * factor, range rows, const float * column_values, target to) {
        const int64_t n = factor->ne[0];
        const column  x = round_column(column_values, n, p.rounded_of(p.thread));
        to.scale        = x.scale;
        dot_column<q8_0_row>((const char *) factor->data, factor->nb[1], rows.begin, rows.end, x.values, n,
            [&](auto n_rows, int64_t row, const float * sums) { to.put(n_rows, row, sums); });
    };
    multiply(p.vt, share(p.r, ROWS, p.thread, p.n_threads), p.x_of(token), { p.t, nullptr, 0.0f, p.s_of(token) });
    ggml_barrier(pool);
    multiply(p.u, share(p.n_out, VF_WIDTH, p.thread, p.n_threads), p.t, { p.y_of(token), p.base_of(token), 0.0f, nullptr });
}

// Both multiply functions put Σ_k w[k]·x_j[k] for some rows and tokens; target_of(j, k0, k1) tells where those
// over k0 ≤ k < k1 go.

// A tile of rows meets a few columns.
template <class TargetOf>
void multiply_tiles(const problem & p, const ggml_tensor * factor, range rows, range tokens, const TargetOf & target_of) {
    const int16_t * x[BATCH];
    target          targets[BATCH];
    for (int64_t j0 = tokens.begin; j0 < tokens.end; j0 += BATCH) {
        const int64_t n_columns = std::min(BATCH, tokens.end - j0);
        for (int64_t j = 0; j < n_columns; j++) {
            x[j]       = p.rounded_of(j0 + j);
            targets[j] = target_of(j0 + j, 0, factor->ne[0]);
        }
        dot_columns<q8_0_row>((const char *) factor->data, factor->nb[1], rows.begin, rows.end, x, n_columns, 0, factor->ne[0],
            [&](auto n_rows, int64_t row, int64_t column, const float * sums) { targets[column].put(n_rows, row, sums); });
    }
}

#if SVF_PAIRED_PANEL
// Panels of turned rows meet many columns.
template <class TargetOf>
void multiply_panels(const problem & p, const ggml_tensor * factor, range rows, range tokens, const TargetOf & target_of) {
    const int64_t   n        = factor->ne[0];
    const size_t    w_stride = factor->nb[1];
    const char    * w        = (const char *) factor->data;
    paired_block    blocks[PAIRED_DEPTH / QK8_0]; // one deep panel, or several shallow ones
    const int16_t * x[PAIRED_COLUMNS];
    target          targets[PAIRED_COLUMNS];
    // Short rows: several panels together, so that a token's outputs are written in long pieces.
    const int64_t step = PAIRED_ROWS * std::max<int64_t>(PAIRED_DEPTH / n, 1);
    for (int64_t row0 = rows.begin; row0 < rows.end; row0 += step) {
        const int64_t row1 = std::min(row0 + step, rows.end);
        for (int64_t k0 = 0; k0 < n; k0 += PAIRED_DEPTH) {
            const int64_t k1       = std::min(k0 + PAIRED_DEPTH, n);
            const auto    panel_of = [&](int64_t row) { return blocks + (row - row0) / PAIRED_ROWS * ((k1 - k0) / QK8_0); };
            for (int64_t row = row0; row < row1; row += PAIRED_ROWS) {
                load_panel(w + row * w_stride, w_stride, row1 - row, k0, k1, panel_of(row));
            }
            int64_t j = tokens.begin;
            for (int64_t tiles = (tokens.end - j + PAIRED_COLUMNS - 1) / PAIRED_COLUMNS; tiles > 0; tiles--) {
                const int64_t n_columns = (tokens.end - j + tiles - 1) / tiles;
                for (int64_t c = 0; c < n_columns; c++) {
                    x[c]       = p.rounded_of(j + c) + k0;
                    targets[c] = target_of(j + c, k0, k1);
                }
                for (int64_t row = row0; row < row1; row += PAIRED_ROWS) {
                    dot_panel_columns(panel_of(row), k1 - k0, x, n_columns,
                        [&](int64_t c, vf sum) {
                            float sums[PAIRED_ROWS];
                            vf_store(sums, sum);
                            if (row + PAIRED_ROWS <= row1) {
                                targets[c].put(constant<PAIRED_ROWS>(), row, sums);
                                return;
                            }
                            for (int64_t i = row; i < row1; i++) {
                                targets[c].put(constant<1>(), i, sums + (i - row));
                            }
                        });
                }
                j += n_columns;
            }
        }
    }
}
#endif

// Tokens up to which tiles are faster than turning rows round. Short rows spend their time in summing up
// vectors, which panels avoid.
constexpr int64_t FEW_TOKENS = 8, FEW_TOKENS_SHORT = 2;

template <class TargetOf>
void multiply(const problem & p, const ggml_tensor * factor, range rows, range tokens, const TargetOf & target_of) {
#if SVF_PAIRED_PANEL
    if (tokens.end - tokens.begin > (factor->ne[0] < LONG_ROW ? FEW_TOKENS_SHORT : FEW_TOKENS)) {
        multiply_panels(p, factor, rows, tokens, target_of);
        return;
    }
#endif
    multiply_tiles(p, factor, rows, tokens, target_of);
}

// Several tokens, all threads of the op together.
inline void compute_rounded(const problem & p, ggml_threadpool * pool) {
    constexpr int64_t STEP = 16; // rows
    const range own = share(p.n_active, 1, p.thread, p.n_threads);
    for (int64_t j = own.begin; j < own.end; j++) {
        p.scales[j] = round_column(p.x_of(p.active[j]), p.n_in, p.rounded_of(j)).scale;
    }
    ggml_barrier(pool);

    // Vᵀ has few rows: threads beyond them share the tokens.
    const int n_across = (int) std::min<int64_t>(p.n_threads, (p.r + STEP - 1) / STEP), n_along = p.n_threads / n_across;
    if (p.thread < n_across * n_along) {
        const range rows   = share(p.r, STEP, p.thread % n_across, n_across);
        const range tokens = share(p.n_active, 1, p.thread / n_across, n_along);
        multiply(p, p.vt, rows, tokens, [&](int64_t j, int64_t k0, int64_t k1) {
            return target{ p.t_of(j), k0 > 0 ? p.t_of(j) : nullptr, p.scales[j], k1 == p.n_in ? p.s_of(p.active[j]) : nullptr };
        });
    }
    ggml_barrier(pool);

    for (int64_t j = own.begin; j < own.end; j++) {
        p.scales[j] = round_column(p.t_of(j), p.r, p.rounded_of(j)).scale;
    }
    ggml_barrier(pool);

    multiply(p, p.u, share(p.n_out, STEP, p.thread, p.n_threads), { 0, p.n_active }, [&](int64_t j, int64_t k0, int64_t) {
        return target{ p.y_of(p.active[j]), p.start_of(p.active[j], k0), p.scales[j], nullptr };
    });
}

} // namespace svf
