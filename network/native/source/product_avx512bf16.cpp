// Products of bf16 numbers with AVX512-BF16: each instruction multiplies two rows of the matrix and adds in fp32.
#include <immintrin.h>

#include "product_tiles.h"

namespace {

__m512 widened(const uint16_t* at, __mmask16 mask) {
    return _mm512_castsi512_ps(
        _mm512_maskz_slli_epi32(mask, _mm512_maskz_cvtepu16_epi32(mask, _mm256_maskz_loadu_epi16(mask, at)), 16));
}

void store(uint16_t* at, __mmask16 mask, __m512 numbers) {
    _mm256_mask_storeu_epi16(at, mask, reinterpret_cast<__m256i>(_mm512_cvtneps_pbh(numbers)));
}

// Rounds 16 numbers in one instruction, which the floor of AVX2 does not have. A ReLU does not multiply by zero: minus
// infinity becomes 0.
void finish_row(const native::FinishedRow& row) {
    const uint16_t *residual = static_cast<const uint16_t*>(row.residual), *addend = static_cast<const uint16_t*>(row.addend);
    uint16_t *out = static_cast<uint16_t*>(row.out), *plus = static_cast<uint16_t*>(row.plus);
    const __m512 zero = _mm512_setzero_ps(), slope = _mm512_set1_ps(row.slope);
    for (int64_t c = 0; c < row.columns; c += 16) {
        const int64_t left = row.columns - c;
        const __mmask16 mask = left < 16 ? static_cast<__mmask16>((1u << left) - 1) : static_cast<__mmask16>(0xffff);
        __m512 result = _mm512_loadu_ps(row.sums + c);  // rows of sums have whole vectors
        if (residual) result = _mm512_add_ps(result, widened(residual + c, mask));
        const __mmask16 negative = _mm512_cmp_ps_mask(result, zero, _CMP_LT_OQ);
        result = row.slope == 0 ? _mm512_mask_mov_ps(result, negative, zero)
                                : _mm512_mask_mul_ps(result, negative, result, slope);
        store(out + c, mask, result);
        if (plus) store(plus + c, mask, _mm512_add_ps(result, widened(addend + c, mask)));
    }
}

struct Pairs {
    static constexpr void (*finish)(const native::FinishedRow&) = finish_row;

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
