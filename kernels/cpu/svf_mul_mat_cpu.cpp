// svf_mul_mat on the CPU, fast: factors stay in their stored type and are widened in registers. Activations
// keep at least 16 bits (column.h), where ggml's own products round them to the companion type of the factors.
//
// Two phases: t = s ⊙ (Vᵀ·x) into the shared work memory, then y = base + U·t. 8-bit factors meet columns of
// integers (rounded.h), others are widened to floats (widened.h). Threads share the rows of Vᵀ, wait, and
// share the rows of U; with many tokens and widened factors each thread takes its own tokens through both.
#include "cpu/svf_mul_mat_cpu.h"
#include "svf_mul_mat.h"

#include "ggml-cpu-impl.h"

#include "cpu/problem.h"
#include "cpu/rounded.h"
#include "cpu/widened.h"

namespace {

using namespace svf;

// Writes base (or zero) for tokens whose row of s is all zero, and lists the others.
void split_tokens(problem & p, int ith, int nth) {
    for (int64_t token = 0; token < p.n_tokens; token++) {
        const float * s = p.s_of(token);
        if (std::any_of(s, s + p.r, [](float value) { return value != 0.0f; })) {
            p.active[p.n_active++] = (int32_t) token;
        } else if (token % nth == ith) {
            const float * base = p.base_of(token);
            if (base == nullptr) {
                std::fill_n(p.y_of(token), p.n_out, 0.0f);
            } else if (base != p.y_of(token)) {
                std::copy_n(base, p.n_out, p.y_of(token));
            }
        }
    }
}

bool is_type_the_kernel_reads(ggml_type type) {
    return type == GGML_TYPE_F32 || type == GGML_TYPE_F16 || type == GGML_TYPE_Q8_0;
}

// Tokens per thread from which threads work on their own tokens.
constexpr int64_t OWN_TOKENS = 32;

} // namespace

bool svf_mul_mat_cpu_supports(const ggml_tensor * node) {
    return is_type_the_kernel_reads(node->src[SVF_SRC_VT]->type) && is_type_the_kernel_reads(node->src[SVF_SRC_U]->type);
}

size_t svf_mul_mat_cpu_work_size(const ggml_tensor * node, int n_threads) {
    const int64_t n_in = node->src[SVF_SRC_VT]->ne[0], r = node->src[SVF_SRC_VT]->ne[1];
    const int64_t n_tokens = node->src[SVF_SRC_X]->ne[1];
    return n_tokens * (r * sizeof(float) + sizeof(float) + n_threads * sizeof(int32_t))
        + std::max<int64_t>(n_tokens, n_threads) * std::max(n_in, r) * sizeof(int16_t);
}

void svf_mul_mat_cpu(const ggml_compute_params * params, ggml_tensor * node) {
    const int ith = params->ith, nth = params->nth;
    if (params->use_ref) {
        if (ith == 0) {
            svf_mul_mat_reference(node, (float *) node->data);
        }
        return;
    }

    problem p = {};
    p.x         = node->src[SVF_SRC_X];
    p.vt        = node->src[SVF_SRC_VT];
    p.u         = node->src[SVF_SRC_U];
    p.base      = node->src[SVF_SRC_BASE];
    p.s         = (const float *) node->src[SVF_SRC_S]->data;
    p.ids       = (const int32_t *) node->src[SVF_SRC_IDS]->data;
    p.y         = (float *) node->data;
    p.n_in      = p.vt->ne[0];
    p.r         = p.vt->ne[1];
    p.n_out     = p.u->ne[1];
    p.n_tokens  = p.x->ne[1];
    p.thread    = ith;
    p.n_threads = nth;

    p.t              = (float *) params->wdata;
    p.scales         = p.t + p.r * p.n_tokens;
    int32_t * active = (int32_t *) (p.scales + p.n_tokens);
    p.active         = active + ith * p.n_tokens;
    p.rounded        = (int16_t *) (active + nth * p.n_tokens);
    split_tokens(p, ith, nth);

    // The same way on every thread, so all of them wait or none does.
    const bool eight_bits = p.vt->type == GGML_TYPE_Q8_0 && p.u->type == GGML_TYPE_Q8_0;
    if (eight_bits && p.n_active == 1) {
        compute_one_rounded(p, params->threadpool);
        return;
    }
    if (eight_bits && p.n_active > 1 && (SVF_PAIRED_PANEL || p.n_active <= FEW_TOKENS)) {
        compute_rounded(p, params->threadpool);
        return;
    }
    if (p.n_active >= OWN_TOKENS * nth) {
        const range tokens = share(p.n_active, PANEL_TOKENS, ith, nth);
        project(p, { 0, p.r }, tokens);
        expand(p, { 0, p.n_out }, tokens);
    } else if (p.n_active > 0) {
        project(p, share(p.r, ROWS, ith, nth), { 0, p.n_active });
        ggml_barrier(params->threadpool);
        expand(p, share(p.n_out, PANEL_ROWS, ith, nth), { 0, p.n_active });
    }
}
