// The C interface to llama.cpp's own chat code (common/chat): a conversation in, a prompt out, and a parser of what the
// model answers. Called from Rust. Requests and results are JSON.
//
// No exception leaves these functions: what llama.cpp throws becomes an error text. Texts that are returned must go to
// svf_chat_text_free.
#pragma once

#include "llama.h"

#ifdef __cplusplus
extern "C" {
#endif

struct svf_chat_template;
struct svf_chat_parser;

// Parses `source`, a Jinja template or the name of one of llama.cpp's built-in ones; NULL takes the one that `model`
// carries, or chatml if it carries none. The template gets the begin and end tokens of `model`. Returns NULL and fills
// `error` (of `error_size` bytes) if it cannot be parsed.
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

// Turns a request into what the model reads and how its answer is to be understood, as llama-server does it. Several
// threads may do so at once. Returns NULL and fills `error` if the request is malformed, or the template refuses it.
//
// request: {
//   body: fields of a chat completion: messages, tools, tool_choice, parallel_tool_calls, response_format, json_schema,
//         grammar, add_generation_prompt, continue_final_message, chat_template_kwargs, reasoning_effort, reasoning_format,
//   reasoning_format: where the body has none,
//   enable_thinking: true or false, or null for what the template is made for,
//   prefills: whether a last message of the assistant is continued,
//   only_prompt: whether nothing but the prompt is wanted,
// }
// result: {
//   prompt: without the begin token if the tokenizer adds one by itself,
//   grammar: may be empty, is_lazy, patterns: regular expressions of which one sets a lazy grammar off,
//   trigger_words: texts of which one does, is_prefilled: whether the grammar counts in the generation prompt,
//   generation_prompt: the end of the prompt, which belongs to the answer,
//   thinking_start, thinking_ends, stop: texts that end the answer, preserved: control tokens that are part of its text,
//   parser: what svf_chat_parser_new takes; null if all of the answer is content,
// }
char * svf_chat_apply(
    const struct svf_chat_template * chat,
    const char                     * request,
    char                           * error,
    size_t                           error_size);

// A parser of one answer. Returns NULL and fills `error` if `parser` is not from svf_chat_apply.
struct svf_chat_parser * svf_chat_parser_new(const char * parser, char * error, size_t error_size);

void svf_chat_parser_free(struct svf_chat_parser * parser);

// Parses all `text` of an answer so far, of `size` bytes. Returns what it says that the last call did not know, and all that
// it says; NULL and fills `error` if it `is_whole`, and is not in the format that the prompt asks for.
//
// {deltas: [{reasoning, content, tool_call: null or {index, id, name, arguments}}],
//  message: {content, reasoning, tool_calls: [{id, name, arguments}]}}
char * svf_chat_parser_push(
    struct svf_chat_parser * parser,
    const char             * text,
    size_t                   size,
    bool                     is_whole,
    char                   * error,
    size_t                   error_size);

// The grammar, in GBNF, of what is valid for a JSON schema. Returns NULL and fills `error` if there is none.
char * svf_chat_schema_grammar(const char * schema, char * error, size_t error_size);

void svf_chat_text_free(char * text);

#ifdef __cplusplus
}
#endif
