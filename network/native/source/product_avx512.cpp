// Products with AVX-512: fp32, and bf16 that is widened to fp32 row by row.
#include <immintrin.h>

#include "product_tiles.h"

namespace {

struct Float32 {
    using Number = float;
    using Weight = float;
    using Sum = __m512;
    using Factor = __m512;
    static constexpr int64_t width = 16, panel = 4, step = 1, vector_weights = 16, number_bytes = 4;

    // 24 sums fill the registers; more than 8 rows would need more pointers than there are registers.
    static constexpr int tile_rows(int vectors) { return vectors == 4 ? 6 : 8; }
    static constexpr void (*finish)(const native::FinishedRow&) = nullptr;
    static int64_t scratch_bytes(int64_t) { return 0; }

    static TILE_INLINE const float* row(const native::Product& p, int64_t input, int) {
        return static_cast<const float*>(p.features) + input * p.depth;
    }
    static TILE_INLINE Sum zero() { return _mm512_setzero_ps(); }
    static TILE_INLINE Factor load_weights(const float* at) { return _mm512_loadu_ps(at); }
    static TILE_INLINE Factor broadcast(const float* at) { return _mm512_set1_ps(*at); }
    static TILE_INLINE Sum multiply_add(Sum sum, Factor a, Factor b) { return _mm512_fmadd_ps(a, b, sum); }
    static TILE_INLINE void add_to(float* at, Sum sum) { _mm512_storeu_ps(at, _mm512_add_ps(_mm512_loadu_ps(at), sum)); }
};

}  // namespace

const native::Kernel native::FLOAT32_AVX512 = kernel<Float32>(native::FLOAT32);
const native::Kernel native::BFLOAT16_AVX512 = kernel<Widened<Float32, 8>>(native::FLOAT32);
