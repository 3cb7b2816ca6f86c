#include "svf_pool.h"

#include "ggml-backend.h"
#include "llama-batch.h"

#include <charconv>
#include <cstring>

namespace {

// llama.cpp's name for what block N leaves: "l_out-N". -1 for any other node.
int32_t layer_of(const ggml_tensor * node) {
    static const char prefix[] = "l_out-";
    const size_t length = sizeof(prefix) - 1;
    if (strncmp(node->name, prefix, length) != 0) {
        return -1;
    }
    int32_t layer = -1;
    const char * end = node->name + strlen(node->name);
    const auto read = std::from_chars(node->name + length, end, layer);
    return read.ec == std::errc() && read.ptr == end ? layer : -1;
}

} // namespace

void svf_pools::begin(const llama_ubatch & ubatch) {
    rows.clear();
    if (!is_used()) {
        return;
    }
    for (uint32_t i = 0; i < ubatch.n_tokens; i++) {
        rows.push_back({ ubatch.seq_id[i][0], ubatch.pos[i] });
    }
}

void svf_pools::set(llama_seq_id sequence, int32_t layer, llama_pos first, llama_pos end) {
    if (first < end) {
        pools[{ sequence, layer }] = { first, end, first, {} };
    } else {
        pools.erase({ sequence, layer });
    }
}

int32_t svf_pools::mean(llama_seq_id sequence, int32_t layer, float * mean, size_t n_embd) const {
    const auto found = pools.find({ sequence, layer });
    if (found == pools.end() || found->second.sum.size() != n_embd) {
        return 0;
    }
    const pool & pool = found->second;
    const int32_t n_tokens = pool.next - pool.first;
    for (size_t i = 0; i < pool.sum.size(); i++) {
        mean[i] = (float) (pool.sum[i] / n_tokens);
    }
    return n_tokens;
}

bool svf_pools::is_wanted(const ggml_tensor * node) const {
    const int32_t layer = layer_of(node);
    if (layer < 0 || node->type != GGML_TYPE_F32 || !ggml_is_contiguous(node) || ggml_nrows(node) != (int64_t) rows.size()) {
        return false;
    }
    for (const row & row : rows) {
        if (pools.count({ row.sequence, layer }) > 0) {
            return true;
        }
    }
    return false;
}

void svf_pools::add(const ggml_tensor * node) {
    const int32_t layer = layer_of(node);
    const size_t  width = node->ne[0];
    values.resize(ggml_nelements(node));
    ggml_backend_tensor_get(node, values.data(), 0, ggml_nbytes(node));
    for (size_t i = 0; i < rows.size(); i++) {
        const auto found = pools.find({ rows[i].sequence, layer });
        if (found == pools.end()) {
            continue;
        }
        pool & pool = found->second;
        const llama_pos position = rows[i].position;
        if (position == pool.first) {
            // Read again from there, after a decode that failed.
            pool.next = position;
            pool.sum.assign(width, 0.0);
        }
        if (position != pool.next || position >= pool.end) {
            continue;
        }
        pool.next++;
        const float * value = values.data() + i * width;
        for (size_t k = 0; k < width; k++) {
            pool.sum[k] += value[k];
        }
    }
}

bool svf_pools::eval(ggml_tensor * node, bool is_question, void * user_data) {
    auto * pools = static_cast<svf_pools *>(user_data);
    if (is_question) {
        return pools->is_wanted(node);
    }
    pools->add(node);
    return true;
}
