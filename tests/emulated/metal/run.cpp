// Runs svf_mul_mat's Metal kernels, as the host's code encodes them, over cases from a file.
//
//   run CASES RESULTS
//
// A case: int64 n_in, n_out, r, T, n_slots, type of Vᵀ, type of U, has_base, elements from token to token of x;
// then the data of Vᵀ, U, s, ids, x and base. Results are the y [n_out, T] of all cases. Ends with code 4 where a
// result depends on the order of threads.
#include <metal_stdlib>

#include "kernel.metal"

#include "end_of_kernels.h"

#include "tensors.h"

#include "metal/svf_mul_mat_metal.cpp"

using emulated::Order;
using emulated::Schedule;

// --- ggml-metal's encoder ------------------------------------------------------------------------

struct ggml_metal_pipeline {
    std::string name;
};

struct ggml_metal_encoder {
    ggml_metal_pipeline  * pipeline = nullptr;
    std::vector<char>      bytes;
    emulated::Bound        bound;
    Schedule               schedule;
};

ggml_metal_pipeline_with_params ggml_metal_library_get_pipeline(ggml_metal_library_t, const char *) { return {}; }

ggml_metal_pipeline_with_params ggml_metal_library_compile_pipeline(
    ggml_metal_library_t, const char * base, const char *, ggml_metal_cv_t) {
    static std::map<std::string, ggml_metal_pipeline> pipelines;
    if (emulated::kernels().count(base) == 0) {
        fprintf(stderr, "no kernel named %s\n", base);
        exit(2);
    }
    ggml_metal_pipeline_with_params found = {};
    found.pipeline       = &pipelines[base];
    found.pipeline->name = base;
    return found;
}

void ggml_metal_encoder_set_pipeline(ggml_metal_encoder_t encoder, ggml_metal_pipeline_with_params pipeline) {
    encoder->pipeline = pipeline.pipeline;
    encoder->bound.clear();
}

void ggml_metal_encoder_set_bytes(ggml_metal_encoder_t encoder, void * data, size_t size, int idx) {
    encoder->bytes.assign((char *) data, (char *) data + size);
    encoder->bound[idx] = encoder->bytes.data();
}

void ggml_metal_encoder_set_buffer(ggml_metal_encoder_t encoder, ggml_metal_buffer_id buffer, int idx) {
    encoder->bound[idx] = (char *) buffer.metal + buffer.offs;
}

void ggml_metal_encoder_dispatch_threadgroups(
    ggml_metal_encoder_t encoder, int tg0, int tg1, int tg2, int tptg0, int tptg1, int tptg2) {
    const auto & kernel = emulated::kernels().at(encoder->pipeline->name);
    emulated::launch({ (unsigned) tg0, (unsigned) tg1, (unsigned) tg2 },
        { (unsigned) tptg0, (unsigned) tptg1, (unsigned) tptg2 }, 0, encoder->schedule,
        [&] { kernel(encoder->bound); });
}

// --- cases ---------------------------------------------------------------------------------------

// Memory of exactly this size, so that the sanitizer sees every access beyond it.
typedef std::unique_ptr<char[]> Memory;

static Memory read(FILE * file, size_t n_bytes) {
    Memory memory(new char[n_bytes]);
    if (fread(memory.get(), 1, n_bytes, file) != n_bytes) {
        fprintf(stderr, "the file of cases ends within one\n");
        exit(2);
    }
    return memory;
}

int main(int argc, char ** argv) {
    FILE * in  = argc > 2 ? fopen(argv[1], "rb") : nullptr;
    FILE * out = argc > 2 ? fopen(argv[2], "wb") : nullptr;
    if (in == nullptr || out == nullptr) {
        fprintf(stderr, "usage: run CASES RESULTS\n");
        return 2;
    }
    int64_t header[9];
    for (int number = 0; fread(header, sizeof(header), 1, in) == 1; number++) {
        const int64_t n_in = header[0], n_out = header[1], r = header[2], n_tokens = header[3], n_slots = header[4];
        const bool    has_base = header[7] != 0;
        const size_t  x_bytes  = header[8] * sizeof(float);  // from token to token

        std::vector<Memory> memories;
        auto tensor = [&](ggml_type type, int64_t ne0, int64_t ne1, size_t row_bytes = 0) {
            ggml_tensor made = matrix(type, ne0, ne1, nullptr, row_bytes);
            memories.push_back(read(in, ggml_nbytes(&made)));
            made.data = memories.back().get();
            return made;
        };
        ggml_tensor vt   = tensor((ggml_type) header[5], n_in, r);
        ggml_tensor u    = tensor((ggml_type) header[6], r, n_out);
        ggml_tensor s    = tensor(GGML_TYPE_F32, r, n_slots);
        ggml_tensor ids  = tensor(GGML_TYPE_I32, n_tokens, 1);
        ggml_tensor x    = tensor(GGML_TYPE_F32, n_in, n_tokens, x_bytes);
        ggml_tensor base = has_base ? tensor(GGML_TYPE_F32, n_out, n_tokens) : ggml_tensor();

        ggml_tensor node = matrix(GGML_TYPE_F32, n_out, n_tokens, nullptr);
        node.op                = GGML_OP_SVF_MUL_MAT;
        node.src[SVF_SRC_X]    = &x;
        node.src[SVF_SRC_VT]   = &vt;
        node.src[SVF_SRC_U]    = &u;
        node.src[SVF_SRC_S]    = &s;
        node.src[SVF_SRC_IDS]  = &ids;
        node.src[SVF_SRC_BASE] = has_base ? &base : nullptr;
        if (!svf_mul_mat_metal_supports(&node)) {
            fprintf(stderr, "case %d is not supported\n", number);
            return 2;
        }

        const size_t n_bytes = ggml_nbytes(&node), n_all = n_bytes + svf_mul_mat_metal_extra(&node);
        std::vector<char> first;
        for (Schedule schedule : { Schedule { Order::Forward, 0 }, { Order::Backward, 0 }, { Order::Shuffled, 1 },
                 { Order::Shuffled, 2 } }) {
            Memory y(new char[n_all]);
            memset(y.get(), 0xff, n_all);
            auto at = [](const ggml_tensor & t) { return ggml_metal_buffer_id { t.data, 0 }; };
            const svf_metal_buffers buffers = { at(x), at(vt), at(u), at(s), at(ids), at(base), { y.get(), 0 } };
            ggml_metal_encoder encoder;
            encoder.schedule = schedule;
            svf_mul_mat_metal_scaled(nullptr, &encoder, &node, &buffers);
            svf_mul_mat_metal_result(nullptr, &encoder, &node, &buffers);
            if (first.empty()) {
                first.assign(y.get(), y.get() + n_bytes);
            } else if (memcmp(first.data(), y.get(), n_bytes) != 0) {
                fprintf(stderr, "case %d: the result depends on the order of threads\n", number);
                return 4;
            }
        }
        fwrite(first.data(), 1, first.size(), out);
    }
    return fclose(out) == 0 ? 0 : 2;
}
