// svf_mul_mat on Metal (contract: svf_mul_mat.h): two kernels, t = s[ids] ⊙ (Vᵀ·x) and y = base + U·t.
//
// Both read each row of a factor once for up to eight tokens; more tokens are more threadgroups. The rows of Vᵀ
// are few and long, so the SIMD groups of a threadgroup share each; those of U are many and may be short, so
// that a SIMD group takes several. Sums are F32 whatever the factors are.
//
// A token whose row of s is all zero is told by the bits of s, and its base is copied as bits: fast math may
// neither drop the sign of a zero nor change a NaN.
#include <metal_stdlib>
#include "svf_mul_mat_args.h"

using namespace metal;

// --- factors: eight elements from the i-th on, or one --------------------------------------------

struct svf_f32 {
    static inline void load(device const char * row, int i, thread float * w) {
        device const packed_float4 * p = (device const packed_float4 *) ((device const float *) row + i);
        const float4 a = p[0], b = p[1];
        w[0] = a.x; w[1] = a.y; w[2] = a.z; w[3] = a.w;
        w[4] = b.x; w[5] = b.y; w[6] = b.z; w[7] = b.w;
    }
    static inline float one(device const char * row, int i) {
        return ((device const float *) row)[i];
    }
};

struct svf_f16 {
    static inline void load(device const char * row, int i, thread float * w) {
        device const packed_half4 * p = (device const packed_half4 *) ((device const half *) row + i);
        const half4 a = p[0], b = p[1];
        w[0] = a.x; w[1] = a.y; w[2] = a.z; w[3] = a.w;
        w[4] = b.x; w[5] = b.y; w[6] = b.z; w[7] = b.w;
    }
    static inline float one(device const char * row, int i) {
        return ((device const half *) row)[i];
    }
};

// Not MSL's bfloat, which older GPUs lack.
struct svf_bf16 {
    static inline float widened(ushort bits) {
        return as_type<float>((uint) bits << 16);
    }
    static inline void load(device const char * row, int i, thread float * w) {
        device const packed_ushort4 * p = (device const packed_ushort4 *) ((device const ushort *) row + i);
        const ushort4 a = p[0], b = p[1];
        w[0] = widened(a.x); w[1] = widened(a.y); w[2] = widened(a.z); w[3] = widened(a.w);
        w[4] = widened(b.x); w[5] = widened(b.y); w[6] = widened(b.z); w[7] = widened(b.w);
    }
    static inline float one(device const char * row, int i) {
        return widened(((device const ushort *) row)[i]);
    }
};

// Blocks of a half scale and 32 integers.
struct svf_q8_0 {
    static inline device const char * block(device const char * row, int i) {
        return row + i / 32 * 34;
    }
    static inline void load(device const char * row, int i, thread float * w) {
        const float d = *(device const half *) block(row, i);
        device const packed_char4 * p = (device const packed_char4 *) (block(row, i) + 2 + i % 32);
        const char4 a = p[0], b = p[1];
        w[0] = d * a.x; w[1] = d * a.y; w[2] = d * a.z; w[3] = d * a.w;
        w[4] = d * b.x; w[5] = d * b.y; w[6] = d * b.z; w[7] = d * b.w;
    }
    static inline float one(device const char * row, int i) {
        return *(device const half *) block(row, i) * (float) block(row, i)[2 + i % 32];
    }
};

// Elements i … i + 7 of a row of n, zeros behind its end.
template <typename factor>
inline void svf_load(device const char * row, int i, int n, thread float * w) {
    if (i + SVF_METAL_CHUNK <= n) {
        factor::load(row, i, w);
        return;
    }
    for (short j = 0; j < SVF_METAL_CHUNK; j++) {
        w[j] = i + j < n ? factor::one(row, i + j) : 0.0f;
    }
}

// Adds this thread's part of row · column to sums[token]: every `step`-th chunk, from chunk `first` on. Tokens
// beyond n_tokens repeat the last one.
template <typename factor, short NT>
inline void svf_multiply(
        device const char * row, int n, int first, int step,
        device const char * columns, ulong stride, int n_tokens, thread float * sums) {
    for (int i = first * SVF_METAL_CHUNK; i < n; i += step * SVF_METAL_CHUNK) {
        float w[SVF_METAL_CHUNK];
        svf_load<factor>(row, i, n, w);
        for (short token = 0; token < NT; token++) {
            float v[SVF_METAL_CHUNK];
            svf_load<svf_f32>(columns + min((int) token, n_tokens - 1) * stride, i, n, v);
            for (short j = 0; j < SVF_METAL_CHUNK; j++) {
                sums[token] += w[j] * v[j];
            }
        }
    }
}

// --- t = s[ids] ⊙ (Vᵀ·x) -------------------------------------------------------------------------

// A number of either sign other than zero.
inline bool svf_is_nonzero(float value) {
    return (as_type<uint>(value) << 1) != 0;
}

// t [r, T], and for each token whether its row of s has anything but zeros. Threadgroups: x over the rows of
// Vᵀ, SVF_METAL_ROWS at a time, y over the tokens, NT at a time.
template <typename factor, short NT>
kernel void kernel_svf_scaled(
        constant svf_metal_args & args,
        device const char  * vt,
        device const char  * x,
        device const float * s,
        device const int   * ids,
        device float       * t,
        device uint        * active,
        uint3  group [[threadgroup_position_in_grid]],
        ushort lane  [[thread_index_in_simdgroup]],
        ushort simd  [[simdgroup_index_in_threadgroup]]) {
    threadgroup float partial[SVF_METAL_SIMDS][SVF_METAL_ROWS * NT];

    const int r           = args.n_rows;
    const int first_row   = group.x * SVF_METAL_ROWS;
    const int first_token = group.y * NT;
    const int n_rows      = min(SVF_METAL_ROWS, r - first_row);
    const int n_tokens    = min((int) NT, args.n_tokens - first_token);

    if (group.x == 0) {
        for (int token = simd; token < n_tokens; token += SVF_METAL_SIMDS) {
            device const float * scales = s + (ulong) ids[first_token + token] * r;
            uint bits = 0;
            for (int k = lane; k < r; k += 32) {
                bits |= as_type<uint>(scales[k]) << 1;
            }
            bits = simd_or(bits);
            if (lane == 0) {
                active[first_token + token] = bits != 0;
            }
        }
    }

    // Rows that no token scales are not read: the base model costs no product. All threads find the same.
    bool needed = false;
    for (int token = 0; token < n_tokens; token++) {
        device const float * scales = s + (ulong) ids[first_token + token] * r + first_row;
        for (int row = 0; row < n_rows; row++) {
            needed = needed || svf_is_nonzero(scales[row]);
        }
    }

    const int thread_index = simd * 32 + lane;
    if (needed) {
        for (int row = 0; row < SVF_METAL_ROWS; row++) {
            float sums[NT] = {};
            if (row < n_rows) {
                svf_multiply<factor, NT>(
                    vt + (ulong) (first_row + row) * args.row_bytes, args.n, thread_index, SVF_METAL_SIMDS * 32,
                    x + (ulong) first_token * args.x_stride, args.x_stride, n_tokens, sums);
            }
            for (short token = 0; token < NT; token++) {
                const float sum = simd_sum(sums[token]);
                if (lane == 0) {
                    partial[simd][row * NT + token] = sum;
                }
            }
        }
    }

    threadgroup_barrier(mem_flags::mem_threadgroup);

    if (thread_index < SVF_METAL_ROWS * NT) {
        const int row = thread_index / NT, token = thread_index % NT;
        if (row < n_rows && token < n_tokens) {
            const float scale = s[(ulong) ids[first_token + token] * r + first_row + row];
            float value = 0.0f;
            if (svf_is_nonzero(scale)) {
                for (short i = 0; i < SVF_METAL_SIMDS; i++) {
                    value += partial[i][thread_index];
                }
                value *= scale;
            }
            t[(ulong) (first_token + token) * r + first_row + row] = value;
        }
    }
}

// --- y = base + U·t ------------------------------------------------------------------------------

// Threadgroups: x over the rows of U, SVF_METAL_SIMDS · 32 / lanes at a time, y over the tokens, NT at a time.
template <typename factor, short NT>
kernel void kernel_svf_result(
        constant svf_metal_args & args,
        device const char * u,
        device const char * t,
        device const uint * active,
        device const char * base,
        device uint       * y,
        uint3  group [[threadgroup_position_in_grid]],
        ushort lane  [[thread_index_in_simdgroup]],
        ushort simd  [[simdgroup_index_in_threadgroup]]) {
    const int row         = (group.x * SVF_METAL_SIMDS + simd) * (32 / args.lanes) + lane / args.lanes;
    const int part        = lane % args.lanes;
    const int first_token = group.y * NT;
    const int n_tokens    = min((int) NT, args.n_tokens - first_token);

    bool needed = false;
    for (int token = 0; token < n_tokens; token++) {
        needed = needed || active[first_token + token] != 0;
    }

    float sums[NT] = {};
    if (needed) {
        if (row < args.n_rows) {
            svf_multiply<factor, NT>(
                u + (ulong) row * args.row_bytes, args.n, part, args.lanes,
                t + (ulong) first_token * args.x_stride, args.x_stride, n_tokens, sums);
        }
        for (ushort distance = args.lanes / 2; distance > 0; distance /= 2) {
            for (short token = 0; token < NT; token++) {
                sums[token] += simd_shuffle_xor(sums[token], distance);
            }
        }
    }

    if (row < args.n_rows) {
        for (short token = 0; token < NT; token++) {
            if (token < n_tokens && token % args.lanes == part) {
                const int  at   = first_token + token;
                const uint bits = args.has_base
                    ? ((device const uint *) (base + (ulong) at * args.base_stride))[row] : 0;
                y[(ulong) at * args.n_rows + row] = active[at] != 0
                    ? as_type<uint>(as_type<float>(bits) + sums[token]) : bits;
            }
        }
    }
}

typedef decltype(kernel_svf_scaled<svf_f32, 1>) svf_scaled_t;
typedef decltype(kernel_svf_result<svf_f32, 1>) svf_result_t;

template [[host_name("kernel_svf_scaled_f32_1")]]  kernel svf_scaled_t kernel_svf_scaled<svf_f32, 1>;
template [[host_name("kernel_svf_scaled_f32_2")]]  kernel svf_scaled_t kernel_svf_scaled<svf_f32, 2>;
template [[host_name("kernel_svf_scaled_f32_4")]]  kernel svf_scaled_t kernel_svf_scaled<svf_f32, 4>;
template [[host_name("kernel_svf_scaled_f32_8")]]  kernel svf_scaled_t kernel_svf_scaled<svf_f32, 8>;
template [[host_name("kernel_svf_scaled_f16_1")]]  kernel svf_scaled_t kernel_svf_scaled<svf_f16, 1>;
template [[host_name("kernel_svf_scaled_f16_2")]]  kernel svf_scaled_t kernel_svf_scaled<svf_f16, 2>;
template [[host_name("kernel_svf_scaled_f16_4")]]  kernel svf_scaled_t kernel_svf_scaled<svf_f16, 4>;
template [[host_name("kernel_svf_scaled_f16_8")]]  kernel svf_scaled_t kernel_svf_scaled<svf_f16, 8>;
template [[host_name("kernel_svf_scaled_bf16_1")]] kernel svf_scaled_t kernel_svf_scaled<svf_bf16, 1>;
template [[host_name("kernel_svf_scaled_bf16_2")]] kernel svf_scaled_t kernel_svf_scaled<svf_bf16, 2>;
template [[host_name("kernel_svf_scaled_bf16_4")]] kernel svf_scaled_t kernel_svf_scaled<svf_bf16, 4>;
template [[host_name("kernel_svf_scaled_bf16_8")]] kernel svf_scaled_t kernel_svf_scaled<svf_bf16, 8>;
template [[host_name("kernel_svf_scaled_q8_0_1")]] kernel svf_scaled_t kernel_svf_scaled<svf_q8_0, 1>;
template [[host_name("kernel_svf_scaled_q8_0_2")]] kernel svf_scaled_t kernel_svf_scaled<svf_q8_0, 2>;
template [[host_name("kernel_svf_scaled_q8_0_4")]] kernel svf_scaled_t kernel_svf_scaled<svf_q8_0, 4>;
template [[host_name("kernel_svf_scaled_q8_0_8")]] kernel svf_scaled_t kernel_svf_scaled<svf_q8_0, 8>;

template [[host_name("kernel_svf_result_f32_1")]]  kernel svf_result_t kernel_svf_result<svf_f32, 1>;
template [[host_name("kernel_svf_result_f32_2")]]  kernel svf_result_t kernel_svf_result<svf_f32, 2>;
template [[host_name("kernel_svf_result_f32_4")]]  kernel svf_result_t kernel_svf_result<svf_f32, 4>;
template [[host_name("kernel_svf_result_f32_8")]]  kernel svf_result_t kernel_svf_result<svf_f32, 8>;
template [[host_name("kernel_svf_result_f16_1")]]  kernel svf_result_t kernel_svf_result<svf_f16, 1>;
template [[host_name("kernel_svf_result_f16_2")]]  kernel svf_result_t kernel_svf_result<svf_f16, 2>;
template [[host_name("kernel_svf_result_f16_4")]]  kernel svf_result_t kernel_svf_result<svf_f16, 4>;
template [[host_name("kernel_svf_result_f16_8")]]  kernel svf_result_t kernel_svf_result<svf_f16, 8>;
template [[host_name("kernel_svf_result_bf16_1")]] kernel svf_result_t kernel_svf_result<svf_bf16, 1>;
template [[host_name("kernel_svf_result_bf16_2")]] kernel svf_result_t kernel_svf_result<svf_bf16, 2>;
template [[host_name("kernel_svf_result_bf16_4")]] kernel svf_result_t kernel_svf_result<svf_bf16, 4>;
template [[host_name("kernel_svf_result_bf16_8")]] kernel svf_result_t kernel_svf_result<svf_bf16, 8>;
template [[host_name("kernel_svf_result_q8_0_1")]] kernel svf_result_t kernel_svf_result<svf_q8_0, 1>;
template [[host_name("kernel_svf_result_q8_0_2")]] kernel svf_result_t kernel_svf_result<svf_q8_0, 2>;
template [[host_name("kernel_svf_result_q8_0_4")]] kernel svf_result_t kernel_svf_result<svf_q8_0, 4>;
template [[host_name("kernel_svf_result_q8_0_8")]] kernel svf_result_t kernel_svf_result<svf_q8_0, 8>;
