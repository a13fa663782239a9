// What follows the sums of a row: residual, activation, rounding. For files that are compiled for the floor (AVX2).
#pragma once

#include "bfloat16.h"

namespace native {

// LeakyReLU of a slope: 1 for none, 0 for a ReLU.
class Activation {
public:
    explicit Activation(float slope) : slope_(slope), is_relu_(slope == 0) {}

    // Not times zero in a ReLU: minus infinity becomes 0.
    float operator()(float number) const { return number < 0 ? (is_relu_ ? 0 : number * slope_) : number; }

    __m256 operator()(__m256 numbers) const {
        const __m256 zero = _mm256_setzero_ps();
        const __m256 negative = is_relu_ ? zero : _mm256_mul_ps(numbers, _mm256_set1_ps(slope_));
        return _mm256_blendv_ps(numbers, negative, _mm256_cmp_ps(numbers, zero, _CMP_LT_OQ));
    }

private:
    float slope_;
    bool is_relu_;
};

// Adds a row to the sums.
template <class Number>
void add_row(float* sums, const Number* row, int64_t columns) {
    int64_t c = 0;
    for (; c + 8 <= columns; c += 8) store8(sums + c, _mm256_add_ps(load8(sums + c), load8(row + c)));
    for (; c < columns; ++c) sums[c] += load(row + c);
}

// Writes out = activation(sums + residual) and, where `plus` is not null, plus = out + addend. The residual may be null.
template <class Number>
void finish_row(const float* sums, int64_t columns, const Number* residual, Activation activation, Number* out,
                const Number* addend, Number* plus) {
    int64_t c = 0;
    for (; c + 8 <= columns; c += 8) {
        __m256 result = load8(sums + c);
        if (residual) result = _mm256_add_ps(result, load8(residual + c));
        result = activation(result);
        store8(out + c, result);
        if (plus) store8(plus + c, _mm256_add_ps(result, load8(addend + c)));
    }
    for (; c < columns; ++c) {
        const float result = activation(sums[c] + (residual ? load(residual + c) : 0));
        store(out + c, result);
        if (plus) store(plus + c, result + load(addend + c));
    }
}

}  // namespace native
