// The hook's side towards llama.cpp's graph builder: the only names the patches use.
#pragma once

#include <cstdint>

struct ggml_tensor;
struct llm_graph_context;
struct svf_binding;

// U·(s ⊙ (Vᵀ·x)) in place of W·x, where the context binds `weight` in factored form; else null.
ggml_tensor * svf_factored(const llm_graph_context & graph, ggml_tensor * weight, ggml_tensor * x);

// base + U·(s ⊙ (Vᵀ·x)), where the context binds `weight` in residual form; else `base`.
ggml_tensor * svf_residual(const llm_graph_context & graph, ggml_tensor * weight, ggml_tensor * x, ggml_tensor * base);

// Graph nodes the binding may add.
uint32_t svf_max_nodes(const svf_binding * binding);
