// The register tiles of all instruction sets: some rows and some vectors of columns of the sums, which stay in registers
// over all products. Included by one file per instruction set, which passes its instructions as `Isa`, a type of an
// unnamed namespace: so no other file shares this code.
#pragma once

#include "outer_products.h"

#define TILE_INLINE inline __attribute__((always_inline))

namespace {

// Adds the tile of ROWS rows from `row` on and VECTORS vectors from `column` on; `mask` selects the columns of the last
// vector that exist.
template <class Isa, int ROWS, int VECTORS>
void tile(const native::OuterProducts& p, int64_t row, int64_t column, typename Isa::Mask mask) {
    typename Isa::Vector total[ROWS][VECTORS];
#pragma GCC unroll 8
    for (int r = 0; r < ROWS; ++r)
#pragma GCC unroll 4
        for (int v = 0; v < VECTORS; ++v) total[r][v] = Isa::zero();
    for (int64_t q = 0; q < p.count; ++q) {
        const uint32_t* left = p.left[q] + row;
        const uint32_t* right = p.right[q] + column;
        typename Isa::Vector numbers[VECTORS];
#pragma GCC unroll 4
        for (int v = 0; v < VECTORS - 1; ++v) numbers[v] = Isa::load(right + v * Isa::width);
        numbers[VECTORS - 1] = Isa::load_part(right + (VECTORS - 1) * Isa::width, mask);
#pragma GCC unroll 8
        for (int r = 0; r < ROWS; ++r) {
            const typename Isa::Vector factor = Isa::broadcast(left + r);
#pragma GCC unroll 4
            for (int v = 0; v < VECTORS; ++v) total[r][v] = Isa::multiply_add(total[r][v], factor, numbers[v]);
        }
    }
#pragma GCC unroll 8
    for (int r = 0; r < ROWS; ++r) {
        float* sums = p.sums + (row + r) * p.columns + column;
#pragma GCC unroll 4
        for (int v = 0; v < VECTORS - 1; ++v) Isa::add_to(sums + v * Isa::width, total[r][v]);
        Isa::add_part_to(sums + (VECTORS - 1) * Isa::width, total[r][VECTORS - 1], mask);
    }
}

// The last rows, fewer than a whole tile.
template <class Isa, int ROWS, int VECTORS>
void last_rows(const native::OuterProducts& p, int64_t row, int64_t column, typename Isa::Mask mask) {
    if constexpr (ROWS > 0) {
        if (p.rows - row == ROWS)
            tile<Isa, ROWS, VECTORS>(p, row, column, mask);
        else
            last_rows<Isa, ROWS - 1, VECTORS>(p, row, column, mask);
    }
}

template <class Isa, int VECTORS>
void panel(const native::OuterProducts& p, int64_t column) {
    const int64_t rest = p.columns - column - (VECTORS - 1) * Isa::width;
    const typename Isa::Mask mask = Isa::first(rest < Isa::width ? static_cast<int>(rest) : Isa::width);
    int64_t row = 0;
    for (; row + Isa::rows <= p.rows; row += Isa::rows) tile<Isa, Isa::rows, VECTORS>(p, row, column, mask);
    last_rows<Isa, Isa::rows - 1, VECTORS>(p, row, column, mask);
}

// Divides the columns into panels of at most three vectors, of similar widths.
template <class Isa>
void add_outer_products(const native::OuterProducts& p) {
    const int64_t vectors = (p.columns + Isa::width - 1) / Isa::width, panels = (vectors + 2) / 3;
    for (int64_t i = 0; i < panels; ++i) {
        const int64_t begin = vectors * i / panels, end = vectors * (i + 1) / panels, column = begin * Isa::width;
        if (end - begin == 3)
            panel<Isa, 3>(p, column);
        else if (end - begin == 2)
            panel<Isa, 2>(p, column);
        else
            panel<Isa, 1>(p, column);
    }
}

}  // namespace
