// Encodes the two kernels of svf_mul_mat.metal. See svf_mul_mat_metal.h.
#include "metal/svf_mul_mat_metal.h"
#include "metal/svf_mul_mat_args.h"
#include "svf_mul_mat.h"

#include <cstdio>

namespace {

constexpr size_t  ALIGNMENT  = 16; // of t
constexpr int64_t MOST_TILE  = 8;  // tokens that a threadgroup takes at once, at most
constexpr int64_t MOST_LANES = 32;

size_t t_offset(const ggml_tensor * node) {
    return GGML_PAD(ggml_nbytes(node), ALIGNMENT);
}

size_t t_bytes(const ggml_tensor * node) {
    return ggml_nelements(node->src[SVF_SRC_IDS]) * node->src[SVF_SRC_VT]->ne[1] * sizeof(float);
}

// What lies behind the result.
struct scratch {
    ggml_metal_buffer_id t;      // F32 [r, T]
    ggml_metal_buffer_id active; // U32 [T]: whether anything scales the token
};

scratch scratch_of(const ggml_tensor * node, ggml_metal_buffer_id y) {
    scratch behind = { y, y };
    behind.t.offs      += t_offset(node);
    behind.active.offs += t_offset(node) + t_bytes(node);
    return behind;
}

// The smallest of the kernels' numbers of tokens that takes all, or the largest.
int64_t tile_of(int64_t n_tokens) {
    int64_t tile = 1;
    while (tile < n_tokens && tile < MOST_TILE) {
        tile *= 2;
    }
    return tile;
}

int divided(int64_t n, int64_t by) {
    return (int) ((n + by - 1) / by);
}

ggml_metal_pipeline_with_params pipeline(ggml_metal_library_t library, const char * step, ggml_type type, int64_t tile) {
    char name[64];
    snprintf(name, sizeof(name), "kernel_svf_%s_%s_%d", step, ggml_type_name(type), (int) tile);
    ggml_metal_pipeline_with_params found = ggml_metal_library_get_pipeline(library, name);
    return found.pipeline != nullptr ? found : ggml_metal_library_compile_pipeline(library, name, name, nullptr);
}

void set_args(ggml_metal_encoder_t encoder, svf_metal_args args) {
    ggml_metal_encoder_set_bytes(encoder, &args, sizeof(args), 0);
}

bool is_matrix_the_kernels_read(const ggml_tensor * factor) {
    switch (factor->type) {
        case GGML_TYPE_F32:
        case GGML_TYPE_F16:
        case GGML_TYPE_BF16:
        case GGML_TYPE_Q8_0:
            return ggml_is_contiguous(factor) && ggml_is_matrix(factor);
        default:
            return false;
    }
}

} // namespace

bool svf_mul_mat_metal_supports(const ggml_tensor * node) {
    const ggml_tensor * x    = node->src[SVF_SRC_X];
    const ggml_tensor * base = node->src[SVF_SRC_BASE];
    return is_matrix_the_kernels_read(node->src[SVF_SRC_VT]) && is_matrix_the_kernels_read(node->src[SVF_SRC_U])
        && x->type == GGML_TYPE_F32 && x->nb[0] == sizeof(float)
        && ggml_is_contiguous(node->src[SVF_SRC_S]) && ggml_is_contiguous(node->src[SVF_SRC_IDS])
        && ggml_is_contiguous(node)
        && (base == nullptr || (base->type == GGML_TYPE_F32 && base->nb[0] == sizeof(float)));
}

size_t svf_mul_mat_metal_extra(const ggml_tensor * node) {
    const size_t flags = ggml_nelements(node->src[SVF_SRC_IDS]) * sizeof(uint32_t);
    return t_offset(node) - ggml_nbytes(node) + t_bytes(node) + flags;
}

void svf_mul_mat_metal_scaled(
    ggml_metal_library_t library, ggml_metal_encoder_t encoder, const ggml_tensor * node,
    const svf_metal_buffers * buffers) {
    const ggml_tensor * x  = node->src[SVF_SRC_X];
    const ggml_tensor * vt = node->src[SVF_SRC_VT];
    const scratch behind = scratch_of(node, buffers->y);

    svf_metal_args args = {};
    args.row_bytes = vt->nb[1];
    args.x_stride  = x->nb[1];
    args.n         = (int32_t) vt->ne[0];
    args.n_rows    = (int32_t) vt->ne[1];
    args.n_tokens  = (int32_t) x->ne[1];

    const int64_t tile = tile_of(x->ne[1]);
    ggml_metal_encoder_set_pipeline(encoder, pipeline(library, "scaled", vt->type, tile));
    set_args(encoder, args);
    ggml_metal_encoder_set_buffer(encoder, buffers->vt, 1);
    ggml_metal_encoder_set_buffer(encoder, buffers->x, 2);
    ggml_metal_encoder_set_buffer(encoder, buffers->s, 3);
    ggml_metal_encoder_set_buffer(encoder, buffers->ids, 4);
    ggml_metal_encoder_set_buffer(encoder, behind.t, 5);
    ggml_metal_encoder_set_buffer(encoder, behind.active, 6);
    ggml_metal_encoder_dispatch_threadgroups(
        encoder, divided(vt->ne[1], SVF_METAL_ROWS), divided(x->ne[1], tile), 1, 32 * SVF_METAL_SIMDS, 1, 1);
}

void svf_mul_mat_metal_result(
    ggml_metal_library_t library, ggml_metal_encoder_t encoder, const ggml_tensor * node,
    const svf_metal_buffers * buffers) {
    const ggml_tensor * u    = node->src[SVF_SRC_U];
    const ggml_tensor * base = node->src[SVF_SRC_BASE];
    const scratch behind = scratch_of(node, buffers->y);

    svf_metal_args args = {};
    args.row_bytes   = u->nb[1];
    args.x_stride    = u->ne[0] * sizeof(float);
    args.base_stride = base == nullptr ? 0 : base->nb[1];
    args.n           = (int32_t) u->ne[0];
    args.n_rows      = (int32_t) u->ne[1];
    args.n_tokens    = (int32_t) node->ne[1];
    args.has_base    = base != nullptr;
    // As many threads for a row as have something to read, so that a SIMD group takes several short rows.
    args.lanes = 1;
    while (args.lanes < MOST_LANES && args.lanes * SVF_METAL_CHUNK < args.n) {
        args.lanes *= 2;
    }

    const int64_t tile = tile_of(node->ne[1]);
    ggml_metal_encoder_set_pipeline(encoder, pipeline(library, "result", u->type, tile));
    set_args(encoder, args);
    ggml_metal_encoder_set_buffer(encoder, buffers->u, 1);
    ggml_metal_encoder_set_buffer(encoder, behind.t, 2);
    ggml_metal_encoder_set_buffer(encoder, behind.active, 3);
    ggml_metal_encoder_set_buffer(encoder, base == nullptr ? buffers->y : buffers->base, 4);
    ggml_metal_encoder_set_buffer(encoder, buffers->y, 5);
    ggml_metal_encoder_dispatch_threadgroups(
        encoder, divided(u->ne[1], SVF_METAL_SIMDS * MOST_LANES / args.lanes), divided(node->ne[1], tile), 1,
        32 * SVF_METAL_SIMDS, 1, 1);
}
