// A vector x as 16-bit integers with one scale, x ≈ scale·q, |q| ≤ 32767: what one token is multiplied with
// where factors are 8-bit integers.
//
// Products of integers need half the instructions of widening every factor to floats, and at one token
// instructions, not memory, would set the pace. The rounding is at most 2⁻¹⁶ of the largest element, 2⁻⁷ of
// the rounding of the factors themselves.
#pragma once

#include "cpu/simd.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>

namespace svf {

struct column {
    const int16_t * values;
    float           scale;
};

// Rounds x[0…n) into `memory`. A column with a NaN or an infinity has the scale NaN, and so has every product.
inline column round_column(const float * x, int64_t n, int16_t * memory) {
    constexpr float LARGEST = 32767.0f;
    // Below this, 1 ÷ scale leaves the range of floats; such a column counts as zero.
    constexpr float SMALLEST = 1e-30f;

    vf largest = vf_zero(), poison = vf_zero();
    int64_t i = 0;
    for (; i + VF_WIDTH <= n; i += VF_WIDTH) {
        const vf part = vf_load(x + i);
        largest = vf_max(largest, vf_abs(part));
        poison  = vf_fma(part, vf_zero(), poison);
    }
    float lanes[VF_WIDTH];
    vf_store(lanes, largest);
    float most = *std::max_element(lanes, lanes + VF_WIDTH), poisoned = vf_sum(poison);
    for (; i < n; i++) {
        most      = std::max(most, std::fabs(x[i]));
        poisoned += x[i] * 0.0f;
    }
    if (std::isnan(poisoned) || most < SMALLEST) {
        std::fill_n(memory, n, (int16_t) 0);
        return { memory, std::isnan(poisoned) ? std::numeric_limits<float>::quiet_NaN() : 0.0f };
    }
    const float inverse = LARGEST / most;
    for (i = 0; i + VF_WIDTH <= n; i += VF_WIDTH) {
        vf_store_i16(memory + i, vf_mul(vf_load(x + i), vf_set(inverse)));
    }
    for (; i < n; i++) {
        memory[i] = (int16_t) std::lrint(x[i] * inverse);
    }
    return { memory, most / LARGEST };
}

} // namespace svf
