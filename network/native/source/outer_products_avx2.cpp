#include <immintrin.h>

#include "outer_products_tiles.h"

namespace {

struct Avx2 {
    using Vector = __m256;
    using Mask = __m256i;
    static constexpr int width = 8, rows = 4;  // 12 sums, 3 vectors and a factor fill the 16 registers

    static TILE_INLINE const float* floats(const uint32_t* at) { return reinterpret_cast<const float*>(at); }
    static TILE_INLINE Mask first(int count) {
        return _mm256_cmpgt_epi32(_mm256_set1_epi32(count), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
    }
    static TILE_INLINE Vector zero() { return _mm256_setzero_ps(); }
    static TILE_INLINE Vector load(const uint32_t* at) { return _mm256_loadu_ps(floats(at)); }
    static TILE_INLINE Vector load_part(const uint32_t* at, Mask mask) { return _mm256_maskload_ps(floats(at), mask); }
    static TILE_INLINE Vector broadcast(const uint32_t* at) { return _mm256_broadcast_ss(floats(at)); }
    static TILE_INLINE Vector multiply_add(Vector sum, Vector a, Vector b) { return _mm256_fmadd_ps(a, b, sum); }
    static TILE_INLINE void add_to(float* at, Vector sum) {
        _mm256_storeu_ps(at, _mm256_add_ps(_mm256_loadu_ps(at), sum));
    }
    static TILE_INLINE void add_part_to(float* at, Vector sum, Mask mask) {
        _mm256_maskstore_ps(at, mask, _mm256_add_ps(_mm256_maskload_ps(at, mask), sum));
    }
};

}  // namespace

void native::add_outer_products_avx2(const OuterProducts& products) { add_outer_products<Avx2>(products); }
