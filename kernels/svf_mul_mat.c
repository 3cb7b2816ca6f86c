// svf_mul_mat as graph nodes (fused and composed) and as plain loops. See svf_mul_mat.h.
#include "svf_mul_mat.h"

#include <stdlib.h>

static void check_arguments(
    const struct ggml_tensor * base, const struct ggml_tensor * vt, const struct ggml_tensor * u,
    const struct ggml_tensor * s, const struct ggml_tensor * ids, const struct ggml_tensor * x) {
    GGML_ASSERT(vt->ne[0] == x->ne[0]);
    GGML_ASSERT(vt->ne[1] == u->ne[0] && vt->ne[1] == s->ne[0]);
    GGML_ASSERT(ids->ne[0] == x->ne[1] && ids->type == GGML_TYPE_I32);
    GGML_ASSERT(x->ne[2] == 1 && x->ne[3] == 1 && x->type == GGML_TYPE_F32 && x->nb[0] == sizeof(float));
    GGML_ASSERT(s->type == GGML_TYPE_F32 && ggml_is_contiguous(s));
    GGML_ASSERT(base == NULL || (base->type == GGML_TYPE_F32 && base->ne[0] == u->ne[1] && base->ne[1] == x->ne[1]));
}

struct ggml_tensor * svf_mul_mat(
    struct ggml_context * ctx, struct ggml_tensor * base, struct ggml_tensor * vt, struct ggml_tensor * u,
    struct ggml_tensor * s, struct ggml_tensor * ids, struct ggml_tensor * x) {
    check_arguments(base, vt, u, s, ids, x);
    struct ggml_tensor * result = ggml_new_tensor_2d(ctx, GGML_TYPE_F32, u->ne[1], x->ne[1]);
    result->op                = GGML_OP_SVF_MUL_MAT;
    result->src[SVF_SRC_X]    = x;
    result->src[SVF_SRC_VT]   = vt;
    result->src[SVF_SRC_U]    = u;
    result->src[SVF_SRC_S]    = s;
    result->src[SVF_SRC_IDS]  = ids;
    result->src[SVF_SRC_BASE] = base;
    return result;
}

struct ggml_tensor * svf_mul_mat_composed(
    struct ggml_context * ctx, struct ggml_tensor * base, struct ggml_tensor * vt, struct ggml_tensor * u,
    struct ggml_tensor * s, struct ggml_tensor * ids, struct ggml_tensor * x) {
    check_arguments(base, vt, u, s, ids, x);
    // Some GPUs would else sum in half precision.
    struct ggml_tensor * t = ggml_mul_mat(ctx, vt, x);       // [r, T]
    ggml_prec_set_acc(t, GGML_PREC_F32);
    t = ggml_mul(ctx, t, ggml_get_rows(ctx, s, ids));        // [r, T]
    t = ggml_mul_mat(ctx, u, t);                             // [n_out, T]
    ggml_prec_set_acc(t, GGML_PREC_F32);
    return base == NULL ? t : ggml_add(ctx, base, t);
}

static void dequantize_row(const struct ggml_tensor * matrix, int64_t row, float * out) {
    const void * data = (const char *) matrix->data + row * matrix->nb[1];
    if (matrix->type == GGML_TYPE_F32) {
        for (int64_t i = 0; i < matrix->ne[0]; i++) {
            out[i] = ((const float *) data)[i];
        }
        return;
    }
    ggml_get_type_traits(matrix->type)->to_float(data, out, matrix->ne[0]);
}

void svf_mul_mat_reference(const struct ggml_tensor * node, float * out) {
    const struct ggml_tensor * x    = node->src[SVF_SRC_X];
    const struct ggml_tensor * vt   = node->src[SVF_SRC_VT];
    const struct ggml_tensor * u    = node->src[SVF_SRC_U];
    const struct ggml_tensor * s    = node->src[SVF_SRC_S];
    const struct ggml_tensor * ids  = node->src[SVF_SRC_IDS];
    const struct ggml_tensor * base = node->src[SVF_SRC_BASE];

    const int64_t n_in = vt->ne[0], r = vt->ne[1], n_out = u->ne[1], n_tokens = x->ne[1];

    float  * row = malloc((n_in > r ? n_in : r) * sizeof(float));
    double * t   = malloc(r * n_tokens * sizeof(double));
    GGML_ASSERT(row != NULL && t != NULL);

    for (int64_t k = 0; k < r; k++) {
        dequantize_row(vt, k, row);
        for (int64_t token = 0; token < n_tokens; token++) {
            const float * x_token = (const float *) ((const char *) x->data + token * x->nb[1]);
            const int32_t slot    = ((const int32_t *) ids->data)[token];
            double sum = 0.0;
            for (int64_t i = 0; i < n_in; i++) {
                sum += (double) row[i] * (double) x_token[i];
            }
            t[token * r + k] = sum * (double) ((const float *) s->data)[slot * r + k];
        }
    }
    for (int64_t o = 0; o < n_out; o++) {
        dequantize_row(u, o, row);
        for (int64_t token = 0; token < n_tokens; token++) {
            double sum = base == NULL ? 0.0
                : (double) *(const float *) ((const char *) base->data + token * base->nb[1] + o * base->nb[0]);
            for (int64_t k = 0; k < r; k++) {
                sum += (double) row[k] * t[token * r + k];
            }
            out[token * n_out + o] = (float) sum;
        }
    }
    free(t);
    free(row);
}
