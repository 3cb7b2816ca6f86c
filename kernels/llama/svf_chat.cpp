// Chat templates through llama.cpp's common library, with the settings that llama-server starts with.
#include "svf_chat.h"
#include "svf_exception.h"

#include "chat-auto-parser.h"
#include "chat.h"
#include "log.h"

#include <algorithm>
#include <cstring>
#include <exception>
#include <memory>
#include <new>
#include <string>
#include <vector>

struct svf_chat_template {
    common_chat_templates_ptr templates;
    bool                      use_jinja = true;
    // Whether the template alone makes the prompt, and no code that llama.cpp has for one family of models.
    bool                      is_plain  = false;
    bool                      can_think = false;
    std::string               thinking_start;
    std::string               thinking_end;
};

// Only these few formats were written into llama.cpp before it could read Jinja.
static bool is_builtin(const std::string & source) {
    std::vector<const char *> names(llama_chat_builtin_templates(nullptr, 0));
    llama_chat_builtin_templates(names.data(), names.size());
    return std::any_of(names.begin(), names.end(), [&](const char * name) { return source == name; });
}

static common_chat_params apply(const svf_chat_template & chat, common_chat_templates_inputs inputs) {
    inputs.use_jinja        = chat.use_jinja;
    inputs.reasoning_format = COMMON_REASONING_FORMAT_DEEPSEEK;
    inputs.enable_thinking  = chat.can_think;
    // Else llama.cpp derives a parser of answers from the template, which takes up to 60 ms a prompt.
    inputs.force_pure_content = chat.is_plain;
    return common_chat_templates_apply(chat.templates.get(), inputs);
}

// Learns from one greeting what holds for all conversations.
static void probe(svf_chat_template & chat) {
    common_chat_templates_inputs inputs;
    inputs.messages.emplace_back();
    inputs.messages.back().role    = "user";
    inputs.messages.back().content = "Hi";
    try {
        chat.can_think = true;
        const common_chat_params params = apply(chat, inputs);
        chat.can_think = params.supports_thinking;
        if (!params.thinking_end_tags.empty()) {
            chat.thinking_start = params.thinking_start_tag;
            chat.thinking_end   = params.thinking_end_tags.front();
        }
        autoparser::generation_params plain;
        plain.messages              = { { { "role", "user" }, { "content", "Hi" } } };
        plain.add_generation_prompt = true;
        const std::string source    = common_chat_templates_source(chat.templates.get());
        chat.is_plain = !common_chat_try_specialized_template(common_chat_template(source, "", ""), source, plain);
    } catch (const std::exception &) {
        // A template that refuses a greeting says why when it is given a conversation.
    }
}

struct svf_chat_template * svf_chat_template_new(
    const struct llama_model * model, const char * source, char * error, size_t error_size) {
    return svf_guarded<svf_chat_template *>(nullptr, error, error_size, [&] {
        // Warnings would appear amid a user's output; what matters is thrown.
        common_log_set_verbosity_thold(-1);
        const std::string text = source ? source : "";
        auto chat = std::make_unique<svf_chat_template>();
        // llama.cpp has this one as Jinja too.
        chat->use_jinja = text == "chatml" || !is_builtin(text);
        if (chat->use_jinja && text != "chatml") {
            // common_chat_templates_init keeps to itself what is wrong with a template.
            const char * own = source ? source : llama_model_chat_template(model, nullptr);
            common_chat_template(own ? own : "", "", "");
        }
        chat->templates = common_chat_templates_init(model, text);
        if (chat->use_jinja) {
            probe(*chat);
        }
        return chat.release();
    });
}

void svf_chat_template_free(struct svf_chat_template * chat) {
    delete chat;
}

const char * svf_chat_thinking_start(const struct svf_chat_template * chat) {
    return chat->thinking_start.c_str();
}

const char * svf_chat_thinking_end(const struct svf_chat_template * chat) {
    return chat->thinking_end.c_str();
}

char * svf_chat_render(
    const struct svf_chat_template * chat,
    const struct svf_chat_message  * messages,
    size_t                           n_messages,
    char                           * error,
    size_t                           error_size) {
    return svf_guarded<char *>(nullptr, error, error_size, [&] {
        common_chat_templates_inputs inputs;
        for (size_t i = 0; i < n_messages; i++) {
            common_chat_msg message;
            message.role    = messages[i].role;
            message.content = messages[i].content;
            if (messages[i].reasoning) {
                message.reasoning_content = messages[i].reasoning;
            }
            inputs.messages.push_back(std::move(message));
        }
        const std::string prompt = apply(*chat, inputs).prompt;
        char * text = new char[prompt.size() + 1];
        memcpy(text, prompt.c_str(), prompt.size() + 1);
        return text;
    });
}

void svf_chat_text_free(char * text) {
    delete[] text;
}
