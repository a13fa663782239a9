// Pairs of neighbouring voxels from their sorted keys, without a search: the keys, and the keys moved by an offset, are
// walked along together.
//
// Pairs are found in `parts` of the rows. Each part writes the rows of each list into a stretch of its own, and once
// all numbers are known, the stretches are joined to one list of all offsets.
#include <cstring>

#include "parallel.h"

namespace {

constexpr int64_t STEP_X = int64_t(1) << 16, STEP_Y = int64_t(1) << 32;  // see network/sparse/coordinates.py
constexpr int MOST_LISTS = 13;
constexpr int CUBE = 8;  // voxels in one of the next coarser level

// Voxels that follow each other in z, beside a voxel: `depth` keys from its own key + shift on. They are searched
// together. Their pairs are the lists number `list`, `list + 1`, ...
struct Column {
    int64_t shift;
    int depth, list;
};

// The columns of a kernel, and for each list the number of its offset in the order of the weights (x fastest).
struct Kernel {
    int columns, lists, offsets;
    Column column[5];
    int offset[MOST_LISTS];
    bool mirrored;  // then the offsets before the centre are those after it, with inputs and outputs exchanged
};

constexpr Kernel CUBE_OF_3 = {
    5, 13, 27,
    {{STEP_X - 1, 3, 0}, {STEP_Y - STEP_X - 1, 3, 3}, {STEP_Y - 1, 3, 6}, {STEP_Y + STEP_X - 1, 3, 9}, {1, 1, 12}},
    {5, 14, 23, 6, 15, 24, 7, 16, 25, 8, 17, 26, 22},
    true};
constexpr Kernel CUBE_OF_2 = {
    4, 8, 8, {{0, 2, 0}, {STEP_X, 2, 2}, {STEP_Y, 2, 4}, {STEP_Y + STEP_X, 2, 6}}, {0, 4, 1, 5, 2, 6, 3, 7}, false};

const Kernel& kernel_of(int size) { return size == 2 ? CUBE_OF_2 : CUBE_OF_3; }

// The first row whose key is at least `key`.
int64_t lower_bound(const int64_t* keys, int64_t count, int64_t key) {
    int64_t low = 0;
    while (count > 0) {
        const int64_t half = count / 2;
        const bool below = keys[low + half] < key;
        low = below ? low + half + 1 : low;
        count = below ? count - half - 1 : half;
    }
    return low;
}

// The rows of the pairs of one list.
struct Pairs {
    int32_t *here, *there;
};

// Walks along some rows and their column; pairs[d] get the rows whose neighbour number d in the column exists.
template <int DEPTH>
void walk(const int64_t* keys, int64_t count, native::Range rows, int64_t shift, Pairs* pairs) {
    if (rows.begin >= rows.end) return;
    Pairs list[DEPTH];
    for (int d = 0; d < DEPTH; ++d) list[d] = pairs[d];
    int64_t next = lower_bound(keys, count, keys[rows.begin] + shift);
    for (int64_t i = rows.begin; i < rows.end && next < count; ++i) {
        const int64_t wanted = keys[i] + shift;
        while (next < count && keys[next] < wanted) ++next;
        int64_t at = next;
        for (int d = 0; d < DEPTH; ++d) {
            // Written in any case, kept if found: whether it is cannot be predicted.
            const bool found = at < count && keys[at] == wanted + d;
            *list[d].here = int32_t(i), *list[d].there = int32_t(at);
            list[d].here += found, list[d].there += found, at += found;
        }
    }
    for (int d = 0; d < DEPTH; ++d) pairs[d] = list[d];
}

// Where the stretches lie: list after list, in a list part after part, with room for one pair more than rows.
struct Stretches {
    int32_t *here, *there;
    int64_t count;
    int parts;

    Pairs at(int list, int part) const {
        const int64_t begin = list * (count + parts) + native::share(count, part, parts).begin + part;
        return {here + begin, there + begin};
    }
};

void find_part(const int64_t* keys, const Kernel& kernel, const Stretches& stretches, int part, int64_t* found) {
    const native::Range rows = native::share(stretches.count, part, stretches.parts);
    Pairs pairs[MOST_LISTS];
    for (int list = 0; list < kernel.lists; ++list) pairs[list] = stretches.at(list, part);
    for (int c = 0; c < kernel.columns; ++c) {
        const Column& column = kernel.column[c];
        const auto walk_column = column.depth == 3 ? walk<3> : column.depth == 2 ? walk<2> : walk<1>;
        walk_column(keys, stretches.count, rows, column.shift, pairs + column.list);
    }
    for (int list = 0; list < kernel.lists; ++list) found[list] = pairs[list].here - stretches.at(list, part).here;
}

// Calls work(number) for each number below `count`, a thread for every `threads`-th one.
template <class Work>
void divide(int count, int threads, Work&& work) {
    native::parallel(threads, [&](int thread, int actual) {
        for (int number = thread; number < count; number += actual) work(number);
    });
}

void append(int32_t*& target, const int32_t* rows, int64_t count) {
    if (count == 0) return;  // an empty tensor has no address
    std::memcpy(target, rows, sizeof(int32_t) * count);
    target += count;
}

// Joins the stretches of a list at its offset; and, if the kernel is its own mirror image, at the opposite one.
void join_list(
    const Kernel& kernel, const Stretches& stretches, int list, const int64_t* found, const int64_t* ends,
    int32_t* inputs, int32_t* outputs) {
    const int64_t begin = ends[kernel.offset[list]];
    const int64_t mirrored = kernel.mirrored ? ends[kernel.offsets - 1 - kernel.offset[list]] : 0;
    int32_t *in = inputs + begin, *out = outputs + begin;
    int32_t *mirrored_in = inputs + mirrored, *mirrored_out = outputs + mirrored;
    for (int part = 0; part < stretches.parts; ++part) {
        const Pairs pairs = stretches.at(list, part);
        const int64_t count = found[part * kernel.lists + list];
        append(out, pairs.here, count);
        append(in, pairs.there, count);
        if (!kernel.mirrored) continue;
        append(mirrored_out, pairs.there, count);
        append(mirrored_in, pairs.here, count);
    }
}

}  // namespace

// Finds the pairs of a kernel of size 2 or 3; see `network/native/neighbours.py`. `found` gets the number of pairs of
// each part and list, `ends` where each offset ends (the first number is 0).
NATIVE_EXPORT void native_find_neighbours(
    const int64_t* keys, int64_t count, int kernel_size, int32_t* here, int32_t* there, int parts, int64_t* found,
    int64_t* ends) {
    const Kernel& kernel = kernel_of(kernel_size);
    const Stretches stretches{here, there, count, parts};
    divide(parts, parts, [&](int part) { find_part(keys, kernel, stretches, part, found + part * kernel.lists); });
    std::memset(ends, 0, sizeof(int64_t) * (kernel.offsets + 1));
    for (int list = 0; list < kernel.lists; ++list) {
        const int offset = kernel.offset[list];
        for (int part = 0; part < parts; ++part) ends[offset + 1] += found[part * kernel.lists + list];
        if (kernel.mirrored) ends[kernel.offsets - offset] = ends[offset + 1];
    }
    for (int offset = 0; offset < kernel.offsets; ++offset) ends[offset + 1] += ends[offset];
}

// Joins the pairs that were found to the lists of a kernel map.
NATIVE_EXPORT void native_join_neighbours(
    int64_t count, int kernel_size, int32_t* here, int32_t* there, int parts, const int64_t* found, const int64_t* ends,
    int32_t* inputs, int32_t* outputs) {
    const Kernel& kernel = kernel_of(kernel_size);
    const Stretches stretches{here, there, count, parts};
    divide(kernel.lists, parts, [&](int list) {
        join_list(kernel, stretches, list, found, ends, inputs, outputs);
    });
}

// Lists the voxels by their place in the coarser voxel, which is row `parent` there: the map of size and stride 2.
NATIVE_EXPORT void native_halving_map(
    const int64_t* keys, const int64_t* parent, int64_t count, int32_t* inputs, int32_t* outputs, int64_t* ends) {
    // All coordinates are biased by an even number. So the lowest bit of each is that of the coordinate.
    const auto place = [](int64_t key) { return (key & 1) << 2 | (key >> 32 & 1) << 1 | (key >> 16 & 1); };
    std::memset(ends, 0, sizeof(int64_t) * (CUBE + 1));
    for (int64_t i = 0; i < count; ++i) ++ends[place(keys[i]) + 1];
    for (int k = 0; k < CUBE; ++k) ends[k + 1] += ends[k];
    int64_t next[CUBE];
    std::memcpy(next, ends, sizeof(next));
    for (int64_t i = 0; i < count; ++i) {
        const int64_t position = next[place(keys[i])]++;
        inputs[position] = int32_t(i);
        outputs[position] = int32_t(parent[i]);
    }
}
