// The best class of every point, from its logits.
#include <immintrin.h>

#include <atomic>

#include "parallel.h"

namespace {

constexpr int LANES = 8;

__m256i lanes(int64_t count) {
    return _mm256_cmpgt_epi32(_mm256_set1_epi32(int(count)), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}

// Up to 8 numbers; missing ones are the lowest of all.
__m256 load(const float* from, int64_t count) {
    if (count >= LANES) return _mm256_loadu_ps(from);
    const __m256 lowest = _mm256_set1_ps(-__builtin_inff());
    return _mm256_blendv_ps(lowest, _mm256_maskload_ps(from, lanes(count)), _mm256_castsi256_ps(lanes(count)));
}

float greatest(__m256 numbers) {
    __m128 half = _mm_max_ps(_mm256_castps256_ps128(numbers), _mm256_extractf128_ps(numbers, 1));
    half = _mm_max_ps(half, _mm_movehl_ps(half, half));
    return _mm_cvtss_f32(_mm_max_ss(half, _mm_movehdup_ps(half)));
}

// The first of the greatest numbers; 0 if one is NaN.
int64_t best_of(const float* numbers, int64_t count) {
    __m256 most = load(numbers, count);
    for (int64_t c = LANES; c < count; c += LANES) most = _mm256_max_ps(most, load(numbers + c, count - c));
    const __m256 best = _mm256_set1_ps(greatest(most));
    for (int64_t c = 0; c < count; c += LANES) {
        int equal = _mm256_movemask_ps(_mm256_cmp_ps(load(numbers + c, count - c), best, _CMP_EQ_OQ));
        if (count - c < LANES) equal &= (1 << (count - c)) - 1;  // all may be as low as the missing ones
        if (equal) return c + __builtin_ctz(unsigned(equal));
    }
    return 0;
}

// Whether all numbers are neither infinite nor NaN: times 0 they are 0.
bool all_finite(const float* numbers, int64_t count) {
    __m256 sum = _mm256_setzero_ps();
    int64_t i = 0;
    for (; i + LANES <= count; i += LANES)
        sum = _mm256_add_ps(sum, _mm256_mul_ps(_mm256_loadu_ps(numbers + i), _mm256_setzero_ps()));
    float rest = 0;
    for (; i < count; ++i) rest += numbers[i] * 0.0f;
    const bool unordered = _mm256_movemask_ps(_mm256_cmp_ps(sum, sum, _CMP_UNORD_Q)) || rest != rest;
    return !unordered;
}

}  // namespace

// Finds for each point the class with the greatest of the logits (points, classes) but the first one, class 0. Returns
// whether all logits are finite.
NATIVE_EXPORT int native_best_classes(
    const float* logits, int64_t points, int64_t classes, uint8_t* best, int threads) {
    constexpr int64_t BLOCK = 64;  // points that are in the cache when they are looked at for the second time
    std::atomic<bool> finite{true};
    native::parallel(threads, [&](int thread, int actual) {
        const native::Range mine = native::share(points, thread, actual);
        bool all = true;
        for (int64_t begin = mine.begin; begin < mine.end; begin += BLOCK) {
            const int64_t end = begin + BLOCK < mine.end ? begin + BLOCK : mine.end;
            all &= all_finite(logits + begin * classes, (end - begin) * classes);
            for (int64_t i = begin; i < end; ++i)
                best[i] = uint8_t(best_of(logits + i * classes + 1, classes - 1) + 1);
        }
        if (!all) finite = false;
    });
    return finite;
}
