// The vector of floats the CPU kernel is written in: AVX-512, AVX2, NEON, or plain C++.
//
// `vf` holds VF_WIDTH floats; the loads widen F16 and 8-bit integers; vf_sum4 writes the sums of four
// vectors side by side; vf_dot_i8_i16 holds the products of 32 pairs of integers, summed up into its lanes
// (the sums stay exact: |x| ≤ 32767, so each is below 2²⁵ and is rounded once, when it becomes a float). One name per operation, so that the kernel reads the same on every machine.
#pragma once

#include "ggml.h"
#include "simd-mappings.h"

#include <cmath>
#include <cstdint>

#if defined(__AVX512F__)

#include <immintrin.h>

typedef __m512 vf;
#define VF_WIDTH 16
#define VF_REGISTERS 32

static inline vf vf_zero() { return _mm512_setzero_ps(); }
static inline vf vf_set(float a) { return _mm512_set1_ps(a); }
static inline vf vf_load(const float * p) { return _mm512_loadu_ps(p); }
static inline vf vf_load_f16(const ggml_fp16_t * p) { return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *) p)); }
static inline vf vf_set_f16(ggml_fp16_t a) { return _mm512_cvtph_ps(_mm256_set1_epi16((short) a)); }
static inline vf vf_load_i8(const int8_t * p) {
    return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i *) p)));
}
static inline void vf_store(float * p, vf a) { _mm512_storeu_ps(p, a); }
static inline vf vf_add(vf a, vf b) { return _mm512_add_ps(a, b); }
static inline vf vf_mul(vf a, vf b) { return _mm512_mul_ps(a, b); }
static inline vf vf_fma(vf a, vf b, vf c) { return _mm512_fmadd_ps(a, b, c); }
static inline vf vf_abs(vf a) { return _mm512_abs_ps(a); }
static inline vf vf_max(vf a, vf b) { return _mm512_max_ps(a, b); }
static inline void vf_store_i16(int16_t * p, vf a) {
    _mm256_storeu_si256((__m256i *) p, _mm512_cvtsepi32_epi16(_mm512_cvtps_epi32(a)));
}
static inline vf vf_dot_i8_i16(const int8_t * w, const int16_t * x) {
    const __m512i wide = _mm512_cvtepi8_epi16(_mm256_loadu_si256((const __m256i *) w));
    return _mm512_cvtepi32_ps(_mm512_madd_epi16(wide, _mm512_loadu_si512(x)));
}
static inline float vf_sum(vf a) { return _mm512_reduce_add_ps(a); }
static inline void vf_sum4(vf a, vf b, vf c, vf d, float * out) {
    const __m512 ab  = _mm512_add_ps(_mm512_unpacklo_ps(a, b), _mm512_unpackhi_ps(a, b));
    const __m512 cd  = _mm512_add_ps(_mm512_unpacklo_ps(c, d), _mm512_unpackhi_ps(c, d));
    const __m512 all = _mm512_add_ps(
        _mm512_castpd_ps(_mm512_unpacklo_pd(_mm512_castps_pd(ab), _mm512_castps_pd(cd))),
        _mm512_castpd_ps(_mm512_unpackhi_pd(_mm512_castps_pd(ab), _mm512_castps_pd(cd))));
    const __m256 half = _mm256_add_ps(_mm512_castps512_ps256(all),
        _mm256_castpd_ps(_mm512_extractf64x4_pd(_mm512_castps_pd(all), 1)));
    _mm_storeu_ps(out, _mm_add_ps(_mm256_castps256_ps128(half), _mm256_extractf128_ps(half, 1)));
}

#elif defined(__AVX2__) && defined(__FMA__) && defined(__F16C__)

#include <immintrin.h>

typedef __m256 vf;
#define VF_WIDTH 8
#define VF_REGISTERS 16

static inline vf vf_zero() { return _mm256_setzero_ps(); }
static inline vf vf_set(float a) { return _mm256_set1_ps(a); }
static inline vf vf_load(const float * p) { return _mm256_loadu_ps(p); }
static inline vf vf_load_f16(const ggml_fp16_t * p) { return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *) p)); }
static inline vf vf_set_f16(ggml_fp16_t a) { return _mm256_cvtph_ps(_mm_set1_epi16((short) a)); }
static inline vf vf_load_i8(const int8_t * p) {
    return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i *) p)));
}
static inline void vf_store(float * p, vf a) { _mm256_storeu_ps(p, a); }
static inline vf vf_add(vf a, vf b) { return _mm256_add_ps(a, b); }
static inline vf vf_mul(vf a, vf b) { return _mm256_mul_ps(a, b); }
static inline vf vf_fma(vf a, vf b, vf c) { return _mm256_fmadd_ps(a, b, c); }
static inline vf vf_abs(vf a) { return _mm256_andnot_ps(_mm256_set1_ps(-0.0f), a); }
static inline vf vf_max(vf a, vf b) { return _mm256_max_ps(a, b); }
static inline void vf_store_i16(int16_t * p, vf a) {
    const __m256i wide = _mm256_cvtps_epi32(a);
    _mm_storeu_si128((__m128i *) p, _mm_packs_epi32(_mm256_castsi256_si128(wide), _mm256_extracti128_si256(wide, 1)));
}
static inline vf vf_dot_i8_i16(const int8_t * w, const int16_t * x) {
    __m256i sum = _mm256_setzero_si256();
    for (int i = 0; i < 32; i += 16) {
        const __m256i wide = _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *) (w + i)));
        sum = _mm256_add_epi32(sum, _mm256_madd_epi16(wide, _mm256_loadu_si256((const __m256i *) (x + i))));
    }
    return _mm256_cvtepi32_ps(sum);
}
static inline float vf_sum(vf a) {
    __m128 half = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
    half = _mm_add_ps(half, _mm_movehl_ps(half, half));
    return _mm_cvtss_f32(_mm_add_ss(half, _mm_movehdup_ps(half)));
}
static inline void vf_sum4(vf a, vf b, vf c, vf d, float * out) {
    const __m256 all = _mm256_hadd_ps(_mm256_hadd_ps(a, b), _mm256_hadd_ps(c, d));
    _mm_storeu_ps(out, _mm_add_ps(_mm256_castps256_ps128(all), _mm256_extractf128_ps(all, 1)));
}

#elif defined(__ARM_NEON) && defined(__aarch64__)

#include <arm_neon.h>

typedef float32x4_t vf;
#define VF_WIDTH 4
#define VF_REGISTERS 32

static inline vf vf_zero() { return vdupq_n_f32(0.0f); }
static inline vf vf_set(float a) { return vdupq_n_f32(a); }
static inline vf vf_load(const float * p) { return vld1q_f32(p); }
static inline vf vf_load_f16(const ggml_fp16_t * p) { return vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16((const uint16_t *) p))); }
static inline vf vf_set_f16(ggml_fp16_t a) { return vcvt_f32_f16(vreinterpret_f16_u16(vdup_n_u16(a))); }
static inline vf vf_load_i8(const int8_t * p) {
    // Four bytes go through a general register: a vector load of eight would read past the block.
    int32_t bytes;
    __builtin_memcpy(&bytes, p, sizeof(bytes));
    const int16x8_t wide = vmovl_s8(vreinterpret_s8_s32(vdup_n_s32(bytes)));
    return vcvtq_f32_s32(vmovl_s16(vget_low_s16(wide)));
}
static inline void vf_store(float * p, vf a) { vst1q_f32(p, a); }
static inline vf vf_add(vf a, vf b) { return vaddq_f32(a, b); }
static inline vf vf_mul(vf a, vf b) { return vmulq_f32(a, b); }
static inline vf vf_fma(vf a, vf b, vf c) { return vfmaq_f32(c, a, b); }
static inline vf vf_abs(vf a) { return vabsq_f32(a); }
static inline vf vf_max(vf a, vf b) { return vmaxq_f32(a, b); }
static inline void vf_store_i16(int16_t * p, vf a) { vst1_s16(p, vqmovn_s32(vcvtnq_s32_f32(a))); }
static inline vf vf_dot_i8_i16(const int8_t * w, const int16_t * x) {
    int32x4_t even = vdupq_n_s32(0), odd = vdupq_n_s32(0);
    for (int i = 0; i < 32; i += 8) {
        const int16x8_t wide = vmovl_s8(vld1_s8(w + i));
        const int16x8_t part = vld1q_s16(x + i);
        even = vmlal_s16(even, vget_low_s16(wide), vget_low_s16(part));
        odd  = vmlal_high_s16(odd, wide, part);
    }
    return vcvtq_f32_s32(vaddq_s32(even, odd));
}
static inline float vf_sum(vf a) { return vaddvq_f32(a); }
static inline void vf_sum4(vf a, vf b, vf c, vf d, float * out) {
    vst1q_f32(out, vpaddq_f32(vpaddq_f32(a, b), vpaddq_f32(c, d)));
}

#else

// Plain loops over eight floats, which compilers turn into whatever the target has.
#define VF_WIDTH 8
#define VF_REGISTERS 16
struct vf { float lane[VF_WIDTH]; };
#define VF_LANES(expression)              \
    vf result;                            \
    for (int i = 0; i < VF_WIDTH; i++) {  \
        result.lane[i] = (expression);    \
    }                                     \
    return result

static inline vf vf_zero() { VF_LANES(0.0f); }
static inline vf vf_set(float a) { VF_LANES(a); }
static inline vf vf_load(const float * p) { VF_LANES(p[i]); }
static inline vf vf_load_f16(const ggml_fp16_t * p) { VF_LANES(GGML_CPU_FP16_TO_FP32(p[i])); }
static inline vf vf_set_f16(ggml_fp16_t a) { return vf_set(GGML_CPU_FP16_TO_FP32(a)); }
static inline vf vf_load_i8(const int8_t * p) { VF_LANES((float) p[i]); }
static inline void vf_store(float * p, vf a) {
    for (int i = 0; i < VF_WIDTH; i++) {
        p[i] = a.lane[i];
    }
}
static inline vf vf_add(vf a, vf b) { VF_LANES(a.lane[i] + b.lane[i]); }
static inline vf vf_mul(vf a, vf b) { VF_LANES(a.lane[i] * b.lane[i]); }
static inline vf vf_fma(vf a, vf b, vf c) { VF_LANES(a.lane[i] * b.lane[i] + c.lane[i]); }
static inline vf vf_abs(vf a) { VF_LANES(std::fabs(a.lane[i])); }
static inline vf vf_max(vf a, vf b) { VF_LANES(a.lane[i] > b.lane[i] ? a.lane[i] : b.lane[i]); }
static inline void vf_store_i16(int16_t * p, vf a) {
    for (int i = 0; i < VF_WIDTH; i++) {
        p[i] = (int16_t) std::lrint(a.lane[i]);
    }
}
static inline vf vf_dot_i8_i16(const int8_t * w, const int16_t * x) {
    VF_LANES((float) (w[i] * x[i] + w[i + 8] * x[i + 8] + w[i + 16] * x[i + 16] + w[i + 24] * x[i + 24]));
}
static inline float vf_sum(vf a) {
    float sum = 0.0f;
    for (int i = 0; i < VF_WIDTH; i++) {
        sum += a.lane[i];
    }
    return sum;
}
static inline void vf_sum4(vf a, vf b, vf c, vf d, float * out) {
    out[0] = vf_sum(a);
    out[1] = vf_sum(b);
    out[2] = vf_sum(c);
    out[3] = vf_sum(d);
}
#undef VF_LANES

#endif

// Holds a loaded vector in a register: compilers would otherwise load it again for each use, and loads,
// not arithmetic, would set the pace.
static inline vf vf_keep(vf a) {
#if defined(__AVX512F__) && defined(__GNUC__)
    __asm__("" : "+v"(a));
#endif
    return a;
}

// One half-precision number. ggml's table of all of them would push the factors out of the cache.
static inline float half_to_float(ggml_fp16_t half) {
#if defined(__F16C__)
    return _cvtsh_ss(half);
#else
    return GGML_CPU_FP16_TO_FP32(half);
#endif
}
