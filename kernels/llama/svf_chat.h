// The C interface to llama.cpp's own chat templates (common/chat): a conversation in, a prompt out. Called from Rust.
//
// No exception leaves these functions: what llama.cpp throws becomes an error text.
#pragma once

#include "llama.h"

#ifdef __cplusplus
extern "C" {
#endif

struct svf_chat_template;

struct svf_chat_message {
    const char * role;
    const char * content;
    const char * reasoning; // what a reasoning model thought before it said `content`; NULL if there is nothing
};

// Parses `source`, a Jinja template or the name of one of llama.cpp's built-in ones; NULL takes the one that `model`
// carries. The template gets the begin and end tokens of `model`. Returns NULL and fills `error` (of `error_size`
// bytes) if it cannot be parsed.
struct svf_chat_template * svf_chat_template_new(
    const struct llama_model * model,
    const char               * source,
    char                     * error,
    size_t                     error_size);

void svf_chat_template_free(struct svf_chat_template * chat);

// What begins and what ends the thinking of a model with this template, such as "<think>" and "</think>"; empty where the
// template knows of none. Valid until the template is freed.
const char * svf_chat_thinking_start(const struct svf_chat_template * chat);
const char * svf_chat_thinking_end(const struct svf_chat_template * chat);

// The conversation as llama-server would hand it to the model, ready for the assistant's next message. Without the
// begin token if the tokenizer adds one by itself. Returns NULL and fills `error` if the template refuses it; what it
// returns must go to svf_chat_text_free.
char * svf_chat_render(
    const struct svf_chat_template * chat,
    const struct svf_chat_message  * messages,
    size_t                           n_messages,
    char                           * error,
    size_t                           error_size);

void svf_chat_text_free(char * text);

#ifdef __cplusplus
}
#endif
