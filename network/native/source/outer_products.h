// Sums of outer products of rows, which gradients of weights consist of.
//
// Each instruction set has its own file with its kernel; `gradients.cpp` chooses among them.
#pragma once

#include <cstdint>

namespace native {

// sums[i][j] += sum over q of left[q][i] * right[q][j].
//
// A number is a 32-bit word: an fp32, or two bf16 of two rows that are interleaved, whose products are both added.
struct OuterProducts {
    const uint32_t* const* left;   // rows of `rows` words
    const uint32_t* const* right;  // rows of `columns` words
    int64_t count;                 // how many of each
    int64_t rows, columns;
    float* sums;                   // (rows, columns)
};

void add_outer_products_avx2(const OuterProducts&);
void add_outer_products_avx512(const OuterProducts&);
void add_outer_products_avx512bf16(const OuterProducts&);

}  // namespace native
