#include "svf_guard.h"
#include "svf_exception.h"

#include "ggml.h"

#include <exception>

namespace {

[[noreturn]] void abort_on_uncaught() {
    char error[512] = "an exception that is none";
    if (std::current_exception()) {
        svf_describe_exception(error, sizeof(error));
    }
    GGML_ABORT("uncaught: %s", error);
}

} // namespace

llama_context * svf_new_context(llama_model * model, llama_context_params params, char * error, size_t error_size) {
    return svf_guarded<llama_context *>(nullptr, error, error_size, [&] { return llama_init_from_model(model, params); });
}

int32_t svf_decode(llama_context * context, llama_batch batch, char * error, size_t error_size) {
    return svf_guarded<int32_t>(-1, error, error_size, [&] { return llama_decode(context, batch); });
}

int32_t svf_tokenize(const llama_vocab * vocab, const char * text, int32_t text_size, llama_token * tokens,
                     int32_t n_tokens_max, bool add_special, bool parse_special, char * error, size_t error_size) {
    return svf_guarded<int32_t>(0, error, error_size, [&] {
        return llama_tokenize(vocab, text, text_size, tokens, n_tokens_max, add_special, parse_special);
    });
}

bool svf_remove_tokens(llama_context * context, llama_seq_id sequence, llama_pos begin, char * error, size_t error_size) {
    return svf_guarded(false, error, error_size, [&] {
        return llama_memory_seq_rm(llama_get_memory(context), sequence, begin, -1);
    });
}

bool svf_copy_tokens(llama_context * context, llama_seq_id from, llama_seq_id to, char * error, size_t error_size) {
    return svf_guarded(false, error, error_size, [&] {
        llama_memory_seq_cp(llama_get_memory(context), from, to, -1, -1);
        return true;
    });
}

int32_t svf_set_loras(llama_context * context, llama_adapter_lora ** loras, size_t n_loras, float * scales, char * error,
                      size_t error_size) {
    return svf_guarded<int32_t>(-1, error, error_size, [&] {
        return llama_set_adapters_lora(context, loras, n_loras, scales);
    });
}

void svf_abort_on_uncaught(void) {
    std::set_terminate(abort_on_uncaught);
}
