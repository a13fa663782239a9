// Products with AVX2 and FMA: fp32, and bf16 that is widened to fp32 row by row.
#include <immintrin.h>

#include "product_tiles.h"

namespace {

struct Float32 {
    using Number = float;
    using Weight = float;
    using Sum = __m256;
    using Factor = __m256;
    static constexpr int64_t width = 8, panel = 2, step = 1, vector_weights = 8, number_bytes = 4;

    static constexpr int tile_rows(int) { return 6; }  // 12 sums, 2 columns and a number fill the 16 registers
    static constexpr void (*finish)(const native::FinishedRow&) = nullptr;
    static int64_t scratch_bytes(int64_t) { return 0; }

    static TILE_INLINE const float* row(const native::Product& p, int64_t input, int) {
        return static_cast<const float*>(p.features) + input * p.depth;
    }
    static TILE_INLINE Sum zero() { return _mm256_setzero_ps(); }
    static TILE_INLINE Factor load_weights(const float* at) { return _mm256_loadu_ps(at); }
    static TILE_INLINE Factor broadcast(const float* at) { return _mm256_broadcast_ss(at); }
    static TILE_INLINE Sum multiply_add(Sum sum, Factor a, Factor b) { return _mm256_fmadd_ps(a, b, sum); }
    static TILE_INLINE void add_to(float* at, Sum sum) { _mm256_storeu_ps(at, _mm256_add_ps(_mm256_loadu_ps(at), sum)); }
};

}  // namespace

const native::Kernel native::FLOAT32_AVX2 = kernel<Float32>(native::FLOAT32);
const native::Kernel native::BFLOAT16_AVX2 = kernel<Widened<Float32, 6>>(native::FLOAT32);
