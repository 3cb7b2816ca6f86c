// The host's side of svf_mul_mat on Metal: what ggml-metal calls, see ggml-patches.
//
// The scaled coefficients t lie behind the result, in memory that the buffer type adds to it.
#pragma once

#include "ggml-metal-device.h"

#ifdef __cplusplus
extern "C" {
#endif

// Where the node, and each of its sources, lies.
struct svf_metal_buffers {
    struct ggml_metal_buffer_id x, vt, u, s, ids, base, y;
};

// Whether the kernels take this node, on a device that has SIMD group reductions.
bool svf_mul_mat_metal_supports(const struct ggml_tensor * node);

// Bytes that the node needs behind its result. More tokens never need less.
size_t svf_mul_mat_metal_extra(const struct ggml_tensor * node);

// The first kernel, t = s[ids] ⊙ (Vᵀ·x); what follows must wait for it.
void svf_mul_mat_metal_scaled(
    ggml_metal_library_t library, ggml_metal_encoder_t encoder, const struct ggml_tensor * node,
    const struct svf_metal_buffers * buffers);

// The second, y = base + U·t.
void svf_mul_mat_metal_result(
    ggml_metal_library_t library, ggml_metal_encoder_t encoder, const struct ggml_tensor * node,
    const struct svf_metal_buffers * buffers);

#ifdef __cplusplus
}
#endif
