// The arguments of one svf_mul_mat, and how its work is shared out.
#pragma once

#include "ggml.h"

#include <algorithm>
#include <cstdint>

namespace svf {

// The op's arguments as plain numbers, and the tokens that need work.
struct problem {
    int64_t n_in, r, n_out, n_tokens;
    const ggml_tensor * x, * vt, * u, * base;
    const float   * s;
    const int32_t * ids;
    int             thread, n_threads;
    float         * y;
    float         * t;       // [r, n_active], shared: s ⊙ (Vᵀ·x) of the active tokens
    int32_t       * active;  // [n_active], this thread's own copy: tokens whose row of s is not all zero
    int64_t         n_active;
    int16_t       * rounded; // see column.h: [max(n_in, r), max(n_tokens, n_threads)], shared
    float         * scales;  // [n_tokens], shared: scales of the rounded columns

    const float * x_of(int64_t token) const { return (const float *) ((const char *) x->data + token * x->nb[1]); }
    const float * s_of(int64_t token) const { return s + (int64_t) ids[token] * r; }
    const float * base_of(int64_t token) const {
        return base == nullptr ? nullptr : (const float *) ((const char *) base->data + token * base->nb[1]);
    }
    float * y_of(int64_t token) const { return y + token * n_out; }
    // What a sum over k ≥ k0 is added to: base, or the part of y that is already there.
    const float * start_of(int64_t token, int64_t k0) const { return k0 > 0 ? y_of(token) : base_of(token); }
    float * t_of(int64_t j) const { return t + j * r; }
    int16_t * rounded_of(int64_t j) const { return rounded + j * std::max(n_in, r); }
};

// Tokens whose columns are gathered at a time.
constexpr int64_t BATCH = 48;

// A half-open range of rows, or of active tokens.
struct range { int64_t begin, end; };

// The part of 0…n that thread `ith` of `nth` takes, in multiples of `step`.
inline range share(int64_t n, int64_t step, int ith, int nth) {
    const int64_t steps = (n + step - 1) / step;
    return { std::min(n, steps * ith / nth * step), std::min(n, steps * (ith + 1) / nth * step) };
}

} // namespace svf
