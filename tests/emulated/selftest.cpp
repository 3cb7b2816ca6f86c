// The harness itself: one mistake per name that it must catch, and the same program without it.
#include "group.h"

#include <cmath>

using namespace emulated;

// Each SIMD group writes its number, and all add them up after the barrier.
static std::vector<float> sums(Schedule schedule, bool barrier) {
    std::vector<float> out(2 * 100);
    launch({ 2 }, { 100 }, 0, schedule, [&] {
        auto & numbers = shared<float[4]>();
        const float lanes = exchange_xor(1.0f, 1) + 1.0f;
        if (thread().lane == 0) {
            numbers[thread().simd] = lanes * (float) (thread().simd + 1);
        }
        if (barrier) {
            group_barrier();
        }
        float sum = 0.0f;
        for (float number : numbers) {
            sum += number;
        }
        out[group_index().x * 100 + thread().linear] = sum;
    });
    return out;
}

static bool depends_on_order(bool barrier) {
    const auto forward = sums({ Order::Forward }, barrier);
    for (Schedule other : { Schedule { Order::Backward }, { Order::Shuffled, 1 }, { Order::Shuffled, 2 } }) {
        const auto result = sums(other, barrier);
        if (memcmp(result.data(), forward.data(), result.size() * sizeof(float)) != 0) {
            return true;
        }
    }
    return false;
}

int main(int argc, char ** argv) {
    const char * mistake = argc > 1 ? argv[1] : "none";
    if (strcmp(mistake, "none") == 0) {
        for (float sum : sums({ Order::Shuffled, 3 }, true)) {
            if (sum != 20.0f) {
                return 1;
            }
        }
        return depends_on_order(true) ? 1 : 0;
    }
    if (strcmp(mistake, "no barrier") == 0) {
        return depends_on_order(false) ? 4 : 0;
    }
    launch({ 1 }, { 64 }, 16, {}, [&] {
        auto & numbers = shared<float[64]>();
        if (strcmp(mistake, "divergent barrier") == 0 && thread().lane == 5) {
            group_barrier();
        }
        if (strcmp(mistake, "divergent lanes") == 0 && thread().linear < 40) {
            exchange_down(1.0f, 1);
        }
        if (strcmp(mistake, "ended") == 0 && thread().linear == 63) {
            return;
        }
        group_barrier();
        if (strcmp(mistake, "out of bounds") == 0) {
            numbers[thread().linear + 1] = 1.0f;
        }
        if (strcmp(mistake, "out of dynamic bounds") == 0) {
            ((volatile float *) dynamic_shared())[thread().linear] = 1.0f;
        }
    });
    return 0;
}
