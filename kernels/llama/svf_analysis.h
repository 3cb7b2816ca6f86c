// What llama.cpp finds out about a chat template, kept with the template: it takes up to 60 ms, and never changes.
// Included by llama.cpp's common/chat.cpp.
#pragma once

#include "chat-auto-parser.h"
#include "chat.h"

#include <memory>

inline std::shared_ptr<const autoparser::autoparser> svf_analysis(const common_chat_template & chat_template) {
    auto known = std::atomic_load(&chat_template.svf_analysis);
    if (!known) {
        // Two threads may both come here; either result will do.
        auto analysis = std::make_shared<struct autoparser::autoparser>();
        analysis->analyze_template(chat_template);
        known = analysis;
        std::atomic_store(&chat_template.svf_analysis, known);
    }
    return known;
}
