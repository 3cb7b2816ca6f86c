// What the host hands to the kernels of svf_mul_mat.metal, and how both cut the work into threadgroups.
#ifndef SVF_MUL_MAT_ARGS_H
#define SVF_MUL_MAT_ARGS_H

#define SVF_METAL_SIMDS 4 // SIMD groups of 32 threads in a threadgroup
#define SVF_METAL_ROWS  2 // rows of Vᵀ per threadgroup
#define SVF_METAL_CHUNK 8 // elements of a row that a thread reads at once

struct svf_metal_args {
    uint64_t row_bytes;   // of the factor
    uint64_t x_stride;    // bytes from token to token
    uint64_t base_stride; // the same
    int32_t  n;           // elements of a row of the factor
    int32_t  n_rows;      // of the factor
    int32_t  n_tokens;
    int32_t  lanes;       // threads per row of U: a power of two, at most 32
    int32_t  has_base;
};

#endif
