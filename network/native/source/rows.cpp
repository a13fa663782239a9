// Weighted sums of rows of a matrix, as network/ops/sums.py describes them: gathered, multiplied and added in one go,
// in fp32, also where the rows are bfloat16.
#include <immintrin.h>

#include <cstring>

#include "parallel.h"

namespace {

constexpr int LANES = 8;  // fp32 numbers of a vector
constexpr int64_t AHEAD = 12288;  // bytes of rows that are asked for before they are needed: they fit into an L1 cache
constexpr int64_t MOST_AHEAD = 48;
constexpr int64_t CACHE_LINE = 64;

// What is to be summed up; see `native_sum_rows`.
struct Sums {
    const void* rows;
    int64_t columns;
    const void* source;
    int64_t entries;
    const int64_t* ends;
    const float* weight;
    const float* shares;
    bool mean;
    int64_t targets;
    void* out;
    bool add;
};

// The first `count` lanes.
__m256i lanes(int count) {
    return _mm256_cmpgt_epi32(_mm256_set1_epi32(count), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}

__m256 load(const float* from) { return _mm256_loadu_ps(from); }
__m256 load_some(const float* from, int count) { return _mm256_maskload_ps(from, lanes(count)); }
void store(float* to, __m256 numbers) { _mm256_storeu_ps(to, numbers); }
void store_some(float* to, __m256 numbers, int count) { _mm256_maskstore_ps(to, lanes(count), numbers); }

// bfloat16 is the upper half of an fp32.
__m256 widen(__m128i narrow) { return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(narrow), 16)); }

// Rounds to the nearest, ties to the even one; NaN stays NaN.
__m128i narrow(__m256 wide) {
    const __m256i bits = _mm256_castps_si256(wide);
    const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
    const __m256i up = _mm256_add_epi32(bits, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7FFF)));
    const __m256i unordered = _mm256_castps_si256(_mm256_cmp_ps(wide, wide, _CMP_UNORD_Q));
    const __m256i chosen = _mm256_blendv_epi8(up, _mm256_set1_epi32(0x7FC00000), unordered);
    const __m256i upper = _mm256_srli_epi32(chosen, 16);
    return _mm_packus_epi32(_mm256_castsi256_si128(upper), _mm256_extracti128_si256(upper, 1));
}

__m256 load(const uint16_t* from) { return widen(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from))); }
__m256 load_some(const uint16_t* from, int count) {
    alignas(16) uint16_t some[LANES] = {};
    std::memcpy(some, from, sizeof(uint16_t) * count);
    return load(some);
}
void store(uint16_t* to, __m256 numbers) { _mm_storeu_si128(reinterpret_cast<__m128i*>(to), narrow(numbers)); }
void store_some(uint16_t* to, __m256 numbers, int count) {
    alignas(16) uint16_t some[LANES];
    store(some, numbers);
    std::memcpy(to, some, sizeof(uint16_t) * count);
}

void prefetch(const void* row, int64_t bytes) {
    for (int64_t at = 0; at < bytes; at += CACHE_LINE) __builtin_prefetch(static_cast<const char*>(row) + at);
}

// Copies a row. For few bytes a call of memcpy takes longer than the copy.
void copy(void* to, const void* from, int64_t bytes) {
    constexpr int64_t VECTOR = 32;
    if (bytes < VECTOR || bytes > 4 * VECTOR) {
        std::memcpy(to, from, bytes);
        return;
    }
    const auto move = [&](int64_t at) {
        std::memcpy(static_cast<char*>(to) + at, static_cast<const char*>(from) + at, VECTOR);
    };
    for (int64_t at = 0; at + VECTOR <= bytes; at += VECTOR) move(at);
    move(bytes - VECTOR);  // the rest, with some of what is there already
}

// The entries of one target.
template <class Index>
struct Bag {
    const Index* source;
    const float* weight;  // of each entry, or null: all have the weight `same`
    float same;
    int64_t count;
};

// Sums columns of one target: as many whole vectors as there are numbers V.
//
// The sums are written out one by one, because a loop over them would keep them in memory.
template <class Number, class Index, int... V>
void sum_vectors(const Number* rows, int64_t columns, const Bag<Index>& bag, Number* out, bool add) {
    __m256 sums[] = {(static_cast<void>(V), _mm256_setzero_ps())...};
    for (int64_t e = 0; e < bag.count; ++e) {
        const Number* row = rows + int64_t(bag.source[e]) * columns;
        const __m256 weight = _mm256_set1_ps(bag.weight ? bag.weight[e] : bag.same);
        ((sums[V] = _mm256_fmadd_ps(weight, load(row + V * LANES), sums[V])), ...);
    }
    if (add) ((sums[V] = _mm256_add_ps(load(out + V * LANES), sums[V])), ...);
    (store(out + V * LANES, sums[V]), ...);
}

// Sums the last columns of one target, fewer than a vector has.
template <class Number, class Index>
void sum_rest(const Number* rows, int64_t columns, const Bag<Index>& bag, Number* out, bool add, int count) {
    __m256 sum = _mm256_setzero_ps();
    for (int64_t e = 0; e < bag.count; ++e) {
        const __m256 weight = _mm256_set1_ps(bag.weight ? bag.weight[e] : bag.same);
        sum = _mm256_fmadd_ps(weight, load_some(rows + int64_t(bag.source[e]) * columns, count), sum);
    }
    if (add) sum = _mm256_add_ps(load_some(out, count), sum);
    store_some(out, sum, count);
}

template <class Number, class Index>
void sum_columns(const Number* rows, int64_t columns, const Bag<Index>& bag, Number* out, bool add) {
    int64_t c = 0;
    for (; c + 8 * LANES <= columns; c += 8 * LANES)
        sum_vectors<Number, Index, 0, 1, 2, 3, 4, 5, 6, 7>(rows + c, columns, bag, out + c, add);
    if (c + 4 * LANES <= columns) {
        sum_vectors<Number, Index, 0, 1, 2, 3>(rows + c, columns, bag, out + c, add);
        c += 4 * LANES;
    }
    if (c + 2 * LANES <= columns) {
        sum_vectors<Number, Index, 0, 1>(rows + c, columns, bag, out + c, add);
        c += 2 * LANES;
    }
    if (c + LANES <= columns) {
        sum_vectors<Number, Index, 0>(rows + c, columns, bag, out + c, add);
        c += LANES;
    }
    if (c < columns) sum_rest(rows + c, columns, bag, out + c, add, int(columns - c));
}

// The entries of target t. Without `ends` it is entry t alone, whose weight may be the share of its source.
template <class Index>
Bag<Index> bag_of(const Sums& sums, int64_t t) {
    const Index* source = static_cast<const Index*>(sums.source);
    if (!sums.ends) return {source + t, nullptr, sums.shares ? sums.shares[source[t]] : 1.0f, 1};
    const int64_t begin = sums.ends[t], count = sums.ends[t + 1] - begin;
    const float same = sums.mean && count > 0 ? 1.0f / float(count) : 1.0f;
    return {source + begin, sums.weight ? sums.weight + begin : nullptr, same, count};
}

template <class Number, class Index>
void sum_targets(const Sums& sums, native::Range targets) {
    const Number* rows = static_cast<const Number*>(sums.rows);
    const Index* source = static_cast<const Index*>(sums.source);
    const int64_t row_bytes = int64_t(sizeof(Number)) * sums.columns;
    const bool copies = !sums.ends && !sums.shares && !sums.add;
    int64_t ahead = AHEAD / (row_bytes + 1);
    if (ahead > MOST_AHEAD) ahead = MOST_AHEAD;
    int64_t asked = sums.ends ? sums.ends[targets.begin] : targets.begin;
    for (int64_t t = targets.begin; t < targets.end; ++t) {
        const Bag<Index> bag = bag_of<Index>(sums, t);
        const int64_t end = (sums.ends ? sums.ends[t + 1] : t + 1) + ahead;
        for (; asked < end && asked < sums.entries; ++asked)
            prefetch(rows + int64_t(source[asked]) * sums.columns, row_bytes);
        Number* out = static_cast<Number*>(sums.out) + t * sums.columns;
        if (copies) {
            copy(out, rows + int64_t(*bag.source) * sums.columns, row_bytes);
            continue;
        }
        sum_columns(rows, sums.columns, bag, out, sums.add);
    }
}

// The first target that begins at this entry or later.
int64_t target_at(const Sums& sums, int64_t entry) {
    int64_t low = 0, high = sums.targets;
    while (low < high) {
        const int64_t middle = (low + high) / 2;
        if (sums.ends[middle] < entry) low = middle + 1;
        else high = middle;
    }
    return low;
}

// A thread's share of the targets: those with equally many entries.
native::Range targets_of(const Sums& sums, int thread, int threads) {
    if (!sums.ends) return native::share(sums.targets, thread, threads);
    const native::Range entries = native::share(sums.entries, thread, threads);
    const int64_t begin = thread ? target_at(sums, entries.begin) : 0;
    return {begin, thread + 1 < threads ? target_at(sums, entries.end) : sums.targets};
}

template <class Number, class Index>
void sum_all(const Sums& sums, int threads) {
    native::parallel(threads, [&](int thread, int actual) {
        sum_targets<Number, Index>(sums, targets_of(sums, thread, actual));
    });
}

}  // namespace

// Computes out[t] (+)= sum of weight * rows[source] over the entries ends[t] .. ends[t + 1] - 1 of each target.
//
// rows: (R, columns) fp32, or bfloat16 if `narrow`; source: int64, or int32 if `short_source`; ends: null, then target t
// has the entry t alone, whose weight is 1 or shares[source]; weight: null, then all weights are 1, or, for `mean`,
// 1 / the number of entries; `add`: whether to add to what is in `out`.
NATIVE_EXPORT void native_sum_rows(
    const void* rows, int narrow, int64_t columns, const void* source, int short_source, int64_t entries,
    const int64_t* ends, const float* weight, const float* shares, int mean, int64_t targets, void* out, int add,
    int threads) {
    const Sums sums{rows, columns, source, entries, ends, weight, shares, mean != 0, targets, out, add != 0};
    if (narrow) (short_source ? sum_all<uint16_t, int32_t> : sum_all<uint16_t, int64_t>)(sums, threads);
    else (short_source ? sum_all<float, int32_t> : sum_all<float, int64_t>)(sums, threads);
}

// Sorts the rows 0 .. count - 1 by their group, in which they keep their order: order[ends[g] .. ends[g + 1] - 1].
NATIVE_EXPORT void native_group_rows(
    const int64_t* group, int64_t count, int64_t groups, int64_t* order, int64_t* ends) {
    std::memset(ends, 0, sizeof(int64_t) * (groups + 1));
    for (int64_t i = 0; i < count; ++i) ++ends[group[i]];
    int64_t begin = 0;
    for (int64_t g = 0; g <= groups; ++g) {
        const int64_t size = ends[g];
        ends[g] = begin;
        begin += size;
    }
    // Each group's entry moves to its end, which is where the next group begins.
    for (int64_t i = 0; i < count; ++i) order[ends[group[i]]++] = i;
    for (int64_t g = groups; g > 0; --g) ends[g] = ends[g - 1];
    ends[0] = 0;
}
