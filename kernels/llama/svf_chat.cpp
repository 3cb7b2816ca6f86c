// Chat templates and parsers of answers, through llama.cpp's common library, as llama-server uses them.
#include "svf_chat.h"
#include "svf_analysis.h"
#include "svf_exception.h"

#include "chat-auto-parser.h"
#include "chat.h"
#include "json-schema-to-grammar.h"
#include "json.h"
#include "log.h"

#include <algorithm>
#include <cstring>
#include <exception>
#include <memory>
#include <random>
#include <stdexcept>
#include <string>
#include <vector>

struct svf_chat_template {
    common_chat_templates_ptr templates;
    bool                      use_jinja    = true;
    // Whether the template alone makes the prompt, and no code that llama.cpp has for one family of models.
    bool                      is_plain     = false;
    // Whether answers stand between no marks.
    bool                      is_unwrapped = false;
    bool                      can_think    = false;
    std::string               thinking_start;
    std::string               thinking_end;
};

struct svf_chat_parser {
    common_chat_parser_params params;
    common_chat_msg           message;
    std::vector<std::string>  ids;
};

// Only these few formats were written into llama.cpp before it could read Jinja.
static bool is_builtin(const std::string & source) {
    std::vector<const char *> names(llama_chat_builtin_templates(nullptr, 0));
    llama_chat_builtin_templates(names.data(), names.size());
    return std::any_of(names.begin(), names.end(), [&](const char * name) { return source == name; });
}

// --- templates --------------------------------------------------------------------------------------

// Learns from one greeting what holds for all conversations.
static void probe(svf_chat_template & chat) {
    common_chat_templates_inputs inputs;
    inputs.messages.emplace_back();
    inputs.messages.back().role    = "user";
    inputs.messages.back().content = "Hi";
    inputs.reasoning_format        = COMMON_REASONING_FORMAT_DEEPSEEK;
    autoparser::generation_params plain;
    plain.messages              = common_json::array({ common_json{ { "role", "user" }, { "content", "Hi" } } });
    plain.add_generation_prompt = true;
    try {
        const std::string          source = common_chat_templates_source(chat.templates.get());
        const common_chat_template own(source, "", "");
        chat.is_plain = !common_chat_try_specialized_template(own, source, plain);
        if (!chat.is_plain) {
            const common_chat_params params = common_chat_templates_apply(chat.templates.get(), inputs);
            chat.can_think = params.supports_thinking;
            if (!params.thinking_end_tags.empty()) {
                chat.thinking_start = params.thinking_start_tag;
                chat.thinking_end   = params.thinking_end_tags.front();
            }
            return;
        }
        const auto analysis = svf_analysis(own);
        chat.can_think      = analysis->reasoning.mode != autoparser::reasoning_mode::NONE;
        chat.is_unwrapped   = analysis->content.mode == autoparser::content_mode::PLAIN;
        if (chat.can_think) {
            chat.thinking_start = analysis->reasoning.start;
            chat.thinking_end   = analysis->reasoning.end;
        }
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

// --- requests ---------------------------------------------------------------------------------------

// As llama-server reads fields: what is absent, null or of another type leaves the default.
template <typename T>
static T field(const common_json & object, const std::string & name, T otherwise) {
    if (!object.is_object() || !object.contains(name) || object.at(name).is_null()) {
        return otherwise;
    }
    try {
        return object.at(name).get<T>();
    } catch (const common_json_error &) {
        return otherwise;
    }
}

// The member itself; null where there is none.
static common_json member(const common_json & object, const std::string & name) {
    return object.is_object() && object.contains(name) ? object.at(name) : common_json();
}

// The schema that the answer must follow, as text; empty if there is none.
static std::string wanted_schema(const common_json & body) {
    common_json schema = member(body, "json_schema");
    if (!schema.is_null() && !field(body, "grammar", std::string()).empty()) {
        throw std::invalid_argument("Cannot use both json_schema and grammar");
    }
    const common_json format = member(body, "response_format");
    const std::string type   = field(format, "type", std::string());
    const common_json any    = common_json::object();
    if (type == "json_object") {
        if (!member(format, "schema").is_null() || schema.is_null() || schema.empty()) {
            schema = member(format, "schema");
            schema = schema.is_null() ? any : schema;
        }
    } else if (type == "json_schema") {
        schema = member(member(format, "json_schema"), "schema");
        schema = schema.is_null() ? any : schema;
    } else if (!type.empty() && type != "text") {
        throw std::invalid_argument(
            "response_format type must be one of \"text\" or \"json_object\", but got: " + type);
    }
    if (!schema.is_null() && !schema.is_object() && !schema.is_boolean()) {
        throw std::invalid_argument("a JSON schema is an object, but got: " + schema.dump());
    }
    if (schema.is_object() && schema.empty()) {
        schema["type"] = "object";
    }
    return schema.is_null() ? "" : schema.dump();
}

static std::vector<common_chat_msg> messages_of(const common_json & body) {
    if (!body.is_object() || !body.contains("messages")) {
        throw std::invalid_argument("'messages' is required");
    }
    const common_json & messages = body.at("messages");
    if (!messages.is_array()) {
        throw std::invalid_argument("Expected 'messages' to be an array");
    }
    for (const common_json & message : messages) {
        const bool has_content = message.is_object() && message.contains("content");
        if (field(message, "role", std::string()) != "assistant") {
            if (!has_content) {
                throw std::invalid_argument("All non-assistant messages must contain 'content'");
            }
        } else if (!has_content && !message.contains("tool_calls")) {
            throw std::invalid_argument("Assistant message must contain either 'content' or 'tool_calls'!");
        }
        if (!has_content || message.at("content").is_string() || message.at("content").is_null()) {
            continue;
        }
        if (!message.at("content").is_array()) {
            throw std::invalid_argument("Expected 'content' to be a string or an array");
        }
        for (const common_json & part : message.at("content")) {
            const std::string type = field(part, "type", std::string());
            for (const char * medium : { "image", "audio", "video" }) {
                if (type.find(medium) != std::string::npos) {
                    throw std::invalid_argument(std::string(medium) + " input is not supported");
                }
            }
            if (type != "text") {
                throw std::invalid_argument("unsupported content[].type");
            }
        }
    }
    return common_chat_msgs_parse_oaicompat(messages);
}

static bool continues(const common_chat_templates_inputs & inputs) {
    return inputs.continue_final_message != COMMON_CHAT_CONTINUATION_NONE;
}

static bool body_continues(const common_json & body) {
    return body.contains("continue_final_message") &&
           common_chat_continuation_parse(body.at("continue_final_message")) != COMMON_CHAT_CONTINUATION_NONE;
}

// Which part of a last message of the assistant goes on.
static void read_continuation(
    common_chat_templates_inputs & inputs, const common_json & body, bool prefills) {
    const auto & messages = inputs.messages;
    const auto says = [&](size_t from_end) {
        return messages.size() >= from_end && messages[messages.size() - from_end].role == "assistant";
    };
    inputs.add_generation_prompt = field(body, "add_generation_prompt", true);
    if (body.contains("continue_final_message")) {
        inputs.continue_final_message = common_chat_continuation_parse(body.at("continue_final_message"));
    }
    if (!continues(inputs) && prefills && says(1)) {
        if (says(2)) {
            throw std::invalid_argument("Cannot have 2 or more assistant messages at the end of the list.");
        }
        inputs.continue_final_message = COMMON_CHAT_CONTINUATION_AUTO;
        inputs.add_generation_prompt  = false;
    }
    if (continues(inputs) && inputs.add_generation_prompt) {
        throw std::invalid_argument("Cannot set both add_generation_prompt and continue_final_message to true.");
    }
    if (continues(inputs) && says(1) && !messages.back().tool_calls.empty()) {
        throw std::invalid_argument("Cannot continue an assistant message that contains tool calls.");
    }
}

// What the template is told about thinking, and its other variables.
static void read_reasoning(
    common_chat_templates_inputs & inputs, const common_json & request, const common_json & body, bool can_think) {
    inputs.reasoning_format = common_reasoning_format_from_name(
        field(body, "reasoning_format", field(request, "reasoning_format", std::string("deepseek"))));
    auto & variables = inputs.chat_template_kwargs;
    inputs.enable_thinking = can_think;
    const common_json wanted = member(request, "enable_thinking");
    if (wanted.is_boolean()) {
        inputs.enable_thinking &= wanted.get<bool>();
        variables["enable_thinking"] = wanted.dump();
    }
    const common_json given = member(body, "chat_template_kwargs");
    if (given.is_object()) {
        for (const auto & item : given.items()) {
            variables[item.key()] = item.value().dump();
        }
    }
    const auto found = variables.find("enable_thinking");
    if (found != variables.end()) {
        if (found->second[0] == '"') {
            throw std::invalid_argument("invalid type for \"enable_thinking\" (expected boolean, got string)");
        }
        if (found->second == "true" || found->second == "false") {
            inputs.enable_thinking = found->second == "true";
        }
    }
    const std::string effort = field(body, "reasoning_effort", std::string());
    if (effort == "none") {
        inputs.enable_thinking = false;
        variables.erase("reasoning_effort");
    } else if (!effort.empty()) {
        variables["reasoning_effort"] = common_json(effort).dump();
    }
}

static common_chat_templates_inputs inputs_of(const svf_chat_template & chat, const common_json & request) {
    const common_json & body  = request.at("body");
    const common_json   tools = member(body, "tools");
    const std::string   choice = field(body, "tool_choice", std::string("auto"));
    const auto          caps   = common_chat_templates_get_caps(chat.templates.get());
    const auto          many   = caps.find("supports_parallel_tool_calls");
    common_chat_templates_inputs inputs;
    inputs.use_jinja           = chat.use_jinja && field(request, "jinja", true);
    inputs.json_schema         = wanted_schema(body);
    inputs.grammar             = field(body, "grammar", std::string());
    inputs.messages            = messages_of(body);
    inputs.tools               = common_chat_tools_parse_oaicompat(tools);
    inputs.tool_choice         = common_chat_tool_choice_parse_oaicompat(choice);
    inputs.parallel_tool_calls = field(body, "parallel_tool_calls", many != caps.end() && many->second);
    if (!inputs.use_jinja && (!inputs.tools.empty() || choice != "auto")) {
        throw std::invalid_argument("a chat template that is not read as Jinja knows no tools");
    }
    read_continuation(inputs, body, field(request, "prefills", false));
    read_reasoning(inputs, request, body, chat.can_think);
    if (!inputs.tools.empty() && inputs.tool_choice != COMMON_CHAT_TOOL_CHOICE_NONE && body.contains("grammar")) {
        throw std::invalid_argument("Cannot use custom grammar constraints with tools.");
    }
    return inputs;
}

// Whether the answer is content from its first letter to its last.
static bool is_all_content(const svf_chat_template & chat, const common_chat_templates_inputs & inputs) {
    if (!inputs.use_jinja) {
        return true;
    }
    const bool is_free = inputs.tools.empty() && inputs.json_schema.empty() && !continues(inputs);
    return is_free && chat.is_plain && chat.is_unwrapped && !chat.can_think;
}

// Beside their text, what the lazy grammar of `params` is set off by.
static void add_triggers(const common_chat_params & params, common_json & result) {
    common_json patterns = common_json::array();
    common_json words    = common_json::array();
    for (const common_grammar_trigger & trigger : params.grammar_triggers) {
        const std::string & value = trigger.value;
        switch (trigger.type) {
            case COMMON_GRAMMAR_TRIGGER_TYPE_PATTERN:
                patterns.push_back(value);
                break;
            case COMMON_GRAMMAR_TRIGGER_TYPE_PATTERN_FULL: {
                const bool begins = !value.empty() && value.front() == '^';
                const bool ends   = !value.empty() && value.back() == '$';
                patterns.push_back((begins ? "" : "^") + value + (ends ? "" : "$"));
                break;
            }
            // A token is always given by its text, too.
            case COMMON_GRAMMAR_TRIGGER_TYPE_TOKEN:
            case COMMON_GRAMMAR_TRIGGER_TYPE_WORD:
                words.push_back(common_json{ { "text", value }, { "pattern", regex_escape(value) } });
                break;
        }
    }
    result["patterns"]      = patterns;
    result["trigger_words"] = words;
}

static char * copy_of(const std::string & text) {
    char * copy = new char[text.size() + 1];
    memcpy(copy, text.c_str(), text.size() + 1);
    return copy;
}

char * svf_chat_apply(
    const struct svf_chat_template * chat, const char * request, char * error, size_t error_size) {
    return svf_guarded<char *>(nullptr, error, error_size, [&] {
        const common_json            wanted = common_json::parse(request);
        common_chat_templates_inputs inputs = inputs_of(*chat, wanted);
        // Else llama.cpp derives a parser of answers, which takes longer than the prompt.
        inputs.force_pure_content = field(wanted, "only_prompt", false) && chat->is_plain && !continues(inputs);
        const common_chat_params params = common_chat_templates_apply(chat->templates.get(), inputs);
        common_json result{ { "prompt", params.prompt } };
        if (field(wanted, "only_prompt", false)) {
            return copy_of(result.dump_safe());
        }
        result["grammar"]           = params.grammar;
        result["is_lazy"]           = params.grammar_lazy;
        result["generation_prompt"] = params.generation_prompt;
        result["thinking_start"]    = params.thinking_start_tag;
        result["thinking_ends"]     = params.thinking_end_tags;
        result["stop"]              = params.additional_stops;
        result["preserved"]         = params.preserved_tokens;
        add_triggers(params, result);
        result["parser"] = common_json();
        if (!is_all_content(*chat, inputs)) {
            result["parser"] = common_json{
                { "format", (int) params.format },
                { "reasoning_format", (int) inputs.reasoning_format },
                { "generation_prompt", params.generation_prompt },
                { "continues", body_continues(wanted.at("body")) },
                { "arena", params.parser },
            };
        }
        return copy_of(result.dump_safe());
    });
}

// --- answers ----------------------------------------------------------------------------------------

struct svf_chat_parser * svf_chat_parser_new(const char * parser, char * error, size_t error_size) {
    return svf_guarded<svf_chat_parser *>(nullptr, error, error_size, [&] {
        const common_json given = common_json::parse(parser);
        auto result = std::make_unique<svf_chat_parser>();
        auto & params = result->params;
        params.format            = (common_chat_format) given.at("format").get<int>();
        params.reasoning_format  = (common_reasoning_format) given.at("reasoning_format").get<int>();
        params.generation_prompt = given.at("generation_prompt").get<std::string>();
        params.is_continuation   = given.at("continues").get<bool>();
        const std::string arena  = given.at("arena").get<std::string>();
        if (!arena.empty()) {
            params.parser.load(arena);
        }
        if (params.is_continuation) {
            // As llama-server does, which repeats what it continues where it was not asked to in so many words.
            result->message = common_chat_parse("", true, params);
        }
        return result.release();
    });
}

void svf_chat_parser_free(struct svf_chat_parser * parser) {
    delete parser;
}

static std::string random_id() {
    static const char letters[] = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    std::random_device source;
    std::uniform_int_distribution<size_t> place(0, sizeof(letters) - 2);
    std::string id(32, ' ');
    std::generate(id.begin(), id.end(), [&] { return letters[place(source)]; });
    return id;
}

static common_json call_json(const common_chat_tool_call & call) {
    return { { "id", call.id }, { "name", call.name }, { "arguments", call.arguments } };
}

static common_json delta_json(const common_chat_msg_diff & diff) {
    common_json call;
    if (diff.tool_call_index != std::string::npos) {
        call          = call_json(diff.tool_call_delta);
        call["index"] = diff.tool_call_index;
    }
    return {
        { "reasoning", diff.reasoning_content_delta },
        { "content", diff.content_delta },
        { "tool_call", call },
    };
}

// Parses, and remembers the message. What a partial text says may not be clear yet.
static std::vector<common_chat_msg_diff> parse(svf_chat_parser & parser, const std::string & text, bool is_whole) {
    try {
        common_chat_msg message = common_chat_parse(text, !is_whole, parser.params);
        if (message.empty()) {
            return {};
        }
        message.set_tool_call_ids(parser.ids, random_id);
        auto diffs     = common_chat_msg_diff::compute_diffs(parser.message, message);
        parser.message = std::move(message);
        return diffs;
    } catch (const std::exception &) {
        if (is_whole) {
            throw;
        }
        return {};
    }
}

char * svf_chat_parser_push(
    struct svf_chat_parser * parser,
    const char             * text,
    size_t                   size,
    bool                     is_whole,
    char                   * error,
    size_t                   error_size) {
    return svf_guarded<char *>(nullptr, error, error_size, [&] {
        common_json deltas = common_json::array();
        for (const common_chat_msg_diff & diff : parse(*parser, std::string(text, size), is_whole)) {
            deltas.push_back(delta_json(diff));
        }
        common_json calls = common_json::array();
        for (const common_chat_tool_call & call : parser->message.tool_calls) {
            calls.push_back(call_json(call));
        }
        const common_json result{
            { "deltas", deltas },
            { "message",
              {
                  { "content", parser->message.content },
                  { "reasoning", parser->message.reasoning_content },
                  { "tool_calls", calls },
              } },
        };
        return copy_of(result.dump_safe());
    });
}

char * svf_chat_schema_grammar(const char * schema, char * error, size_t error_size) {
    return svf_guarded<char *>(nullptr, error, error_size, [&] {
        common_json wanted = common_json::parse(schema);
        if (wanted.is_object() && wanted.empty()) {
            wanted["type"] = "object";
        }
        return copy_of(json_schema_to_grammar(wanted));
    });
}

void svf_chat_text_free(char * text) {
    delete[] text;
}
