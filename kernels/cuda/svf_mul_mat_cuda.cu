// svf_mul_mat on CUDA.
//
// Few tokens (decoding) take two kernels of ours, bound by reading the factors once, in F32 throughout. Many tokens
// (prompts) take ggml-cuda's matrix products with our scaling between and our sum after them. ggml is asked for
// F32 there: it then widens plain factors to F32 and multiplies on tensor cores, which keep 11 bits of each
// number; products with Q8_0 factors round activations to 8 bits, as everywhere in ggml-cuda.
#include "cuda/svf_mul_mat_cuda.h"
#include "svf_mul_mat.h"

#include "common.cuh"

#include "cuda/few_tokens.cuh"
#include "cuda/many_tokens.cuh"

namespace {

using namespace svf;

bool supports_factor(const ggml_tensor * factor) {
    const ggml_type type = factor->type;
    return (type == GGML_TYPE_F32 || type == GGML_TYPE_F16 || type == GGML_TYPE_BF16 || type == GGML_TYPE_Q8_0)
        && factor->nb[0] == ggml_type_size(type) && factor->ne[2] == 1 && factor->ne[3] == 1;
}

bool starts_aligned(const ggml_tensor * tensor) {
    return (uintptr_t) tensor->data % 16 == 0 && tensor->nb[1] % 16 == 0;
}

factor_rows rows_of(const ggml_tensor * factor) {
    const bool aligned = ggml_is_quantized(factor->type) || starts_aligned(factor);
    return { (const char *) factor->data, (int64_t) factor->nb[1], (int) factor->ne[1], (int) factor->ne[0], aligned };
}

// Calls `with` with the reader of the factor's type.
template <class With>
void with_factor(const ggml_tensor * factor, const With & with) {
    switch (factor->type) {
        case GGML_TYPE_F32:  with(f32_factor());  break;
        case GGML_TYPE_F16:  with(f16_factor());  break;
        case GGML_TYPE_BF16: with(bf16_factor()); break;
        case GGML_TYPE_Q8_0: with(q8_0_factor()); break;
        default: GGML_ABORT("svf_mul_mat: factors of type %s", ggml_type_name(factor->type));
    }
}

// A matrix of floats in memory of the pool, described as mul_mat wants it.
ggml_tensor matrix_in_pool(float * data, int64_t ne0, int64_t ne1) {
    ggml_tensor tensor = {};
    tensor.type  = GGML_TYPE_F32;
    tensor.ne[0] = ne0;
    tensor.ne[1] = ne1;
    tensor.ne[2] = tensor.ne[3] = 1;
    tensor.nb[0] = sizeof(float);
    tensor.nb[1] = tensor.nb[0] * ne0;
    tensor.nb[2] = tensor.nb[3] = tensor.nb[1] * ne1;
    tensor.data  = data;
    return tensor;
}

void multiply(ggml_backend_cuda_context & ctx, ggml_tensor * factor, ggml_tensor * columns, ggml_tensor * out) {
    out->op     = GGML_OP_MUL_MAT;
    out->src[0] = factor;
    out->src[1] = columns;
    ggml_prec_set_acc(out, GGML_PREC_F32);
    svf_ggml_cuda_mul_mat(ctx, factor, columns, out);
}

} // namespace

bool svf_mul_mat_cuda_supports(const ggml_tensor * node) {
    const ggml_tensor * x = node->src[SVF_SRC_X], * base = node->src[SVF_SRC_BASE];
    return supports_factor(node->src[SVF_SRC_VT]) && supports_factor(node->src[SVF_SRC_U])
        && x->type == GGML_TYPE_F32 && x->nb[0] == sizeof(float)
        && (base == nullptr || (base->type == GGML_TYPE_F32 && base->nb[0] == sizeof(float)))
        && ggml_is_contiguous(node->src[SVF_SRC_S]) && ggml_is_contiguous(node->src[SVF_SRC_IDS]);
}

void svf_mul_mat_cuda(ggml_backend_cuda_context & ctx, ggml_tensor * node) {
    ggml_tensor       * x    = node->src[SVF_SRC_X], * vt = node->src[SVF_SRC_VT], * u = node->src[SVF_SRC_U];
    const ggml_tensor * base = node->src[SVF_SRC_BASE];

    const int64_t r = vt->ne[1], n_out = u->ne[1], n_tokens = x->ne[1];
    cudaStream_t  stream = ctx.stream();

    const token_scales s = { (const float *) node->src[SVF_SRC_S]->data, (const int32_t *) node->src[SVF_SRC_IDS]->data, (int) r };
    const char  * base_data   = base == nullptr ? nullptr : (const char *) base->data;
    const int64_t base_stride = base == nullptr ? 0 : base->nb[1];
    float       * y           = (float *) node->data;

    // ggml-cuda reads columns 16 bytes at a time where it rounds them.
    const bool odd_columns = ggml_is_quantized(vt->type) && !starts_aligned(x);
    if (n_tokens <= FEW_TOKENS || odd_columns) {
        ggml_cuda_pool_alloc<float>    t(ctx.pool(), few_tokens::t_stride(r) * n_tokens);
        ggml_cuda_pool_alloc<uint32_t> active(ctx.pool(), few_tokens::n_words(n_tokens));
        const token_columns columns = { (const char *) x->data, (int64_t) x->nb[1], (int) n_tokens, starts_aligned(x) };
        const few_tokens    p       = { rows_of(vt), rows_of(u), columns, s, base_data, base_stride, y, t.get(), active.get() };
        with_factor(vt, [&](auto factor) { project_few_tokens<decltype(factor)>(p, stream); });
        with_factor(u, [&](auto factor) { expand_few_tokens<decltype(factor)>(p, stream); });
        return;
    }

    ggml_cuda_pool_alloc<float>    t(ctx.pool(), r * n_tokens);
    ggml_cuda_pool_alloc<uint32_t> active(ctx.pool(), n_tokens);
    ggml_cuda_pool_alloc<float>    product(ctx.pool(), n_out * n_tokens);
    ggml_tensor t_matrix       = matrix_in_pool(t.get(), r, n_tokens);
    ggml_tensor product_matrix = matrix_in_pool(product.get(), n_out, n_tokens);

    multiply(ctx, vt, x, &t_matrix);
    scale_many_tokens(s, (int) n_tokens, t.get(), active.get(), stream);
    multiply(ctx, u, &t_matrix, &product_matrix);
    add_many_tokens(product.get(), active.get(), base_data, base_stride, y, (int) n_out, (int) n_tokens, stream);
}
