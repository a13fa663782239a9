// Products of bf16 numbers in the order that suits AMX: 32 pairs at a time, with four operations on tiles of 16 rows
// of 64 bytes, which `Tiles` supplies. Included by the file that has the instructions, and by one that emulates them.
#pragma once

#include "product.h"

namespace {

constexpr int64_t TILE = 16;       // rows of a tile; columns of sums in it
constexpr int64_t DEPTH = 32;      // bf16 numbers in a row of a tile
constexpr int64_t ROWS = 2 * TILE;  // pairs that are multiplied at a time
enum Tile { SUM00, SUM01, SUM10, SUM11, LEFT0, LEFT1, RIGHT0, RIGHT1 };

int64_t steps_of(int64_t depth) { return (depth + DEPTH - 1) / DEPTH; }

// Room for the rows of 32 pairs, padded with zeros, and for a square of sums.
int64_t amx_scratch_bytes(int64_t depth) {
    return ROWS * steps_of(depth) * DEPTH * static_cast<int64_t>(sizeof(uint16_t)) +
           ROWS * ROWS * static_cast<int64_t>(sizeof(float));
}

struct Rows {
    const uint16_t* numbers;
    int64_t stride;  // in numbers
};

// Returns 32 rows for the pairs from `at` on: where they lie, if they stand together, else copied. Rows beyond the last
// pair are those of an earlier call; nobody reads their sums.
Rows rows_of(const native::Product& p, int64_t at, int64_t count, uint16_t* copy) {
    const uint16_t* features = static_cast<const uint16_t*>(p.features);
    if (!p.inputs && count == ROWS && p.depth % DEPTH == 0) return {features + (p.first + at) * p.depth, p.depth};
    const int64_t stride = steps_of(p.depth) * DEPTH;
    for (int64_t r = 0; r < count; ++r) {
        const uint16_t* row = features + (p.inputs ? p.inputs[at + r] : p.first + at + r) * p.depth;
        for (int64_t c = 0; c < p.depth; ++c) copy[r * stride + c] = row[c];
        for (int64_t c = p.depth; c < stride; ++c) copy[r * stride + c] = 0;
    }
    return {copy, stride};
}

// Multiplies 32 rows with one vector of columns, or with two, and writes the sums.
template <class Tiles, bool TWO>
void multiply_square(Rows left, const uint16_t* right, int64_t right_stride, int64_t steps, float* sums) {
    Tiles::template clear<SUM00>();
    Tiles::template clear<SUM10>();
    if (TWO) {
        Tiles::template clear<SUM01>();
        Tiles::template clear<SUM11>();
    }
    for (int64_t step = 0; step < steps; ++step) {
        const uint16_t* numbers = left.numbers + step * DEPTH;
        const uint16_t* columns = right + step * TILE * right_stride;
        Tiles::template load<LEFT0>(numbers, left.stride);
        Tiles::template load<LEFT1>(numbers + TILE * left.stride, left.stride);
        Tiles::template load<RIGHT0>(columns, right_stride);
        Tiles::template multiply_add<SUM00, LEFT0, RIGHT0>();
        Tiles::template multiply_add<SUM10, LEFT1, RIGHT0>();
        if (TWO) {
            Tiles::template load<RIGHT1>(columns + 2 * TILE, right_stride);
            Tiles::template multiply_add<SUM01, LEFT0, RIGHT1>();
            Tiles::template multiply_add<SUM11, LEFT1, RIGHT1>();
        }
    }
    Tiles::template store<SUM00>(sums, ROWS);
    Tiles::template store<SUM10>(sums + TILE * ROWS, ROWS);
    if (TWO) {
        Tiles::template store<SUM01>(sums + TILE, ROWS);
        Tiles::template store<SUM11>(sums + TILE * ROWS + TILE, ROWS);
    }
}

void add_square(const native::Product& p, int64_t at, int64_t count, int64_t vector, int64_t vectors,
                const float* square) {
    for (int64_t r = 0; r < count; ++r) {
        const int64_t output = p.outputs ? p.outputs[at + r] - p.first : at + r;
        float* sums = p.sums + (output * p.vectors + vector) * TILE;
        for (int64_t c = 0; c < vectors * TILE; ++c) sums[c] += square[r * ROWS + c];
    }
}

template <class Tiles>
void multiply_with_tiles(const native::Product& p) {
    if (p.count == 0) return;
    const int64_t steps = steps_of(p.depth), stride = p.vectors * 2 * TILE;
    const uint16_t* weights = static_cast<const uint16_t*>(p.weights);
    float* square = static_cast<float*>(p.scratch);
    uint16_t* copy = reinterpret_cast<uint16_t*>(square + ROWS * ROWS);
    Tiles::begin();
    for (int64_t at = 0; at < p.count; at += ROWS) {
        const int64_t count = p.count - at < ROWS ? p.count - at : ROWS;
        const Rows left = rows_of(p, at, count, copy);
        for (int64_t vector = 0; vector < p.vectors; vector += 2) {
            const uint16_t* right = weights + vector * 2 * TILE;
            const bool two = vector + 1 < p.vectors;
            if (two)
                multiply_square<Tiles, true>(left, right, stride, steps, square);
            else
                multiply_square<Tiles, false>(left, right, stride, steps, square);
            add_square(p, at, count, vector, two ? 2 : 1, square);
        }
    }
    Tiles::end();
}

template <class Tiles>
constexpr native::Kernel amx_kernel() {
    return {TILE, 4, DEPTH, native::BFLOAT16, amx_scratch_bytes, multiply_with_tiles<Tiles>, nullptr};
}

}  // namespace
