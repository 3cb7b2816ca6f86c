// y = base + U·(s ⊙ (Vᵀ·x)) for few tokens in two launches, each reading its factor once:
//   project   t = s ⊙ (Vᵀ·x)   [r, T], and which tokens have a row of s that is not all zero
//   expand    y = base + U·t   [n_out, T]
//
// A block has blockDim.y sets of blockDim.x lanes. The lanes of a set share the elements of ROWS rows of the
// factor and multiply them with up to T tokens. Tokens beyond T are another row of blocks (blockIdx.y).
// Sums are in F32, in an order that depends on shapes only.
#pragma once

#include "cuda/factor.cuh"
#include "cuda/launch.cuh"

namespace svf {

constexpr int TOKENS      = 8;   // most tokens of a block
constexpr int FEW_TOKENS  = 16;  // most tokens that these kernels are meant for
constexpr int MIN_LANES   = 4;   // of a set
constexpr int MAX_LANES   = 256;
constexpr int MIN_THREADS = 128; // of a block
constexpr int MAX_PARTS   = MIN_THREADS / MIN_LANES; // partial sums of a row set's result, over the whole block

// The rows of a factor.
struct factor_rows {
    const char * data;
    int64_t      stride; // bytes
    int          n_rows, n;
    bool         aligned; // see factor.cuh
};

// One column per token.
struct token_columns {
    const char * data;
    int64_t      stride; // bytes
    int          n_tokens;
    bool         aligned;

    __device__ __forceinline__ const float * of(int token) const {
        return (const float *) (data + min(token, n_tokens - 1) * stride);
    }
};

// s of each token, through its slot.
struct token_scales {
    const float   * s;
    const int32_t * ids;
    int             r;

    __device__ __forceinline__ const float * of(int token) const { return s + (int64_t) ids[token] * r; }
};

// By bits: the fast arithmetic of ggml-cuda takes the smallest numbers for zero.
static __device__ __forceinline__ bool is_zero(float value) {
    return (__float_as_uint(value) & 0x7fffffffu) == 0;
}

// Asks for the first elements this thread will read, before waiting for what decides whether they are read.
template <class Factor, int ROWS>
static __device__ __forceinline__ void prefetch_rows(const factor_rows & w, int row0) {
    const int k = threadIdx.x * GROUP;
#pragma unroll
    for (int i = 0; i < ROWS; i++) {
        if (row0 + i < w.n_rows && k < w.n) {
            prefetch_l2(Factor::address(w.data + (row0 + i) * w.stride, k));
        }
    }
}

// sum[j][i] += this lane's part of row i times column j.
template <class Factor, int T, int ROWS, bool ALIGNED>
static __device__ __forceinline__ void add_products(
    const char * const (&row)[ROWS], const float * const (&column)[T], int n, float (&sum)[T][ROWS]) {
    constexpr int UNROLL = !ALIGNED ? 1 : T * ROWS <= 4 ? 4 : T * ROWS <= 8 ? 2 : 1;
    const int n_groups = n / GROUP;
#pragma unroll UNROLL
    for (int group = threadIdx.x; group < n_groups; group += blockDim.x) {
        const int k = group * GROUP;
        float wide[ROWS][GROUP];
#pragma unroll
        for (int i = 0; i < ROWS; i++) {
            Factor::template load<ALIGNED>(row[i], k, wide[i]);
        }
#pragma unroll
        for (int j = 0; j < T; j++) {
            float values[GROUP];
            load_floats<ALIGNED>(column[j] + k, values);
#pragma unroll
            for (int i = 0; i < ROWS; i++) {
#pragma unroll
                for (int e = 0; e < GROUP; e++) {
                    sum[j][i] += wide[i][e] * values[e];
                }
            }
        }
    }
#pragma unroll 1
    for (int k = n_groups * GROUP + threadIdx.x; k < n; k += blockDim.x) {
#pragma unroll
        for (int i = 0; i < ROWS; i++) {
            const float value = Factor::at(row[i], k);
#pragma unroll
            for (int j = 0; j < T; j++) {
                sum[j][i] += value * column[j][k];
            }
        }
    }
}

// parts[part][j*ROWS + i]: what 32 lanes (or a whole set, if it has fewer) add to row row0 + i times token
// token0 + j. Ends with a barrier. Rows and tokens beyond the last repeat the last.
template <class Factor, int T, int ROWS>
static __device__ __forceinline__ void multiply_rows(
    const factor_rows & w, const token_columns & x, int row0, int token0, float (*parts)[T * ROWS]) {
    const char * row[ROWS];
#pragma unroll
    for (int i = 0; i < ROWS; i++) {
        row[i] = w.data + min(row0 + i, w.n_rows - 1) * w.stride;
    }
    const float * column[T];
#pragma unroll
    for (int j = 0; j < T; j++) {
        column[j] = x.of(token0 + j);
    }
    float sum[T][ROWS] = {};
    if (w.aligned && x.aligned) {
        add_products<Factor, T, ROWS, true>(row, column, w.n, sum);
    } else {
        add_products<Factor, T, ROWS, false>(row, column, w.n, sum);
    }

    const int lane = threadIdx.x, n_lanes = blockDim.x;
    const int width = min(n_lanes, 32);
    for (int offset = width/2; offset > 0; offset /= 2) {
#pragma unroll
        for (int j = 0; j < T; j++) {
#pragma unroll
            for (int i = 0; i < ROWS; i++) {
                sum[j][i] += __shfl_xor_sync(0xffffffffu, sum[j][i], offset, width);
            }
        }
    }
    if (lane % width == 0) {
        const int part = (threadIdx.y * n_lanes + lane) / width;
#pragma unroll
        for (int j = 0; j < T; j++) {
#pragma unroll
            for (int i = 0; i < ROWS; i++) {
                parts[part][j*ROWS + i] = sum[j][i];
            }
        }
    }
    __syncthreads();
}

// The results of a block, in an order in which neighbouring threads have neighbouring rows.
template <int T, int ROWS>
struct block_results {
    int n_block_rows = blockDim.y * ROWS;
    int row0         = blockIdx.x * n_block_rows;
    int token0       = blockIdx.y * T;
    int n_parts      = (blockDim.x + 31) / 32; // of one set

    // Calls `each`(row, token, sum's index) for the results of this thread that exist.
    template <class Each>
    __device__ __forceinline__ void for_each(int first_row, int n_rows, int n_tokens, const Each & each) const {
        for (int i = threadIdx.y * blockDim.x + threadIdx.x; i < T * n_block_rows; i += blockDim.x * blockDim.y) {
            const int row = first_row + i % n_block_rows, token = token0 + i / n_block_rows;
            if (row < n_rows && token < n_tokens) {
                each(row, token, i);
            }
        }
    }

    __device__ __forceinline__ float sum(const float (*parts)[T * ROWS], int i) const {
        const int row = i % n_block_rows, j = i / n_block_rows;
        float sum = 0.0f;
        for (int part = 0; part < n_parts; part++) {
            sum += parts[row / ROWS * n_parts + part][j*ROWS + row % ROWS];
        }
        return sum;
    }
};

// Bit j of *active: whether the row of s of token token0 + j is not all zero.
template <int T>
static __device__ __forceinline__ void find_active(const token_scales & s, int token0, int n_tokens, uint32_t * active) {
    __shared__ uint32_t all[1];
    const int thread = threadIdx.y * blockDim.x + threadIdx.x, n_threads = blockDim.x * blockDim.y;
    if (thread == 0) {
        all[0] = 0;
    }
    __syncthreads();
    uint32_t mine = 0;
#pragma unroll
    for (int j = 0; j < T; j++) {
        if (token0 + j < n_tokens) {
            const float * row = s.of(token0 + j);
#pragma unroll 8
            for (int k = thread; k < s.r; k += n_threads) {
                mine |= (uint32_t) !is_zero(row[k]) << j;
            }
        }
    }
    if (mine != 0) {
        atomicOr(all, mine);
    }
    __syncthreads();
    if (thread == 0) {
        *active = all[0];
    }
}

// t [r, T], with `t_stride` floats per token: s ⊙ (Vᵀ·x). Where s is zero, t is zero, and where that holds for
// all of a block, nothing is multiplied. active: one word per row of blocks. The last block finds it.
template <class Factor, int T, int ROWS>
static __global__ void project(
    factor_rows vt, token_columns x, token_scales s, float * t, int64_t t_stride, uint32_t * active) {
    __shared__ float parts[MAX_PARTS][T * ROWS];
    const block_results<T, ROWS> results;
    // The search takes longest, so it starts first: block 0.
    if (blockIdx.x == 0) {
        find_active<T>(s, results.token0, x.n_tokens, active + blockIdx.y);
        return;
    }
    const int first_row = results.row0 - results.n_block_rows;
    const int row0      = first_row + threadIdx.y * ROWS;
    prefetch_rows<Factor, ROWS>(vt, row0);

    bool scales = false;
    results.for_each(first_row, vt.n_rows, x.n_tokens, [&](int row, int token, int) {
        scales = scales || !is_zero(s.of(token)[row]);
    });
    if (!__syncthreads_or(scales)) {
        results.for_each(first_row, vt.n_rows, x.n_tokens, [&](int row, int token, int) { t[token*t_stride + row] = 0.0f; });
        return;
    }
    multiply_rows<Factor, T, ROWS>(vt, x, row0, results.token0, parts);
    results.for_each(first_row, vt.n_rows, x.n_tokens, [&](int row, int token, int i) {
        const float scale = s.of(token)[row];
        t[token*t_stride + row] = is_zero(scale) ? 0.0f : scale * results.sum(parts, i);
    });
}

// y [n_out, T], contiguous: base + U·t; base alone for tokens that are not active. base may be null (zero) or
// lie where y does.
template <class Factor, int T, int ROWS>
static __global__ void expand(
    factor_rows u, token_columns t, const uint32_t * active, const char * base, int64_t base_stride, float * y) {
    __shared__ float parts[MAX_PARTS][T * ROWS];
    const block_results<T, ROWS> results;
    const int row0 = results.row0 + threadIdx.y * ROWS;
    prefetch_rows<Factor, ROWS>(u, row0);

    const uint32_t mask = active[blockIdx.y];
    if (mask != 0) {
        multiply_rows<Factor, T, ROWS>(u, t, row0, results.token0, parts);
    }
    results.for_each(results.row0, u.n_rows, t.n_tokens, [&](int row, int token, int i) {
        const float start = base == nullptr ? 0.0f : ((const float *) (base + token*base_stride))[row];
        const bool  adds  = mask >> (token - results.token0) & 1;
        y[(int64_t) token*u.n_rows + row] = adds ? start + results.sum(parts, i) : start;
    });
}

// Rows of a set where there are several: as many as registers hold.
template <int T> constexpr int SET_ROWS = T == TOKENS ? 2 : 4;

// How the rows of one factor are shared out.
struct geometry {
    int  n_lanes, n_sets;
    bool several_rows; // per set, otherwise one
};

// A lane has about two groups of a row, so that short rows use few lanes and long ones many. Several rows at a time
// read the columns less often, where the rows are enough to fill a GPU all the same.
static inline geometry geometry_of(const factor_rows & w) {
    constexpr int64_t FULL_GPU = 1 << 16; // threads
    int n_lanes = MIN_LANES;
    while (n_lanes < MAX_LANES && n_lanes * 2 * GROUP < w.n) {
        n_lanes *= 2;
    }
    const int n_sets = n_lanes < MIN_THREADS ? MIN_THREADS / n_lanes : 1;
    return { n_lanes, n_sets, (int64_t) w.n_rows / 4 * n_lanes >= FULL_GPU };
}

struct few_tokens {
    factor_rows   vt, u;
    token_columns x;
    token_scales  s;
    const char  * base; // null: zero
    int64_t       base_stride;
    float       * y;
    float       * t;      // work memory: t_stride(r) × T
    uint32_t    * active; // work memory: n_words(T)

    // Floats per token of t; columns are read 16 bytes at a time.
    static int64_t t_stride(int64_t r) { return (r + GROUP - 1) / GROUP * GROUP; }
    static int64_t n_words(int64_t n_tokens) { return (n_tokens + TOKENS - 1) / TOKENS; }
};

// Calls `with`(tokens per block, rows per set), both as types with a constant `value`.
template <class With>
static void with_tile(int n_tokens, const geometry & g, const With & with) {
    const auto with_tokens = [&](auto tokens) {
        if (g.several_rows) {
            with(tokens, constant<SET_ROWS<decltype(tokens)::value>>());
        } else {
            with(tokens, constant<1>());
        }
    };
    if (n_tokens == 1) {
        with_tokens(constant<1>());
    } else if (n_tokens == 2) {
        with_tokens(constant<2>());
    } else if (n_tokens <= 4) {
        with_tokens(constant<4>());
    } else {
        with_tokens(constant<TOKENS>());
    }
}

static inline dim3 grid_of(const geometry & g, int n_rows, int set_rows, int n_tokens, int block_tokens) {
    const int block_rows = g.n_sets * set_rows;
    return dim3((n_rows + block_rows - 1) / block_rows, (n_tokens + block_tokens - 1) / block_tokens);
}

template <class Factor>
static void project_few_tokens(const few_tokens & p, stream_type stream) {
    const geometry g = geometry_of(p.vt);
    with_tile(p.x.n_tokens, g, [&](auto tokens, auto rows) {
        constexpr int T = decltype(tokens)::value, ROWS = decltype(rows)::value;
        dim3 grid = grid_of(g, p.vt.n_rows, ROWS, p.x.n_tokens, T);
        grid.x += 1; // the search for active tokens
        launch(project<Factor, T, ROWS>, grid, dim3(g.n_lanes, g.n_sets), stream,
            p.vt, p.x, p.s, p.t, few_tokens::t_stride(p.vt.n_rows), p.active);
    });
}

template <class Factor>
static void expand_few_tokens(const few_tokens & p, stream_type stream) {
    const geometry      g      = geometry_of(p.u);
    const int64_t       stride = few_tokens::t_stride(p.u.n) * sizeof(float);
    const token_columns t      = { (const char *) p.t, stride, p.x.n_tokens, true };
    with_tile(p.x.n_tokens, g, [&](auto tokens, auto rows) {
        constexpr int T = decltype(tokens)::value, ROWS = decltype(rows)::value;
        launch(expand<Factor, T, ROWS>, grid_of(g, p.u.n_rows, ROWS, p.x.n_tokens, T), dim3(g.n_lanes, g.n_sets), stream,
            p.u, t, p.active, p.base, p.base_stride, p.y);
    });
}

} // namespace svf
