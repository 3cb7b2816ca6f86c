// svf_mul_mat on the CPU: what ggml-cpu calls. See ../svf_mul_mat.h.
#pragma once

#include "ggml.h"

#ifdef __cplusplus
extern "C" {
#endif

struct ggml_compute_params;

// Whether the kernel takes the types of this node's factors.
bool svf_mul_mat_cpu_supports(const struct ggml_tensor * node);

// Computes `node` together with the other threads of `params`.
void svf_mul_mat_cpu(const struct ggml_compute_params * params, struct ggml_tensor * node);

// Bytes of shared work memory `node` needs with `n_threads` threads.
size_t svf_mul_mat_cpu_work_size(const struct ggml_tensor * node, int n_threads);

#ifdef __cplusplus
}
#endif
