// llama.cpp's calls that can throw, as calls that return: C++'s exceptions must not reach the caller, who knows none.
// (Loading a model or a LoRA adapter catches its own.)
//
// Each fills `error` (of `error_size` bytes, NUL-terminated) where something was thrown, and leaves it empty otherwise.
#pragma once

#include "llama.h"

#ifdef __cplusplus
extern "C" {
#endif

// llama_init_from_model, or NULL.
LLAMA_API struct llama_context * svf_new_context(
    struct llama_model * model, struct llama_context_params params, char * error, size_t error_size);

// llama_decode; what it throws is no status of its own: look at `error`.
LLAMA_API int32_t svf_decode(struct llama_context * context, struct llama_batch batch, char * error, size_t error_size);

// llama_tokenize, likewise.
LLAMA_API int32_t svf_tokenize(
    const struct llama_vocab * vocab,
    const char               * text,
    int32_t                    text_size,
    llama_token              * tokens,
    int32_t                    n_tokens_max,
    bool                       add_special,
    bool                       parse_special,
    char                     * error,
    size_t                     error_size);

// llama_memory_seq_rm from position `begin` to the end; a negative `begin` means all.
LLAMA_API bool svf_remove_tokens(
    struct llama_context * context, llama_seq_id sequence, llama_pos begin, char * error, size_t error_size);

// llama_memory_seq_cp of the whole sequence.
LLAMA_API bool svf_copy_tokens(
    struct llama_context * context, llama_seq_id from, llama_seq_id to, char * error, size_t error_size);

// llama_set_adapters_lora.
LLAMA_API int32_t svf_set_loras(
    struct llama_context       * context,
    struct llama_adapter_lora ** loras,
    size_t                       n_loras,
    float                      * scales,
    char                       * error,
    size_t                       error_size);

// What is thrown where nobody catches it (in a thread of a backend, say) ends the process as a failed assertion of ggml
// does, by ggml_abort: with its callback if one is set.
LLAMA_API void svf_abort_on_uncaught(void);

#ifdef __cplusplus
}
#endif
