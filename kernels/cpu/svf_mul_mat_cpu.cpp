// svf_mul_mat on the CPU, fast: factors stay in their stored type and are widened in registers, and
// activations are never rounded (ggml's own products round them to the companion type of the factors).
//
// Two phases per range of tokens: t = s ⊙ (Vᵀ·x) into the shared work memory, then y = base + U·t.
// Many tokens: each thread takes its own tokens through both phases and never waits. Few tokens: the
// threads share the rows of Vᵀ, wait once, then share the rows of U.
#include "cpu/svf_mul_mat_cpu.h"
#include "svf_mul_mat.h"

#define GGML_COMMON_DECL_CPP
#include "ggml-common.h"
#include "ggml-cpu-impl.h"
#include "cpu/simd.h"

#include <algorithm>
#include <type_traits>

namespace {

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

// sum + Σ w[k]·x over one group, when a row meets a single column.
template <class Row>
inline vf dot_group(const char * row, int64_t k, const float * x, vf sum) {
    for (int v = 0; v < GROUP_VECTORS; v++) {
        sum = vf_fma(Row::vector(row, k, v), vf_load(x + v * VF_WIDTH), sum);
    }
    return sum;
}

template <>
inline vf dot_group<q8_0_row>(const char * row, int64_t k, const float * x, vf sum) {
    // The block's scale is applied once, to its sum.
    const block_q8_0 & b = q8_0_row::block(row, k);
    vf part = vf_mul(vf_load_i8(b.qs), vf_load(x));
    for (int v = 1; v < GROUP_VECTORS; v++) {
        part = vf_fma(vf_load_i8(b.qs + v * VF_WIDTH), vf_load(x + v * VF_WIDTH), part);
    }
    return vf_fma(vf_set_f16(b.d), part, sum);
}

// How far ahead factors are fetched, to cover the latency of memory.
constexpr size_t PREFETCH_BYTES = 2048;

// Register tile of the dot-product kernel: ROWS × COLUMNS accumulators.
constexpr int ROWS    = 4;
constexpr int COLUMNS = VF_REGISTERS >= 32 ? 6 : 2;

// sums[j][i] = Σ_k w_i[k]·x_j[k] for k0 ≤ k < k1; k0 is a multiple of GROUP. Sums from M on are zero.
template <class Row, int M, int N>
inline void dot_tile(const char * w, size_t w_stride, const float * const * x, int64_t k0, int64_t k1, float (*sums)[ROWS]) {
    vf sum[N][ROWS];
    for (int j = 0; j < N; j++) {
        for (int i = 0; i < ROWS; i++) {
            sum[j][i] = vf_zero();
        }
    }
    const auto step = [&](int64_t k, int v) {
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
    };
    // What the next tile of rows reads, which the hardware cannot guess from several streams at once; for
    // short rows, further on in their one stream.
    const size_t ahead = std::max(M * w_stride, PREFETCH_BYTES);
    int64_t k = k0;
    for (; k + GROUP <= k1; k += GROUP) {
        for (int i = 0; i < M; i++) {
            Row::prefetch(w + i * w_stride + ahead, k);
        }
        if (N == 1) {
            for (int i = 0; i < M; i++) {
                sum[0][i] = dot_group<Row>(w + i * w_stride, k, x[0] + k, sum[0][i]);
            }
            continue;
        }
        for (int v = 0; v < GROUP_VECTORS; v++) {
            step(k, v);
        }
    }
    for (; k + VF_WIDTH <= k1; k += VF_WIDTH) { // rows of blocks end with a group and do not come here
        step(k, 0);
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

// Σ_k w[k]·x[k] for k0 ≤ k < k1, with several sums under way so that none waits for the one before.
template <class Row>
inline float dot_row(const char * w, const float * x, int64_t k0, int64_t k1) {
    constexpr int UNROLL = 4;
    vf sum[UNROLL];
    for (vf & part : sum) {
        part = vf_zero();
    }
    int64_t k = k0;
    for (; k + UNROLL * GROUP <= k1; k += UNROLL * GROUP) {
        for (int u = 0; u < UNROLL; u++) {
            Row::prefetch(w + PREFETCH_BYTES, k + u * GROUP); // across the row's end into the next one
            sum[u] = dot_group<Row>(w, k + u * GROUP, x + k + u * GROUP, sum[u]);
        }
    }
    for (; k + GROUP <= k1; k += GROUP) {
        sum[0] = dot_group<Row>(w, k, x + k, sum[0]);
    }
    float total = vf_sum(vf_add(vf_add(sum[0], sum[1]), vf_add(sum[2], sum[3])));
    for (; k < k1; k++) {
        total += Row::at(w, k) * x[k];
    }
    return total;
}

// Rows this long are read one after the other when there is one column: memory is fastest in a straight
// line, and the end of a row costs little.
constexpr int64_t LONG_ROW = 256;

// Elements of k a tile covers at a time: its columns then stay in the first-level cache.
constexpr int64_t K_PIECE = 1024;

// One tile of M rows against all columns; store(column, sums) takes M sums.
template <class Row, int M, class Store>
inline void dot_columns(const char * w, size_t w_stride, const float * const * x, int64_t n_columns,
                        int64_t k0, int64_t k1, const Store & store) {
    float sums[COLUMNS][ROWS];
    int64_t column = 0;
    // Tiles of nearly equal width: a narrow last one would widen its rows for few columns.
    for (int64_t tiles = (n_columns + COLUMNS - 1) / COLUMNS; tiles > 0; tiles--) {
        const int64_t n = (n_columns - column + tiles - 1) / tiles;
        const float * const * columns = x + column;
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

template <int N> using constant = std::integral_constant<int, N>;

// Calls store(n_rows, row, column, sums) with Σ_k w_row[k]·x_column[k], k0 ≤ k < k1, for tiles of rows;
// n_rows is known at compile time.
template <class Row, class Store>
inline void dot_products(const char * w, size_t w_stride, int64_t row0, int64_t row1,
                         const float * const * x, int64_t n_columns, int64_t k0, int64_t k1, const Store & store) {
    const auto one_by_one = [&](int64_t begin, int64_t end, const auto & sum_row) {
        for (int64_t row = begin; row < end; row++) {
            sum_row(w + row * w_stride, [&](int64_t column, const float * sum) { store(constant<1>(), row, column, sum); });
        }
    };
    if (n_columns == 1 && k1 - k0 >= LONG_ROW) {
        one_by_one(row0, row1, [&](const char * row, const auto & keep) {
            const float sum = dot_row<Row>(row, x[0], k0, k1);
            keep(0, &sum);
        });
        return;
    }
    int64_t row = row0;
    for (; row + ROWS <= row1; row += ROWS) {
        dot_columns<Row, ROWS>(w + row * w_stride, w_stride, x, n_columns, k0, k1,
            [&](int64_t column, const float * sums) { store(constant<ROWS>(), row, column, sums); });
    }
    one_by_one(row, row1, [&](const char * rest, const auto & keep) {
        dot_columns<Row, 1>(rest, w_stride, x, n_columns, k0, k1, keep);
    });
}

// The op's arguments as plain numbers, and the tokens that need work.
struct problem {
    int64_t n_in, r, n_out, n_tokens;
    const ggml_tensor * x, * vt, * u, * base;
    const float   * s;
    const int32_t * ids;
    float         * y;
    float         * t;       // [r, n_active], shared: s ⊙ (Vᵀ·x) of the active tokens
    int32_t       * active;  // [n_active], this thread's own copy: tokens whose row of s is not all zero
    int64_t         n_active;

    const float * x_of(int64_t token) const { return (const float *) ((const char *) x->data + token * x->nb[1]); }
    const float * s_of(int64_t token) const { return s + (int64_t) ids[token] * r; }
    const float * base_of(int64_t token) const {
        return base == nullptr ? nullptr : (const float *) ((const char *) base->data + token * base->nb[1]);
    }
    float * y_of(int64_t token) const { return y + token * n_out; }
    // What a sum over k ≥ k0 is added to: base, or the part of y that is already there.
    const float * start_of(int64_t token, int64_t k0) const { return k0 > 0 ? y_of(token) : base_of(token); }
    float * t_of(int64_t j) const { return t + j * r; }
};

// A half-open range of rows, or of active tokens.
struct range { int64_t begin, end; };

// The part of 0…n that thread `ith` of `nth` takes, in multiples of `step`.
range share(int64_t n, int64_t step, int ith, int nth) {
    const int64_t steps = (n + step - 1) / step;
    return { std::min(n, steps * ith / nth * step), std::min(n, steps * (ith + 1) / nth * step) };
}

// Tokens whose columns are gathered at a time.
constexpr int64_t BATCH = 48;

// t = s ⊙ (Vᵀ·x) for some rows of Vᵀ.
template <class Row>
void project(const problem & p, range rows, range tokens) {
    const float * x[BATCH], * s[BATCH];
    for (int64_t j0 = tokens.begin; j0 < tokens.end; j0 += BATCH) {
        const int64_t n_columns = std::min(BATCH, tokens.end - j0);
        for (int64_t j = 0; j < n_columns; j++) {
            x[j] = p.x_of(p.active[j0 + j]);
            s[j] = p.s_of(p.active[j0 + j]);
        }
        // Few columns are read once, straight through the rows; many are cut into pieces.
        const int64_t piece = n_columns <= COLUMNS ? p.n_in : K_PIECE;
        for (int64_t k0 = 0; k0 < p.n_in; k0 += piece) {
            const int64_t k1    = std::min(k0 + piece, p.n_in);
            const bool    first = k0 == 0, last = k1 == p.n_in;
            dot_products<Row>((const char *) p.vt->data, p.vt->nb[1], rows.begin, rows.end, x, n_columns, k0, k1,
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
        const int64_t piece     = n_columns <= COLUMNS ? p.r : K_PIECE;
        for (int64_t k0 = 0; k0 < p.r; k0 += piece) {
            const int64_t k1 = std::min(k0 + piece, p.r);
            for (int64_t j = 0; j < n_columns; j++) {
                t[j]     = p.t_of(j0 + j);
                y[j]     = p.y_of(p.active[j0 + j]);
                start[j] = p.start_of(p.active[j0 + j], k0);
            }
            dot_products<Row>((const char *) p.u->data, p.u->nb[1], rows.begin, rows.end, t, n_columns, k0, k1,
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
void load_panel(const problem & p, int64_t row0, int64_t n_rows, int64_t k0, int64_t k1, float * panel) {
    float wide[PANEL_DEPTH];
    for (int64_t i = 0; i < n_rows; i++) {
        widen<Row>((const char *) p.u->data + (row0 + i) * p.u->nb[1], k0, k1, wide);
        for (int64_t k = 0; k < k1 - k0; k++) {
            panel[k * PANEL_ROWS + i] = wide[k];
        }
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
        if (n_rows == PANEL_ROWS) {
            for (int v = 0; v < PANEL_VECTORS; v++) {
                const int64_t i = v * VF_WIDTH;
                vf_store(y + i, start == nullptr ? sum[n][v] : vf_add(vf_load(start + row0 + i), sum[n][v]));
            }
            continue;
        }
        float out[PANEL_ROWS];
        for (int v = 0; v < PANEL_VECTORS; v++) {
            vf_store(out + v * VF_WIDTH, sum[n][v]);
        }
        for (int64_t i = 0; i < n_rows; i++) {
            y[i] = start == nullptr ? out[i] : start[row0 + i] + out[i];
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
            load_panel<Row>(p, row, n_rows, k0, k1, panel);
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
void expand(const problem & p, range rows, range tokens) {
    if (tokens.end - tokens.begin >= PANEL_MIN_TOKENS && p.r <= PANEL_MAX_RANK) {
        expand_by_panels<Row>(p, rows, tokens);
    } else {
        expand_by_rows<Row>(p, rows, tokens);
    }
}

void project(const problem & p, range rows, range tokens) {
    switch (p.vt->type) {
        case GGML_TYPE_F32:  project<f32_row >(p, rows, tokens); break;
        case GGML_TYPE_F16:  project<f16_row >(p, rows, tokens); break;
        case GGML_TYPE_Q8_0: project<q8_0_row>(p, rows, tokens); break;
        default: GGML_ABORT("svf_mul_mat: factors of type %s", ggml_type_name(p.vt->type));
    }
}

void expand(const problem & p, range rows, range tokens) {
    switch (p.u->type) {
        case GGML_TYPE_F32:  expand<f32_row >(p, rows, tokens); break;
        case GGML_TYPE_F16:  expand<f16_row >(p, rows, tokens); break;
        case GGML_TYPE_Q8_0: expand<q8_0_row>(p, rows, tokens); break;
        default: GGML_ABORT("svf_mul_mat: factors of type %s", ggml_type_name(p.u->type));
    }
}

// Writes base (or zero) for tokens whose row of s is all zero, and lists the others.
void split_tokens(problem & p, int ith, int nth) {
    for (int64_t token = 0; token < p.n_tokens; token++) {
        const float * s = p.s_of(token);
        if (std::any_of(s, s + p.r, [](float value) { return value != 0.0f; })) {
            p.active[p.n_active++] = (int32_t) token;
        } else if (token % nth == ith) {
            const float * base = p.base_of(token);
            if (base == nullptr) {
                std::fill_n(p.y_of(token), p.n_out, 0.0f);
            } else if (base != p.y_of(token)) {
                std::copy_n(base, p.n_out, p.y_of(token));
            }
        }
    }
}

// Tokens per thread from which threads work on their own tokens.
constexpr int64_t OWN_TOKENS = 32;

} // namespace

size_t svf_mul_mat_cpu_work_size(const ggml_tensor * node, int n_threads) {
    const int64_t r = node->src[SVF_SRC_VT]->ne[1], n_tokens = node->src[SVF_SRC_X]->ne[1];
    return n_tokens * (r * sizeof(float) + n_threads * sizeof(int32_t));
}

void svf_mul_mat_cpu(const ggml_compute_params * params, ggml_tensor * node) {
    const int ith = params->ith, nth = params->nth;
    if (params->use_ref) {
        if (ith == 0) {
            svf_mul_mat_reference(node, (float *) node->data);
        }
        return;
    }

    problem p = {};
    p.x        = node->src[SVF_SRC_X];
    p.vt       = node->src[SVF_SRC_VT];
    p.u        = node->src[SVF_SRC_U];
    p.base     = node->src[SVF_SRC_BASE];
    p.s        = (const float *) node->src[SVF_SRC_S]->data;
    p.ids      = (const int32_t *) node->src[SVF_SRC_IDS]->data;
    p.y        = (float *) node->data;
    p.n_in     = p.vt->ne[0];
    p.r        = p.vt->ne[1];
    p.n_out    = p.u->ne[1];
    p.n_tokens = p.x->ne[1];
    p.t        = (float *) params->wdata;
    p.active   = (int32_t *) (p.t + p.r * p.n_tokens) + ith * p.n_tokens;
    split_tokens(p, ith, nth);

    if (p.n_active >= OWN_TOKENS * nth) {
        const range tokens = share(p.n_active, PANEL_TOKENS, ith, nth);
        project(p, { 0, p.r }, tokens);
        expand(p, { 0, p.n_out }, tokens);
    } else if (p.n_active > 0) { // the same on every thread, so all of them wait or none does
        project(p, share(p.r, ROWS, ith, nth), { 0, p.n_active });
        ggml_barrier(params->threadpool);
        expand(p, share(p.n_out, PANEL_ROWS, ith, nth), { 0, p.n_active });
    }
}
