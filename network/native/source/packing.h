// Packed weights: the numbers of a weight (K, C_in, C_out) in the order in which the kernels read them.
//
// The columns are divided into vectors (the last one padded with zeros) and the vectors into panels of similar width.
// Panel after panel there are its K matrices; a matrix has its rows one after the other, padded with zeros to a multiple
// of Kernel::step rows. In bf16 two rows are interleaved: a0 b0 a1 b1 ...
#pragma once

#include "product.h"

namespace native {

struct Panel {
    int64_t first, vectors;  // vectors before it, and its own
};

struct Panels {
    int64_t vectors, count;

    Panels(const Kernel& kernel, int64_t columns)
        : vectors((columns + kernel.width - 1) / kernel.width), count((vectors + kernel.panel - 1) / kernel.panel) {}

    Panel operator[](int64_t index) const {
        const int64_t begin = vectors * index / count, end = vectors * (index + 1) / count;
        return {begin, end - begin};
    }
};

inline int64_t padded_depth(const Kernel& kernel, int64_t depth) {
    return (depth + kernel.step - 1) / kernel.step * kernel.step;
}

// The kernel that multiplies numbers of this type on this CPU.
const Kernel& kernel_for(int64_t type);

// The address of a panel of matrix `matrix` in a packed weight of K = `matrices`.
inline const void* panel_of(const Kernel& kernel, const void* packed, Panel panel, int64_t matrices, int64_t matrix,
                            int64_t depth) {
    const int64_t column = padded_depth(kernel, depth) * kernel.width * (kernel.packed == BFLOAT16 ? 2 : 4);
    return static_cast<const char*>(packed) + column * (panel.first * matrices + panel.vectors * matrix);
}

}  // namespace native
