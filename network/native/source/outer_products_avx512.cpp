#include <immintrin.h>

#include "outer_products_tiles.h"

namespace {

struct Avx512 {
    using Vector = __m512;
    using Mask = __mmask16;
    static constexpr int width = 16, rows = 8;  // 24 sums, 3 vectors and a factor of 32 registers

    static TILE_INLINE Mask first(int count) { return static_cast<Mask>((1u << count) - 1); }
    static TILE_INLINE Vector zero() { return _mm512_setzero_ps(); }
    static TILE_INLINE Vector load(const uint32_t* at) { return _mm512_loadu_ps(at); }
    static TILE_INLINE Vector load_part(const uint32_t* at, Mask mask) { return _mm512_maskz_loadu_ps(mask, at); }
    static TILE_INLINE Vector broadcast(const uint32_t* at) {
        return _mm512_set1_ps(*reinterpret_cast<const float*>(at));
    }
    static TILE_INLINE Vector multiply_add(Vector sum, Vector a, Vector b) { return _mm512_fmadd_ps(a, b, sum); }
    static TILE_INLINE void add_to(float* at, Vector sum) {
        _mm512_storeu_ps(at, _mm512_add_ps(_mm512_loadu_ps(at), sum));
    }
    static TILE_INLINE void add_part_to(float* at, Vector sum, Mask mask) {
        _mm512_mask_storeu_ps(at, mask, _mm512_add_ps(_mm512_maskz_loadu_ps(mask, at), sum));
    }
};

}  // namespace

void native::add_outer_products_avx512(const OuterProducts& products) { add_outer_products<Avx512>(products); }
