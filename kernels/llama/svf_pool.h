// Means of hidden states over tokens of a prompt, taken out of llama.cpp's graphs while these are computed.
#pragma once

#include "ggml.h"
#include "llama.h"

#include <cstddef>
#include <cstdint>
#include <map>
#include <utility>
#include <vector>

struct llama_ubatch;

class svf_pools {
public:
    // The tokens of the graph that is computed next.
    void begin(const llama_ubatch & ubatch);

    // See svf_hook.h.
    void set(llama_seq_id sequence, int32_t layer, llama_pos first, llama_pos end);
    int32_t mean(llama_seq_id sequence, int32_t layer, float * mean, size_t n_embd) const;

    // Whether any sequence sums up.
    bool is_used() const { return !pools.empty(); }

    // For ggml_backend_sched_set_eval_callback; `user_data` is the svf_pools.
    static bool eval(ggml_tensor * node, bool is_question, void * user_data);

private:
    struct pool {
        llama_pos           first;
        llama_pos           end;
        llama_pos           next; // what comes before is in the sum
        std::vector<double> sum;
    };

    // A token of the graph.
    struct row {
        llama_seq_id sequence;
        llama_pos    position;
    };

    std::map<std::pair<llama_seq_id, int32_t>, pool> pools; // by sequence and layer
    std::vector<row>   rows;
    std::vector<float> values;

    bool is_wanted(const ggml_tensor * node) const;
    void add(const ggml_tensor * node);
};
