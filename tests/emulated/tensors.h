// ggml's tensors without ggml: the few functions about shapes that the host's code calls, so that a program of
// kernels links with nothing else.
#pragma once

#include "ggml.h"

#include <cstdio>
#include <cstdlib>

struct emulated_type {
    ggml_type    type;
    const char * name;
    int64_t      block;  // elements
    size_t       bytes;  // of a block
};

inline const emulated_type & type_of(ggml_type type) {
    static const emulated_type types[] = {
        { GGML_TYPE_F32, "f32", 1, 4 }, { GGML_TYPE_F16, "f16", 1, 2 }, { GGML_TYPE_BF16, "bf16", 1, 2 },
        { GGML_TYPE_Q8_0, "q8_0", 32, 34 }, { GGML_TYPE_I32, "i32", 1, 4 },
    };
    for (const emulated_type & known : types) {
        if (known.type == type) {
            return known;
        }
    }
    fprintf(stderr, "no type %d\n", (int) type);
    exit(2);
}

// A matrix of ne1 rows of ne0 elements, `row_bytes` apart (0: one directly behind the other).
inline ggml_tensor matrix(ggml_type type, int64_t ne0, int64_t ne1, void * data, size_t row_bytes = 0) {
    ggml_tensor made = {};
    made.type  = type;
    made.ne[0] = ne0;
    made.ne[1] = ne1;
    made.ne[2] = made.ne[3] = 1;
    made.nb[0] = type_of(type).bytes;
    made.nb[1] = row_bytes != 0 ? row_bytes : ne0 / type_of(type).block * type_of(type).bytes;
    made.nb[2] = made.nb[3] = made.nb[1] * ne1;
    made.data  = data;
    return made;
}

extern "C" inline const char * ggml_type_name(ggml_type type) { return type_of(type).name; }

extern "C" inline int64_t ggml_nelements(const ggml_tensor * t) { return t->ne[0] * t->ne[1] * t->ne[2] * t->ne[3]; }

extern "C" inline bool ggml_is_matrix(const ggml_tensor * t) { return t->ne[2] == 1 && t->ne[3] == 1; }

extern "C" inline size_t ggml_nbytes(const ggml_tensor * t) {
    return (t->ne[1] - 1) * t->nb[1] + t->ne[0] / type_of(t->type).block * t->nb[0];
}

extern "C" inline bool ggml_is_contiguous(const ggml_tensor * t) {
    return t->nb[0] == type_of(t->type).bytes && t->nb[1] == t->ne[0] / type_of(t->type).block * t->nb[0];
}
