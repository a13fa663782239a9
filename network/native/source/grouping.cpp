// How voxels of several scales share points. The points are sorted by the voxels of one scale already. What is left to
// sort lies within the points of a voxel: they are few, and most are equal.
#include <algorithm>
#include <atomic>
#include <cstring>

#include "parallel.h"

namespace {

constexpr int64_t FEW = 24;  // so many numbers are sorted by insertion
constexpr int ROW_BITS = 32;
constexpr uint64_t ROW = (uint64_t(1) << ROW_BITS) - 1;

void sort(uint64_t* numbers, int64_t count) {
    if (count > FEW) {
        std::sort(numbers, numbers + count);
        return;
    }
    for (int64_t i = 1; i < count; ++i) {
        const uint64_t number = numbers[i];
        int64_t at = i;
        for (; at > 0 && numbers[at - 1] > number; --at) numbers[at] = numbers[at - 1];
        numbers[at] = number;
    }
}

// Puts the voxel that holds a point above each of some rows of points, and sorts them. Equal voxels: as they are.
void sort_by_voxel(const int64_t* inverse, const int64_t* rows, uint64_t* numbers, int64_t count) {
    uint64_t differing = 0;
    for (int64_t i = 0; i < count; ++i) {
        numbers[i] = uint64_t(inverse[rows[i]]) << ROW_BITS | uint64_t(rows[i]);
        differing |= (numbers[i] ^ numbers[0]) >> ROW_BITS;
    }
    if (differing) sort(numbers, count);
}

// The number of numbers at the beginning that have the same voxel.
int64_t run_of(const uint64_t* numbers, int64_t count) {
    int64_t run = 1;
    while (run < count && numbers[run] >> ROW_BITS == numbers[0] >> ROW_BITS) ++run;
    return run;
}

// See `native_shared_means`.
struct Couple {
    const int64_t *order, *ends;  // the points by fine voxel
    int64_t fine;
    const int64_t *inverse, *coarse_ends;  // the coarse voxel of each point, and the points of each
    int64_t coarse;
    uint64_t* numbers;     // room: for each point one
    int32_t* fine_of_pair;  // as well
    int64_t *source, *target_ends;
    float* weight;
};

void share_means(const Couple& c) {
    int64_t pairs = 0;
    std::memset(c.target_ends, 0, sizeof(int64_t) * (c.coarse + 1));
    for (int64_t f = 0; f < c.fine; ++f) {
        const int64_t begin = c.ends[f], count = c.ends[f + 1] - begin;
        sort_by_voxel(c.inverse, c.order + begin, c.numbers + begin, count);
        for (int64_t at = 0; at < count;) {
            const uint64_t* first = c.numbers + begin + at;
            const int64_t run = run_of(first, count - at);
            ++c.target_ends[*first >> ROW_BITS];
            // There are no more pairs than points so far: what is written over has been read.
            c.numbers[pairs] = *first >> ROW_BITS << ROW_BITS | uint64_t(run);
            c.fine_of_pair[pairs++] = int32_t(f);
            at += run;
        }
    }
    int64_t begin = 0;
    for (int64_t v = 0; v <= c.coarse; ++v) {
        const int64_t size = c.target_ends[v];
        c.target_ends[v] = begin;
        begin += size;
    }
    for (int64_t p = 0; p < pairs; ++p) {
        const int64_t voxel = int64_t(c.numbers[p] >> ROW_BITS), at = c.target_ends[voxel]++;
        c.source[at] = c.fine_of_pair[p];
        c.weight[at] = float(c.numbers[p] & ROW) / float(c.coarse_ends[voxel + 1] - c.coarse_ends[voxel]);
    }
    for (int64_t v = c.coarse; v > 0; --v) c.target_ends[v] = c.target_ends[v - 1];
    c.target_ends[0] = 0;
}

// The tuples of the points of some voxels: sorted by one column (the voxels of a scale) after the other.
struct Tuples {
    const int64_t* const* columns;
    int64_t count;
    int64_t* order;
    int64_t* starts;  // of the tuples found so far, in the order
    int64_t found;

    void add(int64_t begin, int64_t end, int64_t column) {
        if (column == count) {
            starts[found++] = begin;
            return;
        }
        // The rows are replaced by numbers in their place, and come back run by run.
        uint64_t* numbers = reinterpret_cast<uint64_t*>(order);
        sort_by_voxel(columns[column], order + begin, numbers + begin, end - begin);
        for (int64_t at = begin; at < end;) {
            const int64_t after = at + run_of(numbers + at, end - at);
            for (int64_t i = at; i < after; ++i) order[i] = int64_t(numbers[i] & ROW);
            add(at, after, column + 1);
            at = after;
        }
    }
};

// The first voxel that begins at this point of the order or later.
int64_t voxel_at(const int64_t* ends, int64_t voxels, int64_t point) {
    return std::lower_bound(ends, ends + voxels, point) - ends;
}

}  // namespace

// Finds for each of several couples of scales the pairs of a coarse and a fine voxel that share points: those of coarse
// voxel v are source[target_ends[v]] .. and so on, ascending; their weight is their share of its points.
//
// addresses: nine for each couple, in the order of `Couple`; sizes: the numbers of fine and of coarse voxels of each.
NATIVE_EXPORT void native_shared_means(int64_t couples, void* const* addresses, const int64_t* sizes, int threads) {
    std::atomic<int64_t> next{0};
    native::parallel(threads < couples ? threads : int(couples), [&](int, int) {
        for (int64_t n = next++; n < couples; n = next++) {
            const auto integers = [&](int k) { return static_cast<int64_t*>(addresses[n * 9 + k]); };
            share_means(
                {integers(0), integers(1), sizes[2 * n], integers(2), integers(3), sizes[2 * n + 1],
                 static_cast<uint64_t*>(addresses[n * 9 + 4]), static_cast<int32_t*>(addresses[n * 9 + 5]), integers(6),
                 integers(7), static_cast<float*>(addresses[n * 9 + 8])});
        }
    });
}

// Sorts the points, which are in the order of the voxels of one scale, by those of further scales within each voxel.
//
// columns: for each further scale the voxel of every point; order: the points, sorted in place; inverse: gets the
// number of the tuple of each point; starts: gets where each tuple begins in the order, and the number of points;
// found: room for a number per part. Returns the number of tuples.
NATIVE_EXPORT int64_t native_tuples(
    const int64_t* ends, int64_t voxels, const int64_t* const* columns, int64_t count, int64_t* order, int64_t points,
    int64_t* inverse, int64_t* starts, int64_t* found, int parts) {
    const auto voxels_of = [&](int part) {
        const native::Range mine = native::share(points, part, parts);
        return native::Range{
            part ? voxel_at(ends, voxels, mine.begin) : 0,
            part + 1 < parts ? voxel_at(ends, voxels, mine.end) : voxels};
    };
    native::parallel(parts, [&](int thread, int threads) {
        for (int part = thread; part < parts; part += threads) {
            const native::Range mine = voxels_of(part);
            Tuples tuples{columns, count, order, starts + ends[mine.begin], 0};
            for (int64_t v = mine.begin; v < mine.end; ++v) tuples.add(ends[v], ends[v + 1], 0);
            found[part] = tuples.found;
        }
    });
    int64_t total = 0;
    for (int part = 0; part < parts; ++part) {
        std::memmove(starts + total, starts + ends[voxels_of(part).begin], sizeof(int64_t) * found[part]);
        total += found[part];
    }
    starts[total] = points;
    native::parallel(parts, [&](int thread, int threads) {
        const native::Range mine = native::share(total, thread, threads);
        for (int64_t t = mine.begin; t < mine.end; ++t)
            for (int64_t i = starts[t]; i < starts[t + 1]; ++i) inverse[order[i]] = t;
    });
    return total;
}
