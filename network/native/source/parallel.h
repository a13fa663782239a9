// Work that is divided among the threads of one pool: PyTorch's own, so that two pools never wait for each other.
#pragma once

#include <cstdint>

namespace native {

// Runs body(context, thread, threads) once on each thread; returns when all have finished. `threads` may turn out to be
// fewer than wanted. With one thread it is a plain call, which is safe in a forked process.
void on_threads(int wanted, void (*body)(void* context, int thread, int threads), void* context);

// Calls f(thread, threads) once on each thread.
template <class F>
void parallel(int wanted, F&& f) {
    on_threads(
        wanted,
        [](void* context, int thread, int threads) { (*static_cast<F*>(context))(thread, threads); },
        &f);
}

struct Range {
    int64_t begin, end;
};

// The share of `count` items that a thread has: consecutive ones, always the same for a number of threads.
inline Range share(int64_t count, int thread, int threads) {
    return {count * thread / threads, count * (thread + 1) / threads};
}

}  // namespace native

#define NATIVE_EXPORT extern "C" __attribute__((visibility("default")))
