// The contract of svf_mul_mat, the one operation an adapted layer adds to a ggml graph.
//
//   y = base + U·(s[ids] ⊙ (Vᵀ·x))        per token; without base: y = U·(s[ids] ⊙ (Vᵀ·x))
//
// (arXiv 2501.06252, section 3.1: W′ = U·diag(σ⊙z)·Vᵀ, never composed into a matrix.)
//
//   argument  ggml ne          type             meaning
//   base      [n_out, T]       F32              llama.cpp's own W·x, or NULL
//   vt        [n_in, r]        F32, F16, Q8_0   right singular vectors, one per row
//   u         [r, n_out]       F32, F16, Q8_0   left singular vectors, one per column
//   s         [r, n_slots]     F32              residual (base given): σ⊙(m−1); factored: σ⊙m
//   ids       [T]              I32              slot of each token, 0 ≤ id < n_slots
//   x         [n_in, T]        F32              rows contiguous, any row stride
//   result    [n_out, T]       F32              contiguous
//
// CUDA and Metal also take factors in BF16. What a backend takes, its supports_op tells.
//
// The result may lie in the memory of base or of x: nothing of x may be read after anything is written,
// except by threads that own whole tokens, and base is read where it is written.
//
// A token whose row of s is all zero gets exactly base (bit for bit), so that slot 0 of the residual
// form is the unadapted model. It costs no matrix product on the CPU, nor on CUDA where all of few tokens use it.
#pragma once

#include "ggml.h"

#ifdef __cplusplus
extern "C" {
#endif

// Order of the node's sources.
enum svf_mul_mat_src {
    SVF_SRC_X    = 0,
    SVF_SRC_VT   = 1,
    SVF_SRC_U    = 2,
    SVF_SRC_S    = 3,
    SVF_SRC_IDS  = 4,
    SVF_SRC_BASE = 5,
};

// One node of the fused op. Shapes and types are the caller's duty; a mismatch aborts.
GGML_API struct ggml_tensor * svf_mul_mat(
    struct ggml_context * ctx,
    struct ggml_tensor  * base,
    struct ggml_tensor  * vt,
    struct ggml_tensor  * u,
    struct ggml_tensor  * s,
    struct ggml_tensor  * ids,
    struct ggml_tensor  * x);

// The same from stock ggml ops, for backends without the fused op. Adds at most SVF_COMPOSED_NODES.
GGML_API struct ggml_tensor * svf_mul_mat_composed(
    struct ggml_context * ctx,
    struct ggml_tensor  * base,
    struct ggml_tensor  * vt,
    struct ggml_tensor  * u,
    struct ggml_tensor  * s,
    struct ggml_tensor  * ids,
    struct ggml_tensor  * x);

#define SVF_COMPOSED_NODES 5

// The obvious loops, with sums in double: fills `out` [n_out, T] with what `node` must hold, from the
// node's sources, which lie in host memory.
GGML_API void svf_mul_mat_reference(const struct ggml_tensor * node, float * out);

#ifdef __cplusplus
}
#endif
