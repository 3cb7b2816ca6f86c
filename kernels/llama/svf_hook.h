// The hook's C interface: binds adapted weights to one llama.cpp context. Called from Rust.
//
// A binding belongs to exactly one context and never changes its shape: another form, op or set of
// weights is another binding. What changes freely between decodes is the contents of `s` and the slot
// of each sequence; neither needs a new graph.
//
// No exception leaves these functions. A later graph in which a bound weight cannot be adapted makes llama_decode throw, with
// the weight and the reason (see svf_guard.h); the binding stays usable.
#pragma once

#include "ggml-backend.h"
#include "ggml.h"
#include "llama.h"

#ifdef __cplusplus
extern "C" {
#endif

// One adapted weight: the model's own tensor and its factors, shaped as in svf_mul_mat.h. The factors
// live in a backend buffer that outlives the binding, where `device` computes, as it does with the weight.
struct svf_weight {
    const struct ggml_tensor * weight;
    struct ggml_tensor       * vt;
    struct ggml_tensor       * u;
    struct ggml_tensor       * s;
    ggml_backend_dev_t         device;
};

enum svf_form {
    SVF_FORM_RESIDUAL = 0, // y = W·x + U·((σ⊙(m−1)) ⊙ (Vᵀ·x))
    SVF_FORM_FACTORED = 1, // y = U·((σ⊙m) ⊙ (Vᵀ·x))
};

enum svf_op {
    SVF_OP_AUTO     = 0, // fused where the backend of the weight supports it and is not slower so, else composed
    SVF_OP_FUSED    = 1,
    SVF_OP_COMPOSED = 2,
};

struct svf_binding;

// The model's tensor of that name, or NULL.
LLAMA_API const struct ggml_tensor * svf_model_tensor(const struct llama_model * model, const char * name);

// Binds `weights` to `context`, replacing what was bound, and builds its worst-case graphs once to see
// that every weight is reached and understood. Returns NULL and fills `error` (of `error_size` bytes)
// when not; the context then runs the base model.
//
// `fused_tokens`, with SVF_OP_AUTO: graphs of more tokens run composed, where the device has all of its ops; 0 leaves the
// number to the device.
LLAMA_API struct svf_binding * svf_bind(
    struct llama_context    * context,
    const struct svf_weight * weights,
    size_t                    n_weights,
    enum svf_form             form,
    enum svf_op               op,
    int32_t                   fused_tokens,
    char                    * error,
    size_t                    error_size);

// Takes the binding off its context, which runs the base model again, and frees it.
LLAMA_API void svf_unbind(struct llama_context * context, struct svf_binding * binding);

// Tokens of `sequence`, one of the context's, use slot `slot` from the next decode on. Sequences start at slot 0.
LLAMA_API void svf_assign(struct svf_binding * binding, llama_seq_id sequence, int32_t slot);

// Lets `sequence`, one of the context's, sum up hidden states from the next decode on: what block `layer` leaves for the
// tokens at positions `first` to `end`, the last one not included. Takes the place of what the sequence summed up of that
// layer before; an empty range ends it. `layer` is not the model's last, which computes some rows only.
LLAMA_API void svf_pool(
    struct svf_binding * binding, llama_seq_id sequence, int32_t layer, llama_pos first, llama_pos end);

// Writes the mean of what `sequence` has summed up of `layer` to `mean`, [n_embd], and returns of how many tokens it is: fewer
// than those of its range while not all of them are decoded, or where this model has no hidden states of that kind and width.
LLAMA_API int32_t svf_pooled(
    const struct svf_binding * binding, llama_seq_id sequence, int32_t layer, float * mean, size_t n_embd);

// How a bound weight runs.
enum svf_way {
    SVF_WAY_FUSED    = 0, // few tokens do; many may run composed
    SVF_WAY_COMPOSED = 1,
    SVF_WAY_AWAY     = 2, // composed, and the device of the weight lacks one of the ops: another one computes it
};

// How `weight`, which is bound, runs in the graphs built last.
LLAMA_API enum svf_way svf_way_of(const struct svf_binding * binding, const struct ggml_tensor * weight);

#ifdef __cplusplus
}
#endif
