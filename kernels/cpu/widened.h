// y = base + U·(s ⊙ (Vᵀ·x)) with factors widened to floats, for every type of factor and every processor.
#pragma once

#include "cpu/dot.h"
#include "cpu/factor_row.h"
#include "cpu/problem.h"

namespace svf {

// t = s ⊙ (Vᵀ·x) for some rows of Vᵀ.
template <class Row>
inline void project(const problem & p, range rows, range tokens) {
    const float * x[BATCH], * s[BATCH];
    for (int64_t j0 = tokens.begin; j0 < tokens.end; j0 += BATCH) {
        const int64_t n_columns = std::min(BATCH, tokens.end - j0);
        for (int64_t j = 0; j < n_columns; j++) {
            x[j] = p.x_of(p.active[j0 + j]);
            s[j] = p.s_of(p.active[j0 + j]);
        }
        if (n_columns == 1) {
            dot_column<Row>((const char *) p.vt->data, p.vt->nb[1], rows.begin, rows.end, x[0], p.n_in, [&](auto n_rows, int64_t row, const float * sums) {
                for (int i = 0; i < n_rows; i++) {
                    p.t_of(j0)[row + i] = s[0][row + i] * sums[i];
                }
            });
            continue;
        }
        // Few columns are read once, straight through the rows; many are cut into pieces.
        const int64_t piece = n_columns <= COLUMNS ? p.n_in : K_PIECE;
        for (int64_t k0 = 0; k0 < p.n_in; k0 += piece) {
            const int64_t k1    = std::min(k0 + piece, p.n_in);
            const bool    first = k0 == 0, last = k1 == p.n_in;
            dot_columns<Row>((const char *) p.vt->data, p.vt->nb[1], rows.begin, rows.end, x, n_columns, k0, k1,
                [&](auto n_rows, int64_t row, int64_t column, const float * sums) {
                    float * t = p.t_of(j0 + column) + row;
                    for (int i = 0; i < n_rows; i++) {
                        const float sum = first ? sums[i] : t[i] + sums[i];
                        t[i] = last ? s[column][row + i] * sum : sum;
                    }
                });
        }
    }
}

// y = base + U·t by dot products along the rows of U.
template <class Row>
void expand_by_rows(const problem & p, range rows, range tokens) {
    const float * t[BATCH], * start[BATCH];
    float       * y[BATCH];
    for (int64_t j0 = tokens.begin; j0 < tokens.end; j0 += BATCH) {
        const int64_t n_columns = std::min(BATCH, tokens.end - j0);
        if (n_columns == 1) {
            const float * base = p.base_of(p.active[j0]);
            float       * y    = p.y_of(p.active[j0]);
            dot_column<Row>((const char *) p.u->data, p.u->nb[1], rows.begin, rows.end, p.t_of(j0), p.r, [&](auto n_rows, int64_t row, const float * sums) {
                for (int i = 0; i < n_rows; i++) {
                    y[row + i] = base == nullptr ? sums[i] : base[row + i] + sums[i];
                }
            });
            continue;
        }
        const int64_t piece = n_columns <= COLUMNS ? p.r : K_PIECE;
        for (int64_t k0 = 0; k0 < p.r; k0 += piece) {
            const int64_t k1 = std::min(k0 + piece, p.r);
            for (int64_t j = 0; j < n_columns; j++) {
                t[j]     = p.t_of(j0 + j);
                y[j]     = p.y_of(p.active[j0 + j]);
                start[j] = p.start_of(p.active[j0 + j], k0);
            }
            dot_columns<Row>((const char *) p.u->data, p.u->nb[1], rows.begin, rows.end, t, n_columns, k0, k1,
                [&](auto n_rows, int64_t row, int64_t column, const float * sums) {
                    for (int i = 0; i < n_rows; i++) {
                        y[column][row + i] = start[column] == nullptr ? sums[i] : start[column][row + i] + sums[i];
                    }
                });
        }
    }
}

// A panel of U: PANEL_ROWS outputs × PANEL_DEPTH singular vectors.
constexpr int     PANEL_VECTORS = 2;
constexpr int     PANEL_ROWS    = PANEL_VECTORS * VF_WIDTH;
constexpr int64_t PANEL_DEPTH   = 128;
constexpr int     PANEL_TOKENS  = VF_REGISTERS >= 32 ? 12 : 6;

template <class Row>
void load_widened_panel(const problem & p, int64_t row0, int64_t n_rows, int64_t k0, int64_t k1, float * panel) {
    float wide[PANEL_DEPTH];
    for (int64_t i = 0; i < n_rows; i++) {
        widen<Row>((const char *) p.u->data + (row0 + i) * p.u->nb[1], k0, k1, wide);
        for (int64_t k = 0; k < k1 - k0; k++) {
            panel[k * PANEL_ROWS + i] = wide[k];
        }
    }
}

// out = start + sum for n_rows ≤ VF_WIDTH rows; without start, out = sum.
inline void store_rows(float * out, const float * start, vf sum, int64_t n_rows) {
    if (n_rows >= VF_WIDTH) {
        vf_store(out, start == nullptr ? sum : vf_add(vf_load(start), sum));
        return;
    }
    float lanes[VF_WIDTH];
    vf_store(lanes, sum);
    for (int64_t i = 0; i < n_rows; i++) {
        out[i] = start == nullptr ? lanes[i] : start[i] + lanes[i];
    }
}

// y (+)= panel·t for N tokens; the first piece of k starts from base, later ones from y.
template <int N>
inline void panel_tokens(const problem & p, const float * panel, int64_t row0, int64_t n_rows,
                         int64_t k0, int64_t k1, int64_t j) {
    vf sum[N][PANEL_VECTORS];
    const float * t[N];
    for (int n = 0; n < N; n++) {
        t[n] = p.t_of(j + n);
        for (int v = 0; v < PANEL_VECTORS; v++) {
            sum[n][v] = vf_zero();
        }
    }
    for (int64_t k = k0; k < k1; k++) {
        vf column[PANEL_VECTORS];
        for (int v = 0; v < PANEL_VECTORS; v++) {
            column[v] = vf_load(panel + (k - k0) * PANEL_ROWS + v * VF_WIDTH);
        }
        for (int n = 0; n < N; n++) {
            const vf factor = vf_set(t[n][k]);
            for (int v = 0; v < PANEL_VECTORS; v++) {
                sum[n][v] = vf_fma(factor, column[v], sum[n][v]);
            }
        }
    }
    for (int n = 0; n < N; n++) {
        const int64_t token = p.active[j + n];
        float       * y     = p.y_of(token) + row0;
        const float * start = p.start_of(token, k0);
        for (int v = 0; v < PANEL_VECTORS; v++) {
            const int64_t i = v * VF_WIDTH;
            store_rows(y + i, start == nullptr ? nullptr : start + row0 + i, sum[n][v], n_rows - i);
        }
    }
}

// y = base + U·t by outer products of widened, transposed panels of U.
template <class Row>
void expand_by_panels(const problem & p, range rows, range tokens) {
    alignas(64) float panel[PANEL_ROWS * PANEL_DEPTH] = {}; // rows past the last stay zero
    for (int64_t row = rows.begin; row < rows.end; row += PANEL_ROWS) {
        const int64_t n_rows = std::min<int64_t>(PANEL_ROWS, rows.end - row);
        for (int64_t k0 = 0; k0 < p.r; k0 += PANEL_DEPTH) {
            const int64_t k1 = std::min(k0 + PANEL_DEPTH, p.r);
            load_widened_panel<Row>(p, row, n_rows, k0, k1, panel);
            int64_t j = tokens.begin;
            for (; j + PANEL_TOKENS <= tokens.end; j += PANEL_TOKENS) {
                panel_tokens<PANEL_TOKENS>(p, panel, row, n_rows, k0, k1, j);
            }
            for (; j < tokens.end; j++) {
                panel_tokens<1>(p, panel, row, n_rows, k0, k1, j);
            }
        }
    }
}

// Short rows of U spend their time summing up vectors; a transposed panel avoids that, once enough tokens
// share the transposition.
constexpr int64_t PANEL_MIN_TOKENS = 48;
constexpr int64_t PANEL_MAX_RANK   = 256;

template <class Row>
inline void expand(const problem & p, range rows, range tokens) {
    if (tokens.end - tokens.begin >= PANEL_MIN_TOKENS && p.r <= PANEL_MAX_RANK) {
        expand_by_panels<Row>(p, rows, tokens);
    } else {
        expand_by_rows<Row>(p, rows, tokens);
    }
}

inline void project(const problem & p, range rows, range tokens) {
    switch (p.vt->type) {
        case GGML_TYPE_F32:  project<f32_row >(p, rows, tokens); break;
        case GGML_TYPE_F16:  project<f16_row >(p, rows, tokens); break;
        case GGML_TYPE_Q8_0: project<q8_0_row>(p, rows, tokens); break;
        default: GGML_ABORT("svf_mul_mat: factors of type %s", ggml_type_name(p.vt->type));
    }
}

inline void expand(const problem & p, range rows, range tokens) {
    switch (p.u->type) {
        case GGML_TYPE_F32:  expand<f32_row >(p, rows, tokens); break;
        case GGML_TYPE_F16:  expand<f16_row >(p, rows, tokens); break;
        case GGML_TYPE_Q8_0: expand<q8_0_row>(p, rows, tokens); break;
        default: GGML_ABORT("svf_mul_mat: factors of type %s", ggml_type_name(p.u->type));
    }
}

} // namespace svf
