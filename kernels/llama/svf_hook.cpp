// The hook into llama.cpp's graphs: see svf_hook.h (towards Rust) and svf_graph.h (towards llama.cpp).
#include "svf_hook.h"
#include "svf_exception.h"
#include "svf_graph.h"
#include "svf_mul_mat.h"
#include "svf_pool.h"

#include "ggml-backend.h"
#include "llama-context.h"
#include "llama-graph.h"
#include "llama-model.h"

#include <array>
#include <cstring>
#include <memory>
#include <stdexcept>
#include <string>
#include <unordered_map>

struct svf_binding {
    svf_form form;
    svf_op   op;
    int32_t  fused_tokens;
    std::array<int32_t, LLAMA_MAX_SEQ> slots = {}; // slot of each sequence
    llama_context * context;
    svf_pools       pools;

    struct adapted {
        svf_weight factors;
        bool       built = false; // seen by the graph builder
        svf_way    way   = SVF_WAY_COMPOSED;
    };
    std::unordered_map<const ggml_tensor *, adapted> weights;

    adapted * find(const ggml_tensor * weight) {
        const auto found = weights.find(weight);
        return found == weights.end() ? nullptr : &found->second;
    }
};

namespace {

// Gives up the graph that llama.cpp is building, and with it the decode: nothing is computed with a layer not adapted,
// and the next decode builds its graph anew.
[[noreturn]] void fail(const ggml_tensor * weight, const std::string & problem) {
    throw std::runtime_error(std::string(weight->name) + ": " + problem);
}

// The slot of each token, and of each token that produces output: in its last layer a model keeps only
// the rows of the latter, in batch order.
class graph_input_slots : public llm_graph_input_i {
public:
    graph_input_slots(svf_binding * binding, ggml_context * ctx, int64_t n_tokens, int64_t n_outputs)
        : tokens(new_ids(ctx, n_tokens, "svf_slots")), outputs(new_ids(ctx, n_outputs, "svf_slots_out")), binding(binding) {}

    void set_input(const llama_ubatch * ubatch) override {
        binding->pools.begin(*ubatch);
        const bool every = outputs->ne[0] == tokens->ne[0];
        int64_t n_outputs = 0;
        for (uint32_t i = 0; i < ubatch->n_tokens; i++) {
            const int32_t slot = binding->slots[ubatch->seq_id[i][0]];
            set(tokens, i, slot);
            if (every || ubatch->output[i]) {
                set(outputs, n_outputs++, slot);
            }
        }
    }

    bool can_reuse(const llm_graph_params & params) override {
        return params.cparams.svf == binding
            && tokens->ne[0] == params.ubatch.n_tokens && outputs->ne[0] == params.n_outputs;
    }

    ggml_tensor * tokens;  // I32 [n_tokens]
    ggml_tensor * outputs; // I32 [n_outputs]

private:
    svf_binding * binding;

    static ggml_tensor * new_ids(ggml_context * ctx, int64_t n, const char * name) {
        ggml_tensor * ids = ggml_new_tensor_1d(ctx, GGML_TYPE_I32, n);
        ggml_set_input(ids);
        return ggml_set_name(ids, name);
    }

    // An input no node reads has no memory.
    static void set(ggml_tensor * ids, int64_t i, int32_t slot) {
        if (ids->buffer != nullptr) {
            ((int32_t *) ids->data)[i] = slot;
        }
    }
};

// The graph's slot input, made by the first adapted weight.
graph_input_slots * slots_of(const llm_graph_context & graph) {
    for (const auto & input : graph.res->inputs) {
        if (auto * slots = dynamic_cast<graph_input_slots *>(input.get())) {
            return slots;
        }
    }
    auto input = std::make_unique<graph_input_slots>(graph.cparams.svf, graph.ctx0, graph.n_tokens, graph.n_outputs);
    return static_cast<graph_input_slots *>(graph.res->add_input(std::move(input)));
}

// Most tokens that the fused op of `device` is made for. Metal's takes eight at a time, and reads the factors again for
// the next eight, where stock products take tiles.
int64_t fused_tokens_of(ggml_backend_dev_t device) {
    const char * backend = ggml_backend_reg_name(ggml_backend_dev_backend_reg(device));
    return strcmp(backend, "MTL") == 0 ? 16 : INT64_MAX;
}

// Whether `device` supports every op from `node` down to what it is computed from.
bool supports_all(ggml_backend_dev_t device, const ggml_tensor * node, const ggml_tensor * x, const ggml_tensor * base) {
    if (node == nullptr || node == x || node == base || node->op == GGML_OP_NONE) {
        return true;
    }
    if (!ggml_backend_dev_supports_op(device, node)) {
        return false;
    }
    for (const ggml_tensor * source : node->src) {
        if (!supports_all(device, source, x, base)) {
            return false;
        }
    }
    return true;
}

ggml_tensor * apply(const llm_graph_context & graph, svf_binding::adapted & adapted, ggml_tensor * x, ggml_tensor * base) {
    svf_binding        * binding = graph.cparams.svf;
    const svf_weight   & factors = adapted.factors;
    ggml_context       * ctx     = graph.ctx0;

    const int64_t n_rows = ggml_nrows(x);
    ggml_tensor * x_rows = x;
    if (x->type != GGML_TYPE_F32) {
        fail(factors.weight, "its input is not F32");
    }
    if (x->ne[2] != 1 || x->ne[3] != 1) {
        x_rows = ggml_reshape_2d(ctx, ggml_is_contiguous(x) ? x : ggml_cont(ctx, x), x->ne[0], n_rows);
    }

    const graph_input_slots * slots = slots_of(graph);
    ggml_tensor * ids = nullptr;
    if (n_rows == graph.n_tokens) {
        ids = slots->tokens;
    } else if (n_rows == graph.n_outputs) {
        ids = slots->outputs;
    } else {
        fail(factors.weight, "its input has " + std::to_string(n_rows) + " rows where the batch has "
            + std::to_string(graph.n_tokens) + " tokens and " + std::to_string(graph.n_outputs) + " outputs");
    }

    ggml_tensor * base_rows = base == nullptr ? nullptr : ggml_reshape_2d(ctx, base, base->ne[0], n_rows);
    if (base_rows != nullptr && base->ne[2] == 1 && base->ne[3] == 1) {
        base_rows = base;
    }
    ggml_backend_dev_t device = factors.device;
    ggml_tensor * fused = nullptr;
    if (binding->op != SVF_OP_COMPOSED) {
        fused = svf_mul_mat(ctx, base_rows, factors.vt, factors.u, factors.s, ids, x_rows);
        if (!ggml_backend_dev_supports_op(device, fused)) {
            fused = nullptr;
        }
    }
    if (fused == nullptr && binding->op == SVF_OP_FUSED) {
        fail(factors.weight, std::string(ggml_backend_dev_name(device))
            + " has no fused operation for factors of types " + ggml_type_name(factors.vt->type) + " and "
            + ggml_type_name(factors.u->type));
    }
    const int64_t fused_tokens = binding->fused_tokens > 0 ? binding->fused_tokens : fused_tokens_of(device);
    ggml_tensor * y = fused;
    bool stays = true;
    if (fused == nullptr || (binding->op == SVF_OP_AUTO && n_rows > fused_tokens)) {
        ggml_tensor * composed = svf_mul_mat_composed(ctx, base_rows, factors.vt, factors.u, factors.s, ids, x_rows);
        stays = supports_all(device, composed, x_rows, base_rows);
        y     = fused == nullptr || stays ? composed : fused;
    }
    adapted.way   = fused != nullptr ? SVF_WAY_FUSED : stays ? SVF_WAY_COMPOSED : SVF_WAY_AWAY;
    adapted.built = true;
    return x_rows == x ? y : ggml_reshape_4d(ctx, y, y->ne[0], x->ne[1], x->ne[2], x->ne[3]);
}

} // namespace

ggml_tensor * svf_factored(const llm_graph_context & graph, ggml_tensor * weight, ggml_tensor * x) {
    svf_binding * binding = graph.cparams.svf;
    if (binding == nullptr || binding->form != SVF_FORM_FACTORED) {
        return nullptr;
    }
    svf_binding::adapted * adapted = binding->find(weight);
    return adapted == nullptr ? nullptr : apply(graph, *adapted, x, nullptr);
}

ggml_tensor * svf_residual(const llm_graph_context & graph, ggml_tensor * weight, ggml_tensor * x, ggml_tensor * base) {
    svf_binding * binding = graph.cparams.svf;
    if (binding == nullptr || binding->form != SVF_FORM_RESIDUAL) {
        return base;
    }
    svf_binding::adapted * adapted = binding->find(weight);
    return adapted == nullptr ? base : apply(graph, *adapted, x, base);
}

uint32_t svf_max_nodes(const svf_binding * binding) {
    // Beside the composed op: the copy and the views of inputs with more than two dimensions.
    return binding == nullptr ? 0 : (uint32_t) binding->weights.size() * (SVF_COMPOSED_NODES + 5) + 2;
}

// Declared by our patch, kept here with the rest of the hook.
void llama_context::set_svf(svf_binding * binding) {
    synchronize();
    cparams.svf        = binding;
    sched_need_reserve = true; // reserving drops every graph built for another binding
}

void llama_context::set_svf_eval(ggml_backend_sched_eval_callback callback, void * user_data) {
    synchronize();
    cparams.cb_eval           = callback;
    cparams.cb_eval_user_data = user_data;
    // A graph that is used again keeps its scheduler.
    if (sched) {
        ggml_backend_sched_set_eval_callback(sched.get(), callback, user_data);
    }
}

const ggml_tensor * svf_model_tensor(const llama_model * model, const char * name) {
    return model->get_tensor(name);
}

svf_binding * svf_bind(
    llama_context * context, const svf_weight * weights, size_t n_weights, svf_form form, svf_op op,
    int32_t fused_tokens, char * error, size_t error_size) {
    svf_binding * bound = svf_guarded<svf_binding *>(nullptr, error, error_size, [&] {
        auto binding  = std::make_unique<svf_binding>();
        binding->context = context;
        binding->form = form;
        binding->op   = op;
        binding->fused_tokens = fused_tokens;
        for (size_t i = 0; i < n_weights; i++) {
            binding->weights[weights[i].weight].factors = weights[i];
        }
        context->set_svf(binding.get());
        context->sched_reserve();
        for (const auto & [weight, adapted] : binding->weights) {
            if (!adapted.built) {
                fail(weight, "this model does not use it as a plain linear layer");
            }
        }
        return binding.release();
    });
    if (bound == nullptr) {
        context->set_svf(nullptr);
    }
    return bound;
}

void svf_unbind(llama_context * context, svf_binding * binding) {
    context->set_svf_eval(nullptr, nullptr);
    context->set_svf(nullptr);
    delete binding;
}

void svf_assign(svf_binding * binding, llama_seq_id sequence, int32_t slot) {
    binding->slots[sequence] = slot;
}

void svf_pool(svf_binding * binding, llama_seq_id sequence, int32_t layer, llama_pos first, llama_pos end) {
    const bool was_used = binding->pools.is_used();
    binding->pools.set(sequence, layer, first, end);
    if (binding->pools.is_used() != was_used) {
        // Only while somebody asks: the scheduler has to stop at each backend for it.
        binding->context->set_svf_eval(was_used ? nullptr : svf_pools::eval, &binding->pools);
    }
}

int32_t svf_pooled(
    const svf_binding * binding, llama_seq_id sequence, int32_t layer, float * mean, size_t n_embd) {
    return binding->pools.mean(sequence, layer, mean, n_embd);
}

svf_way svf_way_of(const svf_binding * binding, const ggml_tensor * weight) {
    const auto found = binding->weights.find(weight);
    return found == binding->weights.end() ? SVF_WAY_COMPOSED : found->second.way;
}
