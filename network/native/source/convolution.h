// What a convolution or a linear layer computes; `network/native/convolution.py` has the same record.
#pragma once

#include <cstdint>

namespace native {

// Rows that are added to the sums.
struct Addend {
    const void* rows;      // of c_out numbers
    const int64_t* picks;  // the one for each output row; null: the same row
};

// out[o] = activation(bias + residuals of o + sum over offsets k, pairs (i, o) of k: features[i] @ weight[k]
//                     + side[o] @ side_weight), and out_plus[o] = out[o] + addend of o.
struct Convolution {
    const void* features;     // rows of c_in numbers
    const void* weights;      // packed
    const int32_t* inputs;    // the pairs, offset after offset; without cuts: the input row of each output row, or null
    const int32_t* outputs;
    const int32_t* cuts;      // (blocks + 1, offsets): the first pair of an offset whose output is in this block or later
    const void* side;         // rows of side_depth numbers, one for each output row; or null
    const void* side_weights; // packed
    const float* bias;        // a number for each column of the packed weight, or null
    const Addend* residuals;
    void* out;                // (rows, c_out)
    Addend addend;
    void* out_plus;           // (rows, c_out) or null
    int64_t num_residuals, type, rows, c_in, c_out, side_depth;
    int64_t offsets;
    int64_t identity;         // the offset that maps every row to itself, which has no pairs in the lists; or -1
    int64_t block_rows, threads;
    float slope;              // of the LeakyReLU: 1 for none, 0 for a ReLU
};

}  // namespace native
