// kernels/cuda/ against the op's definition in float64, in several orders of threads, over shapes, types, strides
// and places of the result. Exit codes: 0 right, 4 the result depends on the order, 5 it is wrong.
#include "cuda_shim.h"

// Shapes from which the kernels take several rows at a time, see geometry_of.
static int64_t full_gpu = 1 << 16;

#include "cuda/few_tokens.cuh"
#include "cuda/many_tokens.cuh"

#include <cmath>
#include <random>

using namespace svf;

static std::mt19937 generator;

static float draw(float scale) { return std::uniform_real_distribution<float>(-scale, scale)(generator); }
static int draw_int(int n) { return std::uniform_int_distribution<int>(0, n - 1)(generator); }

// Exactly as many bytes as asked for, so that the sanitizer sees every access beyond; filled with NaN.
struct Memory {
    std::unique_ptr<char[]> bytes;
    explicit Memory(size_t n) : bytes(new char[n]) { memset(bytes.get(), 0xff, n); }
    char * at(size_t offset = 0) const { return bytes.get() + offset; }
};

// How the rows of a factor are stored, written down here once more: bytes of n elements, and one row of them from
// random numbers, together with what they mean.
struct f32_writer {
    using reader = f32_factor;
    static constexpr const char * name = "f32";
    static constexpr bool quantized = false;
    static size_t bytes(int n) { return 4 * n; }
    static void write(char * row, int n, double * meaning) {
        for (int k = 0; k < n; k++) {
            const float value = draw(1);
            memcpy(row + 4*k, &value, 4);
            meaning[k] = value;
        }
    }
};

struct f16_writer {
    using reader = f16_factor;
    static constexpr const char * name = "f16";
    static constexpr bool quantized = false;
    static size_t bytes(int n) { return 2 * n; }
    static void write(char * row, int n, double * meaning) {
        for (int k = 0; k < n; k++) {
            const _Float16 value = (_Float16) draw(1);
            memcpy(row + 2*k, &value, 2);
            meaning[k] = (double) value;
        }
    }
};

struct bf16_writer {
    using reader = bf16_factor;
    static constexpr const char * name = "bf16";
    static constexpr bool quantized = false;
    static size_t bytes(int n) { return 2 * n; }
    static void write(char * row, int n, double * meaning) {
        for (int k = 0; k < n; k++) {
            const int mantissa = 128 + draw_int(128), sign = draw_int(2), exponent = 120 + draw_int(7);
            const uint16_t raw = (uint16_t) (sign << 15 | exponent << 7 | (mantissa & 127));
            memcpy(row + 2*k, &raw, 2);
            meaning[k] = (sign ? -1 : 1) * mantissa / 128.0 * std::pow(2.0, exponent - 127);
        }
    }
};

struct q8_0_writer {
    using reader = q8_0_factor;
    static constexpr const char * name = "q8_0";
    static constexpr bool quantized = true;
    static size_t bytes(int n) { return n / 32 * 34; }
    static void write(char * row, int n, double * meaning) {
        for (int block = 0; block < n / 32; block++) {
            const _Float16 scale = (_Float16) (0.001f + std::abs(draw(0.01f)));
            memcpy(row + 34*block, &scale, 2);
            for (int k = 0; k < 32; k++) {
                const int value = draw_int(256) - 128;
                row[34*block + 2 + k] = (char) value;
                meaning[32*block + k] = (double) scale * value;
            }
        }
    }
};

template <class Writer> struct Factor {
    int n_rows, n;
    size_t stride;
    Memory memory;
    std::vector<double> meaning;

    Factor(int n_rows, int n, int padding) : n_rows(n_rows), n(n), stride(Writer::bytes(n) + padding),
        memory(stride * (n_rows - 1) + Writer::bytes(n)), meaning((size_t) n_rows * n) {
        for (int row = 0; row < n_rows; row++) {
            Writer::write(memory.at(row * stride), n, &meaning[(size_t) row * n]);
        }
    }

    factor_rows rows() const {
        return { memory.at(), (int64_t) stride, n_rows, n, Writer::quantized || stride % 16 == 0 };
    }
};

enum class Place { Own, OfBase, OfX };

struct Case {
    int n_in, r, n_out, n_tokens;
    bool base;
    Place place = Place::Own;
    int x_offset = 0, padding = 0; // bytes: before x, and after each row of x, base and the factors
};

// Rows of floats with padding between, after an offset.
struct Columns {
    int n, n_columns;
    size_t offset, stride;
    Memory memory;
    Columns(int n, int n_columns, int offset, int padding) : n(n), n_columns(n_columns), offset(offset),
        stride(4 * n + padding), memory(offset + stride * (n_columns - 1) + 4 * n) {}
    float * of(int i) const { return (float *) memory.at(offset + i * stride); }
};

constexpr int N_SLOTS = 4; // slot 0 is all zero

[[noreturn]] static void fail(int code, const char * type, const Case & c, int token, int row, double found, double expected) {
    fprintf(stderr, "%s n_in %d r %d n_out %d T %d base %d place %d offset %d padding %d: token %d row %d: %.9g, expected %.9g\n",
        type, c.n_in, c.r, c.n_out, c.n_tokens, c.base, (int) c.place, c.x_offset, c.padding, token, row, found, expected);
    exit(code);
}

template <class Vt, class U> static void run(const Case & c, bool with_many) {
    const Factor<Vt> vt(c.r, c.n_in, c.padding);
    const Factor<U>  u(c.n_out, c.r, c.padding);
    const Columns x(c.n_in, c.n_tokens, c.x_offset, c.padding), base(c.n_out, c.n_tokens, 0, c.padding);
    std::vector<float> s(N_SLOTS * c.r);
    std::vector<int32_t> ids(c.n_tokens);
    for (int k = 0; k < N_SLOTS * c.r; k++) {
        // A negative zero is zero, and the smallest number is not.
        s[k] = k < c.r ? (k % 2 ? -0.0f : 0.0f) : draw_int(4) == 0 ? 0.0f : draw(2);
    }
    std::fill(&s[3 * c.r], &s[3 * c.r] + c.r, 0.0f);
    s[4 * c.r - 1] = 1e-45f;
    for (int token = 0; token < c.n_tokens; token++) {
        ids[token] = draw_int(N_SLOTS);
        for (int k = 0; k < c.n_in; k++) {
            x.of(token)[k] = ids[token] == 0 ? 3e38f : draw(1); // overflows, which must not show
        }
        for (int row = 0; row < c.n_out; row++) {
            base.of(token)[row] = row == 0 ? -0.0f : row == 1 ? 1e-45f : draw(1);
        }
    }

    // The definition, and the sum of magnitudes that rounding errors scale with.
    std::vector<double> expected((size_t) c.n_out * c.n_tokens), magnitude(expected.size());
    std::vector<float>  vt_x((size_t) c.r * c.n_tokens), u_t(expected.size()); // for many tokens: ggml's products
    for (int token = 0; token < c.n_tokens; token++) {
        std::vector<double> t(c.r), t_magnitude(c.r);
        for (int k = 0; k < c.r; k++) {
            double sum = 0, sum_magnitude = 0;
            for (int i = 0; i < c.n_in; i++) {
                sum += vt.meaning[(size_t) k * c.n_in + i] * x.of(token)[i];
                sum_magnitude += std::abs(vt.meaning[(size_t) k * c.n_in + i] * x.of(token)[i]);
            }
            vt_x[(size_t) token * c.r + k] = (float) sum;
            const double scale = s[ids[token] * c.r + k];
            t[k] = scale * sum;
            t_magnitude[k] = std::abs(scale) * sum_magnitude;
        }
        for (int row = 0; row < c.n_out; row++) {
            double sum = 0, sum_magnitude = 0;
            for (int k = 0; k < c.r; k++) {
                sum += u.meaning[(size_t) row * c.r + k] * t[k];
                sum_magnitude += std::abs(u.meaning[(size_t) row * c.r + k]) * t_magnitude[k];
            }
            const size_t i = (size_t) token * c.n_out + row;
            const double start = c.base ? base.of(token)[row] : 0.0;
            u_t[i]       = (float) sum;
            expected[i]  = start + sum;
            magnitude[i] = std::abs(start) + sum_magnitude;
        }
    }

    std::vector<float> first;
    for (const emulated::Schedule schedule : { emulated::Schedule { emulated::Order::Forward },
             { emulated::Order::Backward }, { emulated::Order::Shuffled, 1 } }) {
        for (int many = 0; many <= with_many; many++) {
            const Columns own(c.n_out, c.n_tokens, 0, 0), kept_x(c.n_in, c.n_tokens, 0, 0);
            const Columns base_now(c.n_out, c.n_tokens, 0, c.padding);
            for (int token = 0; token < c.n_tokens; token++) {
                memcpy(kept_x.of(token), x.of(token), 4 * c.n_in);
                memcpy(base_now.of(token), base.of(token), 4 * c.n_out);
            }
            const Columns & x_now = c.place == Place::OfX ? kept_x : x;
            float * y = (c.place == Place::OfX ? kept_x : c.place == Place::OfBase ? base_now : own).of(0);
            const char * base_data = c.base ? base_now.memory.at() : nullptr;
            const token_scales scales = { s.data(), ids.data(), c.r };

            if (many) {
                const Memory active(4 * c.n_tokens);
                const Columns t(c.r, c.n_tokens, 0, 0);
                memcpy(t.of(0), vt_x.data(), 4 * vt_x.size());
                scale_many_tokens(scales, c.n_tokens, t.of(0), (uint32_t *) active.at(), schedule);
                for (int token = 0; token < c.n_tokens; token++) {
                    for (int k = 0; k < c.r; k++) {
                        const float factor = s[ids[token] * c.r + k];
                        const float value = factor == 0 ? 0.0f : factor * vt_x[(size_t) token * c.r + k];
                        if (memcmp(&t.of(token)[k], &value, 4) != 0) {
                            fail(5, "scaled", c, token, k, t.of(token)[k], value);
                        }
                    }
                }
                add_many_tokens(u_t.data(), (uint32_t *) active.at(), base_data, base_now.stride, y, c.n_out, c.n_tokens, schedule);
            } else {
                const Memory t(4 * few_tokens::t_stride(c.r) * c.n_tokens), active(4 * few_tokens::n_words(c.n_tokens));
                const bool aligned = x_now.offset % 16 == 0 && x_now.stride % 16 == 0;
                const few_tokens p = { vt.rows(), u.rows(), { (char *) x_now.of(0), (int64_t) x_now.stride, c.n_tokens, aligned },
                    scales, base_data, (int64_t) base_now.stride, y, (float *) t.at(), (uint32_t *) active.at() };
                project_few_tokens<typename Vt::reader>(p, schedule);
                expand_few_tokens<typename U::reader>(p, schedule);
            }

            if (!many && first.empty()) {
                first.assign(y, y + expected.size());
            } else if (!many && memcmp(first.data(), y, 4 * first.size()) != 0) {
                fprintf(stderr, "%s: another order of threads, another result\n", Vt::name);
                exit(4);
            }
            for (int token = 0; token < c.n_tokens; token++) {
                for (int row = 0; row < c.n_out; row++) {
                    const size_t i = (size_t) token * c.n_out + row;
                    const float start = c.base ? base.of(token)[row] : 0.0f;
                    if (ids[token] == 0) {
                        if (memcmp(&y[i], &start, 4) != 0) {
                            fail(5, "base", c, token, row, y[i], start);
                        }
                        continue;
                    }
                    // Errors of a sum of n products: (n + 2)·eps per unit of magnitude, for two products in turn
                    // (Higham, Accuracy and Stability, section 3.1); numbers below 1e-38 may be taken for zero.
                    const double tolerance = (c.n_in + c.r + 6) * std::pow(2.0, -24) * magnitude[i] + 1e-38;
                    if (!(std::abs(y[i] - expected[i]) <= tolerance)) {
                        fail(5, Vt::name, c, token, row, y[i], expected[i]);
                    }
                }
            }
        }
    }
}

// Shapes for a type whose rows hold any number of elements (step 1) or whole blocks of 32.
template <class Vt, class U> static int run_all(int step) {
    const auto up = [&](int n) { return (n + step - 1) / step * step; };
    int n_cases = 0;
    const auto both = [&](const Case & c) {
        for (int64_t threshold : { (int64_t) 1 << 16, (int64_t) 1 }) { // one row at a time, several rows
            full_gpu = threshold;
            // The kernels for many tokens know neither types nor thresholds, and do not read x.
            run<Vt, U>(c, threshold == 1 && !Vt::quantized && c.place != Place::OfX);
            n_cases++;
        }
    };
    both({ up(41), up(5), 19, 1, true });
    both({ up(70), up(33), 9, 2, false });
    both({ up(41), up(5), 19, 3, true });
    both({ up(41), up(33), 9, 13, true });
    both({ up(600), up(3), 5, 3, true });                        // more than 32 lanes
    both({ up(2100), up(2), 3, 1, false });                      // the most lanes
    both({ up(16), up(600), 3, 6, true });                       // the same for U
    both({ up(24), up(33), 9, 3, true, Place::OfBase });
    both({ 32, up(9), 32, 5, true, Place::OfX });
    both({ 32, up(9), 32, 1, false, Place::OfX });
    both({ up(24), up(24), 5, 6, true, Place::Own, 0, 16 });     // rows apart
    both({ up(24), up(24), 5, 3, true, Place::Own, 4, 4 });      // rows anywhere
    return n_cases;
}

int main() {
    const unsigned seed = 20250113;
    generator.seed(seed);
    int n_cases = 0;
#ifdef F16_ONLY
    n_cases += run_all<f16_writer, f16_writer>(1);
#else
    n_cases += run_all<f32_writer, bf16_writer>(1);
    n_cases += run_all<bf16_writer, q8_0_writer>(32);
    n_cases += run_all<q8_0_writer, f32_writer>(32);
#endif
    printf("seed %u: %d cases\n", seed, n_cases);
    return 0;
}
