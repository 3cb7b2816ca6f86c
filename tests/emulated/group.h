// One group of GPU threads on the CPU: a fiber per thread, switched only where a kernel waits.
//
// What it catches: barriers and lane exchanges that not all threads reach (the program ends with code 3 and says
// which threads wait where), shared memory read before it is written (filled with NaN), and, with AddressSanitizer
// and UndefinedBehaviorSanitizer, accesses out of bounds or misaligned. A missing barrier shows as a result that
// depends on the order in which threads run: run a kernel in every `Schedule` and compare the bits.
//
// What it does not: real races between single instructions, memory order, the vendor's compiler, fast math.
#pragma once

// ucontext on macOS.
#ifndef _XOPEN_SOURCE
#define _XOPEN_SOURCE 700
#endif

#include <sys/mman.h>
#include <ucontext.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <map>
#include <memory>
#include <vector>

namespace emulated {

constexpr unsigned LANES = 32;  // of a SIMD group (Metal) or warp (CUDA)

struct Index {
    unsigned x = 0, y = 0, z = 0;
};

struct Size {
    unsigned x = 1, y = 1, z = 1;
    unsigned count() const { return x * y * z; }
};

// The order of threads, SIMD groups and groups wherever a GPU is free to choose.
enum class Order { Forward, Backward, Shuffled };

struct Schedule {
    Order    order = Order::Forward;
    uint64_t seed  = 0;
};

struct Thread {
    Index    index;   // in the group
    unsigned linear;  // the same as one number, x fastest
    unsigned lane;    // in the SIMD group
    unsigned simd;    // SIMD group in the group
};

namespace detail {

// --- where a fiber goes on -----------------------------------------------------------------------

#if defined(__x86_64__) && defined(__linux__)

// swapcontext asks the kernel for the signal mask, which takes longer than all the rest of a switch.
typedef void * Context; // its stack pointer

extern "C" void emulated_switch(Context * from, Context to);

asm(R"(
    .text
    .type emulated_switch, @function
emulated_switch:
    push %rbp
    push %rbx
    push %r12
    push %r13
    push %r14
    push %r15
    mov %rsp, (%rdi)
    mov %rsi, %rsp
    pop %r15
    pop %r14
    pop %r13
    pop %r12
    pop %rbx
    pop %rbp
    ret
)");

inline void switch_context(Context & from, Context & to) { emulated_switch(&from, to); }

inline void start_context(Context & context, void * stack, size_t size, void (*function)()) {
    void ** top = reinterpret_cast<void **>((char *) stack + size) - 2;
    top[0] = reinterpret_cast<void *>(function);  // where `ret` goes, below six registers
    context = top - 6;
}

#else

typedef ucontext_t Context;

inline void switch_context(Context & from, Context & to) { swapcontext(&from, &to); }

inline void start_context(Context & context, void * stack, size_t size, void (*function)()) {
    getcontext(&context);
    context.uc_stack.ss_sp   = stack;
    context.uc_stack.ss_size = size;
    context.uc_link          = nullptr;
    makecontext(&context, function, 0);
}

#endif

// --- fibers and groups ---------------------------------------------------------------------------

enum class State { Runnable, WaitsForSimd, WaitsForGroup, Ended };

struct Fiber {
    Context    context;
    Thread     thread;
    State      state;
    int        line;      // where it waits
    unsigned   exchanged; // exchanges so far: even and odd ones use separate memory
};

constexpr size_t STACK_BYTES = 256 * 1024;
constexpr size_t LANE_BYTES  = 16;  // the largest value that lanes exchange

struct Group {
    Size  groups, threads;
    Index index;
    std::vector<Fiber> fibers;
    std::vector<unsigned char> lanes;         // [SIMD group][even, odd][lane][LANE_BYTES]
    std::map<int, std::unique_ptr<unsigned char[]>> shared;
    std::unique_ptr<unsigned char[]> dynamic_shared;
    const std::function<void()> * kernel = nullptr;
    Fiber * current = nullptr;
    Context scheduler;
    Schedule schedule;
    uint64_t random = 0;

    unsigned draw(unsigned n) {
        random = random * 6364136223846793005u + 1442695040888963407u;
        return (unsigned) ((random >> 33) % n);
    }

    // 0 … n − 1 in the schedule's order.
    std::vector<unsigned> ordered(unsigned n) {
        std::vector<unsigned> order(n);
        for (unsigned i = 0; i < n; i++) {
            order[i] = schedule.order == Order::Backward ? n - 1 - i : i;
        }
        if (schedule.order == Order::Shuffled) {
            for (unsigned i = n; i > 1; i--) {
                std::swap(order[i - 1], order[draw(i)]);
            }
        }
        return order;
    }
};

inline Group & group() {
    static Group group;
    return group;
}

inline void * stack(unsigned i) {
    static std::vector<void *> stacks;
    while (stacks.size() <= i) {
        void * memory = mmap(nullptr, STACK_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANON, -1, 0);
        if (memory == MAP_FAILED) {
            perror("emulated: no memory for a stack");
            exit(2);
        }
        stacks.push_back(memory);
    }
    return stacks[i];
}

inline void wait(State state, int line) {
    Fiber * fiber = group().current;
    fiber->state  = state;
    fiber->line   = line;
    switch_context(fiber->context, group().scheduler);
}

inline void fiber_main() {
    (*group().kernel)();
    wait(State::Ended, 0);
}

[[noreturn]] inline void fail_of_divergence() {
    Group & g = group();
    fprintf(stderr, "emulated: divergence in group (%u, %u, %u) of threads that wait for each other:\n",
        g.index.x, g.index.y, g.index.z);
    State state = State::Runnable;
    int   line  = -1;
    for (const Fiber & fiber : g.fibers) {
        if (fiber.state == state && fiber.line == line) {
            continue;
        }
        state = fiber.state;
        line  = fiber.line;
        const char * what = state == State::Ended ? "has ended"
            : state == State::WaitsForGroup       ? "waits for the group in line"
                                                  : "waits for its SIMD group in line";
        fprintf(stderr, "  from thread %u on: %s", fiber.thread.linear, what);
        state == State::Ended ? fprintf(stderr, "\n") : fprintf(stderr, " %d\n", line);
    }
    fflush(stderr);
    _Exit(3);
}

// All of `fibers` wait in the same way in the same place.
inline bool together(const Fiber * fibers, size_t n, State state) {
    for (size_t i = 0; i < n; i++) {
        if (fibers[i].state != state || fibers[i].line != fibers[0].line) {
            return false;
        }
    }
    return true;
}

inline void release(Fiber * fibers, size_t n) {
    for (size_t i = 0; i < n; i++) {
        fibers[i].state = State::Runnable;
    }
}

// Runs the threads of one SIMD group until each waits or has ended.
inline void run_simd(Fiber * fibers, unsigned n) {
    Group & g = group();
    for (unsigned i : g.ordered(n)) {
        if (fibers[i].state == State::Runnable) {
            g.current = &fibers[i];
            switch_context(g.scheduler, fibers[i].context);
        }
    }
    if (together(fibers, n, State::WaitsForSimd)) {
        release(fibers, n);
    }
}

inline bool runnable(const Fiber * fibers, size_t n) {
    for (size_t i = 0; i < n; i++) {
        if (fibers[i].state == State::Runnable) {
            return true;
        }
    }
    return false;
}

inline void run_group(size_t dynamic_shared_bytes) {
    Group & g = group();
    const unsigned n     = g.threads.count();
    const unsigned simds = (n + LANES - 1) / LANES;
    g.shared.clear();
    g.dynamic_shared.reset(new unsigned char[dynamic_shared_bytes]);
    memset(g.dynamic_shared.get(), 0xff, dynamic_shared_bytes);
    g.lanes.assign(simds * 2 * LANES * LANE_BYTES, 0);
    g.fibers.resize(n);
    for (unsigned i = 0; i < n; i++) {
        Fiber & fiber = g.fibers[i];
        fiber.thread = { { i % g.threads.x, i / g.threads.x % g.threads.y, i / g.threads.x / g.threads.y },
            i, i % LANES, i / LANES };
        fiber.state     = State::Runnable;
        fiber.exchanged = 0;
        start_context(fiber.context, stack(i), STACK_BYTES, fiber_main);
    }
    // One SIMD group runs ahead of the others as far as it can: what a race between them needs to show.
    for (;;) {
        bool ran = false;
        for (unsigned simd : g.ordered(simds)) {
            Fiber * first  = &g.fibers[simd * LANES];
            const unsigned count = simd * LANES + LANES <= n ? LANES : n - simd * LANES;
            while (runnable(first, count)) {
                run_simd(first, count);
                ran = true;
            }
        }
        if (together(g.fibers.data(), n, State::WaitsForGroup)) {
            release(g.fibers.data(), n);
        } else if (together(g.fibers.data(), n, State::Ended)) {
            return;
        } else if (!ran) {
            fail_of_divergence();
        }
    }
}

}  // namespace detail

// --- for the shims, from inside a kernel ---------------------------------------------------------

inline const Thread & thread() { return detail::group().current->thread; }
inline Index group_index() { return detail::group().index; }
inline Size group_threads() { return detail::group().threads; }
inline Size grid_groups() { return detail::group().groups; }

// Waits until all threads of the group are here.
inline void group_barrier(int line = __builtin_LINE()) { detail::wait(detail::State::WaitsForGroup, line); }

// Waits until all lanes of the SIMD group are here.
inline void simd_barrier(int line = __builtin_LINE()) { detail::wait(detail::State::WaitsForSimd, line); }

// What all lanes of the SIMD group bring along, by lane, until the one after the next such exchange. Every lane
// takes part.
template <class T> const T * gather(T value, int line = __builtin_LINE()) {
    static_assert(sizeof(T) <= detail::LANE_BYTES, "too large a value for lanes to exchange");
    detail::Fiber * fiber = detail::group().current;
    T * lanes = reinterpret_cast<T *>(detail::group().lanes.data()
        + (fiber->thread.simd * 2 + fiber->exchanged++ % 2) * LANES * detail::LANE_BYTES);
    lanes[fiber->thread.lane] = value;
    simd_barrier(line);
    return lanes;
}

// Lanes of this thread's SIMD group: fewer in the last one, where threads do not fill it.
inline unsigned n_lanes() {
    const unsigned first = thread().simd * LANES, n = group_threads().count();
    return first + LANES <= n ? LANES : n - first;
}

// What lane `from` brought along; a lane that does not exist gives its own value back.
template <class T> T exchange(T value, unsigned from, int line = __builtin_LINE()) {
    const T * lanes = gather(value, line);
    return from < n_lanes() ? lanes[from] : value;
}

template <class T> T exchange_xor(T value, unsigned mask, int line = __builtin_LINE()) {
    return exchange(value, thread().lane ^ mask, line);
}

template <class T> T exchange_down(T value, unsigned delta, int line = __builtin_LINE()) {
    return exchange(value, thread().lane + delta, line);
}

// Memory that the group shares, one per line of the kernel that declares some: T is an array type.
template <class T> T & shared(int line = __builtin_LINE()) {
    auto & memory = detail::group().shared[line];
    if (!memory) {
        memory.reset(new unsigned char[sizeof(T)]);
        memset(memory.get(), 0xff, sizeof(T));
    }
    return *reinterpret_cast<T *>(memory.get());
}

// The group's memory whose size the launch gives.
inline void * dynamic_shared() { return detail::group().dynamic_shared.get(); }

// --- for the tests -------------------------------------------------------------------------------

// Runs `kernel` for every thread of every group, one group after the other.
inline void launch(Size groups, Size threads, size_t dynamic_shared_bytes, Schedule schedule,
    const std::function<void()> & kernel) {
    detail::Group & g = detail::group();
    g.groups   = groups;
    g.threads  = threads;
    g.schedule = schedule;
    g.random   = schedule.seed;
    g.kernel   = &kernel;
    for (unsigned i : g.ordered(groups.count())) {
        g.index = { i % groups.x, i / groups.x % groups.y, i / groups.x / groups.y };
        detail::run_group(dynamic_shared_bytes);
    }
    g.shared.clear();
    g.dynamic_shared.reset();
}

}  // namespace emulated
