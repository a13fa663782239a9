// A word holds the bf16 numbers of two rows: an instruction multiplies both and adds both products, in fp32.
#include <immintrin.h>

#include "outer_products_tiles.h"

namespace {

struct Avx512Bf16 {
    using Vector = __m512;
    using Mask = __mmask16;
    static constexpr int width = 16, rows = 8;

    static TILE_INLINE Mask first(int count) { return static_cast<Mask>((1u << count) - 1); }
    static TILE_INLINE Vector zero() { return _mm512_setzero_ps(); }
    static TILE_INLINE Vector load(const uint32_t* at) { return _mm512_loadu_ps(at); }
    static TILE_INLINE Vector load_part(const uint32_t* at, Mask mask) { return _mm512_maskz_loadu_ps(mask, at); }
    static TILE_INLINE Vector broadcast(const uint32_t* at) {
        return _mm512_castsi512_ps(_mm512_set1_epi32(static_cast<int>(*at)));
    }
    static TILE_INLINE Vector multiply_add(Vector sum, Vector a, Vector b) {
        return _mm512_dpbf16_ps(sum, (__m512bh)a, (__m512bh)b);
    }
    static TILE_INLINE void add_to(float* at, Vector sum) {
        _mm512_storeu_ps(at, _mm512_add_ps(_mm512_loadu_ps(at), sum));
    }
    static TILE_INLINE void add_part_to(float* at, Vector sum, Mask mask) {
        _mm512_mask_storeu_ps(at, mask, _mm512_add_ps(_mm512_maskz_loadu_ps(mask, at), sum));
    }
};

}  // namespace

void native::add_outer_products_avx512bf16(const OuterProducts& products) { add_outer_products<Avx512Bf16>(products); }
