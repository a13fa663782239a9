// The register tiles of all instruction sets: some rows of features times one panel of columns, with the sums in
// registers over the whole depth. Included by one file per instruction set, which passes its instructions as `Isa`, a
// type of an unnamed namespace: so no other file shares this code.
#pragma once

#include "product.h"

#define TILE_INLINE inline __attribute__((always_inline))

namespace {

// Adds ROWS rows times the panel to ROWS rows of sums. The weights are read once for all rows.
template <class Isa, int ROWS, int VECTORS>
TILE_INLINE void tile(const typename Isa::Number* const* rows, const typename Isa::Weight* weights, int64_t steps,
                      float* const* sums) {
    typename Isa::Sum total[ROWS][VECTORS];
#pragma GCC unroll 8
    for (int r = 0; r < ROWS; ++r)
#pragma GCC unroll 4
        for (int v = 0; v < VECTORS; ++v) total[r][v] = Isa::zero();
    for (int64_t step = 0; step < steps; ++step) {
        typename Isa::Factor column[VECTORS];
#pragma GCC unroll 4
        for (int v = 0; v < VECTORS; ++v) column[v] = Isa::load_weights(weights + v * Isa::vector_weights);
#pragma GCC unroll 8
        for (int r = 0; r < ROWS; ++r) {
            const typename Isa::Factor number = Isa::broadcast(rows[r] + step * Isa::step);
#pragma GCC unroll 4
            for (int v = 0; v < VECTORS; ++v) total[r][v] = Isa::multiply_add(total[r][v], number, column[v]);
        }
        weights += VECTORS * Isa::vector_weights;
    }
#pragma GCC unroll 8
    for (int r = 0; r < ROWS; ++r)
#pragma GCC unroll 4
        for (int v = 0; v < VECTORS; ++v) Isa::add_to(sums[r] + v * Isa::width, total[r][v]);
}

// The instructions `Float32` for rows in bf16, where a CPU cannot multiply those: at most ROWS rows are widened to fp32
// before they are multiplied.
template <class Float32, int ROWS>
struct Widened : Float32 {
    static constexpr int64_t number_bytes = 2;

    static int64_t scratch_bytes(int64_t depth) { return ROWS * depth * sizeof(float); }

    static TILE_INLINE const float* row(const native::Product& p, int64_t input, int r) {
        const uint16_t* from = static_cast<const uint16_t*>(p.features) + input * p.depth;
        uint32_t* to = static_cast<uint32_t*>(p.scratch) + r * p.depth;
        for (int64_t c = 0; c < p.depth; ++c) to[c] = static_cast<uint32_t>(from[c]) << 16;
        return reinterpret_cast<const float*>(to);
    }
};

// Fetches the rows of a later tile: they lie anywhere, so the CPU does not foresee them.
template <class Isa>
TILE_INLINE void fetch(const native::Product& p, int64_t begin, int64_t end) {
    constexpr int64_t line = 64;
    const int64_t bytes = p.depth * Isa::number_bytes;
    for (int64_t at = begin; at < end; ++at) {
        const char* row = static_cast<const char*>(p.features) + p.inputs[at] * bytes;
        for (int64_t byte = 0; byte < bytes; byte += line) __builtin_prefetch(row + byte);
    }
}

template <class Isa, int ROWS, int VECTORS>
void tile_of_pairs(const native::Product& p, int64_t at) {
    const typename Isa::Number* rows[ROWS];
    float* sums[ROWS];
    for (int r = 0; r < ROWS; ++r) {
        const int64_t input = p.inputs ? p.inputs[at + r] : p.first + at + r;
        const int64_t output = p.outputs ? p.outputs[at + r] - p.first : at + r;
        rows[r] = Isa::row(p, input, r);
        sums[r] = p.sums + output * (VECTORS * Isa::width);
    }
    const int64_t steps = (p.depth + Isa::step - 1) / Isa::step;
    tile<Isa, ROWS, VECTORS>(rows, static_cast<const typename Isa::Weight*>(p.weights), steps, sums);
}

// The last rows of a list, fewer than a whole tile.
template <class Isa, int ROWS, int VECTORS>
void last_rows(const native::Product& p, int64_t at) {
    if constexpr (ROWS > 0) {
        if (p.count - at == ROWS)
            tile_of_pairs<Isa, ROWS, VECTORS>(p, at);
        else
            last_rows<Isa, ROWS - 1, VECTORS>(p, at);
    }
}

template <class Isa, int VECTORS>
void multiply_panel(const native::Product& p) {
    constexpr int ROWS = Isa::tile_rows(VECTORS);
    int64_t at = 0;
    for (; at + ROWS <= p.count; at += ROWS) {
        if (p.inputs) fetch<Isa>(p, at + ROWS, at + 2 * ROWS < p.count ? at + 2 * ROWS : p.count);
        tile_of_pairs<Isa, ROWS, VECTORS>(p, at);
    }
    last_rows<Isa, ROWS - 1, VECTORS>(p, at);
}

template <class Isa>
void multiply(const native::Product& p) {
    if constexpr (Isa::panel >= 4) {
        if (p.vectors == 4) return multiply_panel<Isa, 4>(p);
        if (p.vectors == 3) return multiply_panel<Isa, 3>(p);
    }
    if (p.vectors == 2) return multiply_panel<Isa, 2>(p);
    multiply_panel<Isa, 1>(p);
}

template <class Isa>
constexpr native::Kernel kernel(native::Type packed) {
    return {Isa::width, Isa::panel, Isa::step, packed, Isa::scratch_bytes, multiply<Isa>, Isa::finish};
}

}  // namespace
