#include "svf_guard.h"

#include "ggml.h"

#include <cstdio>
#include <exception>

namespace {

// The message of the exception in flight, whatever its type.
void describe(char * error, size_t error_size) {
    try {
        throw;
    } catch (const std::exception & thrown) {
        snprintf(error, error_size, "%s", thrown.what());
    } catch (...) {
        snprintf(error, error_size, "an exception of an unknown type");
    }
    if (error[0] == '\0') {
        snprintf(error, error_size, "an exception without a message");
    }
}

template <typename Result, typename Work>
Result guarded(Result otherwise, char * error, size_t error_size, Work work) {
    error[0] = '\0';
    try {
        return work();
    } catch (...) {
        describe(error, error_size);
        return otherwise;
    }
}

[[noreturn]] void abort_on_uncaught() {
    char error[512] = "an exception that is none";
    if (std::current_exception()) {
        describe(error, sizeof(error));
    }
    GGML_ABORT("uncaught: %s", error);
}

} // namespace

llama_context * svf_new_context(llama_model * model, llama_context_params params, char * error, size_t error_size) {
    return guarded<llama_context *>(nullptr, error, error_size, [&] { return llama_init_from_model(model, params); });
}

int32_t svf_decode(llama_context * context, llama_batch batch, char * error, size_t error_size) {
    return guarded<int32_t>(-1, error, error_size, [&] { return llama_decode(context, batch); });
}

int32_t svf_tokenize(const llama_vocab * vocab, const char * text, int32_t text_size, llama_token * tokens,
                     int32_t n_tokens_max, bool add_special, bool parse_special, char * error, size_t error_size) {
    return guarded<int32_t>(0, error, error_size, [&] {
        return llama_tokenize(vocab, text, text_size, tokens, n_tokens_max, add_special, parse_special);
    });
}

void svf_abort_on_uncaught(void) {
    std::set_terminate(abort_on_uncaught);
}
