// svf_mul_mat on CUDA: what ggml-cuda calls. See ../svf_mul_mat.h.
#pragma once

#include "ggml.h"

struct ggml_backend_cuda_context;

// Whether `node` can be computed, as far as types and strides are concerned.
bool svf_mul_mat_cuda_supports(const ggml_tensor * node);

// Puts the work of `node` on the context's stream. Waits for nothing and allocates from the context's pool only,
// so that it can be captured into a CUDA graph.
void svf_mul_mat_cuda(ggml_backend_cuda_context & ctx, ggml_tensor * node);

// ggml-cuda's own product dst = srcᵀ·x, made visible by our patch.
void svf_ggml_cuda_mul_mat(ggml_backend_cuda_context & ctx, const ggml_tensor * src, const ggml_tensor * x, ggml_tensor * dst);
