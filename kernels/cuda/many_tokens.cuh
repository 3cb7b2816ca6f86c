// What stands between and after the matrix products of y = base + U·(s ⊙ (Vᵀ·x)) for many tokens, where the
// products are the backend's own.
#pragma once

#include "cuda/few_tokens.cuh"

namespace svf {

constexpr int SCALE_THREADS = 256;

// t [r, T], contiguous: t ⊙ s, zero where s is zero. active [T]: whether the token's row of s is not all zero.
// One block per token.
static __global__ void scale(token_scales s, float * t, uint32_t * active) {
    const float * row    = s.of(blockIdx.x);
    float       * column = t + (int64_t) blockIdx.x * s.r;
    bool scales = false;
    for (int k = threadIdx.x; k < s.r; k += blockDim.x) {
        const bool zero = is_zero(row[k]);
        column[k] = zero ? 0.0f : row[k] * column[k];
        scales    = scales || !zero;
    }
    const bool any = __syncthreads_or(scales);
    if (threadIdx.x == 0) {
        active[blockIdx.x] = any;
    }
}

// y [n_out, T], contiguous: base + product, or base alone for tokens that are not active. base may be null (zero)
// or lie where y does. One token per blockIdx.x.
static __global__ void add(
    const float * product, const uint32_t * active, const char * base, int64_t base_stride, float * y, int n_out) {
    const int     row   = blockIdx.y * blockDim.x + threadIdx.x;
    const int64_t token = blockIdx.x;
    if (row >= n_out) {
        return;
    }
    const float start = base == nullptr ? 0.0f : ((const float *) (base + token*base_stride))[row];
    y[token*n_out + row] = active[token] ? start + product[token*n_out + row] : start;
}

static void scale_many_tokens(token_scales s, int n_tokens, float * t, uint32_t * active, stream_type stream) {
    launch(scale, dim3(n_tokens), dim3(SCALE_THREADS), stream, s, t, active);
}

static void add_many_tokens(
    const float * product, const uint32_t * active, const char * base, int64_t base_stride, float * y, int n_out,
    int n_tokens, stream_type stream) {
    const dim3 grid(n_tokens, (n_out + SCALE_THREADS - 1) / SCALE_THREADS);
    launch(add, grid, dim3(SCALE_THREADS), stream, product, active, base, base_stride, y, n_out);
}

} // namespace svf
