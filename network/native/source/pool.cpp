// The threads: those of the OpenMP library that PyTorch has loaded, whose functions Python looks up and passes in.
#include <pthread.h>

#include "parallel.h"

namespace {

using Region = void (*)(void*);
using Parallel = void (*)(Region, void*, unsigned, unsigned);
using Number = int (*)();

Parallel openmp_parallel = nullptr;
Number openmp_thread = nullptr, openmp_threads = nullptr;

struct Call {
    void (*body)(void*, int, int);
    void* context;
};

void region(void* data) {
    const Call& call = *static_cast<Call*>(data);
    call.body(call.context, openmp_thread(), openmp_threads());
}

// A forked process has one thread, but its OpenMP believes that it has those of its parent, and would wait for them.
void forget_threads() { openmp_parallel = nullptr; }

}  // namespace

NATIVE_EXPORT void native_use_openmp(void* parallel, void* thread, void* threads) {
    openmp_parallel = reinterpret_cast<Parallel>(parallel);
    openmp_thread = reinterpret_cast<Number>(thread);
    openmp_threads = reinterpret_cast<Number>(threads);
    pthread_atfork(nullptr, nullptr, forget_threads);
}

// The number of threads that a call with `wanted` threads gets.
NATIVE_EXPORT int32_t native_threads(int32_t wanted) {
    int32_t got = 0;
    native::parallel(wanted, [&](int thread, int threads) {
        if (thread == 0) {
            got = threads;
        }
    });
    return got;
}

void native::on_threads(int wanted, void (*body)(void*, int, int), void* context) {
    if (wanted <= 1 || !openmp_parallel) {
        body(context, 0, 1);
        return;
    }
    Call call{body, context};
    openmp_parallel(region, &call, static_cast<unsigned>(wanted), 0);
}
