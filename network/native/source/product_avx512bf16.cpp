// Products of bf16 numbers with AVX512-BF16: each instruction multiplies two rows of the matrix and adds in fp32.
#include <immintrin.h>

#include "product_tiles.h"

namespace {

struct Pairs {
    using Number = uint16_t;
    using Weight = uint16_t;
    using Sum = __m512;
    using Factor = __m512bh;
    static constexpr int64_t width = 16, panel = 4, step = 2, vector_weights = 32, number_bytes = 2;

    static constexpr int tile_rows(int vectors) { return vectors == 4 ? 6 : 8; }
    static int64_t scratch_bytes(int64_t depth) { return 8 * (depth + 1) * sizeof(uint16_t); }

    // A row of odd length is copied: its last pair must not reach into the next row.
    static TILE_INLINE const uint16_t* row(const native::Product& p, int64_t input, int r) {
        const uint16_t* from = static_cast<const uint16_t*>(p.features) + input * p.depth;
        if (p.depth % 2 == 0) return from;
        uint16_t* to = static_cast<uint16_t*>(p.scratch) + r * (p.depth + 1);
        for (int64_t c = 0; c < p.depth; ++c) to[c] = from[c];
        to[p.depth] = 0;
        return to;
    }
    static TILE_INLINE Sum zero() { return _mm512_setzero_ps(); }
    static TILE_INLINE Factor load_weights(const uint16_t* at) {
        return reinterpret_cast<Factor>(_mm512_loadu_si512(at));
    }
    static TILE_INLINE Factor broadcast(const uint16_t* at) {
        int32_t pair;
        __builtin_memcpy(&pair, at, sizeof(pair));
        return reinterpret_cast<Factor>(_mm512_set1_epi32(pair));
    }
    static TILE_INLINE Sum multiply_add(Sum sum, Factor a, Factor b) { return _mm512_dpbf16_ps(sum, a, b); }
    static TILE_INLINE void add_to(float* at, Sum sum) { _mm512_storeu_ps(at, _mm512_add_ps(_mm512_loadu_ps(at), sum)); }
};

}  // namespace

const native::Kernel native::BFLOAT16_AVX512BF16 = kernel<Pairs>(native::BFLOAT16);
