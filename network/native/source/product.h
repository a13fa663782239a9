// The products behind convolutions and linear layers: rows of features times a matrix, added to rows of sums.
//
// A kernel computes, for each pair (i, o) of a list, sums[o] += features[i] @ matrix. The matrix is one panel of a packed
// weight (see packing.h), in the order in which the kernel reads it. Each instruction set has its own file with its
// kernels; the other files choose among them and need not know how they work.
#pragma once

#include <cstdint>

namespace native {

enum Type : int64_t { FLOAT32 = 0, BFLOAT16 = 1 };

// One list of pairs and the matrix that they are multiplied with.
struct Product {
    const void* features;    // rows of `depth` numbers
    const void* weights;     // a panel of one matrix
    const int32_t* inputs;   // row of the features of each pair; null: pair p takes row first + p
    const int32_t* outputs;  // row of the output of each pair, from `first` on; null: row first + p
    int64_t first;           // the output row whose sums stand first
    int64_t count;           // number of pairs
    int64_t depth;           // columns of the features
    int64_t vectors;         // vectors of columns in this panel, 1 .. Kernel::panel
    float* sums;             // rows of vectors * width numbers
    void* scratch;           // Kernel::scratch_bytes for rows that cannot be used where they lie
};

// A row of sums that are complete: out = activation(sums + residual), and plus = out + addend; see epilogue.h.
struct FinishedRow {
    const float* sums;
    int64_t columns;
    const void* residual;  // or null
    float slope;
    void* out;
    const void* addend;
    void* plus;            // or null
};

struct Kernel {
    int64_t width;   // columns of one vector
    int64_t panel;   // vectors of the widest panel
    int64_t step;    // the depth of packed weights is a multiple of this, padded with zeros
    Type packed;     // type of packed weights; in bf16 two rows are interleaved
    int64_t (*scratch_bytes)(int64_t depth);
    void (*multiply)(const Product&);
    void (*finish)(const FinishedRow&);  // the same as `finish_row` of epilogue.h, but faster; or null
};

extern const Kernel FLOAT32_AVX2, FLOAT32_AVX512;
extern const Kernel BFLOAT16_AVX2, BFLOAT16_AVX512, BFLOAT16_AVX512BF16, BFLOAT16_AMX;
extern const Kernel BFLOAT16_EMULATED;  // that of AMX, on any CPU

}  // namespace native
