// bf16 numbers are the upper halves of floats. For files that are compiled for the floor (AVX2).
#pragma once

#include <immintrin.h>

#include <cstdint>
#include <cstring>

namespace native {

inline float widened(uint16_t number) {
    const uint32_t bits = static_cast<uint32_t>(number) << 16;
    float wide;
    std::memcpy(&wide, &bits, sizeof(wide));
    return wide;
}

// Rounds to the nearest, ties to even; NaN stays NaN.
inline uint16_t rounded(float number) {
    uint32_t bits;
    std::memcpy(&bits, &number, sizeof(bits));
    const uint32_t nearest = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
    return static_cast<uint16_t>((bits & 0x7fffffff) > 0x7f800000 ? (bits >> 16) | 0x40 : nearest);
}

inline float load(const float* at) { return *at; }
inline float load(const uint16_t* at) { return widened(*at); }
inline void store(float* at, float number) { *at = number; }
inline void store(uint16_t* at, float number) { *at = rounded(number); }

inline __m256 load8(const float* at) { return _mm256_loadu_ps(at); }
inline __m256 load8(const uint16_t* at) {
    const __m128i narrow = _mm_loadu_si128(reinterpret_cast<const __m128i*>(at));
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(narrow), 16));
}
inline void store8(float* at, __m256 numbers) { _mm256_storeu_ps(at, numbers); }
inline void store8(uint16_t* at, __m256 numbers) {
    const __m256i bits = _mm256_castps_si256(numbers), upper = _mm256_srli_epi32(bits, 16);
    const __m256i odd = _mm256_and_si256(upper, _mm256_set1_epi32(1));
    const __m256i nearest = _mm256_srli_epi32(
        _mm256_add_epi32(bits, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff))), 16);
    const __m256i quiet = _mm256_or_si256(upper, _mm256_set1_epi32(0x40));
    const __m256i is_nan = _mm256_castps_si256(_mm256_cmp_ps(numbers, numbers, _CMP_UNORD_Q));
    const __m256i words = _mm256_blendv_epi8(nearest, quiet, is_nan);
    const __m128i narrow = _mm_packus_epi32(_mm256_castsi256_si128(words), _mm256_extracti128_si256(words, 1));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(at), narrow);
}

}  // namespace native
