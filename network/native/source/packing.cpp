#include "packing.h"

#include "bfloat16.h"
#include "isa.h"
#include "parallel.h"

namespace {

using namespace native;

struct Weight {
    const void* numbers;
    Type type;
    int64_t matrices, rows, columns;
    int64_t matrix_stride, row_stride, column_stride;  // in numbers

    float at(int64_t matrix, int64_t row, int64_t column) const {
        if (row >= rows || column >= columns) return 0;
        const int64_t place = matrix * matrix_stride + row * row_stride + column * column_stride;
        return type == BFLOAT16 ? widened(static_cast<const uint16_t*>(numbers)[place])
                                : static_cast<const float*>(numbers)[place];
    }
};

// Writes one panel of one matrix; `narrow`: as bf16, otherwise as fp32 (rounded to bf16 first, if `type` is bf16).
void pack_panel(const Weight& weight, const Kernel& kernel, Type type, int64_t matrix, Panel panel, void* target) {
    const int64_t depth = padded_depth(kernel, weight.rows), columns = panel.vectors * kernel.width;
    const int64_t interleaved = kernel.packed == BFLOAT16 ? 2 : 1;
    for (int64_t row = 0; row < depth; ++row) {
        const int64_t start = row / interleaved * interleaved * columns + row % interleaved;
        for (int64_t column = 0; column < columns; ++column) {
            const float number = weight.at(matrix, row, panel.first * kernel.width + column);
            const int64_t place = start + column * interleaved;
            if (kernel.packed == BFLOAT16)
                static_cast<uint16_t*>(target)[place] = rounded(number);
            else
                static_cast<float*>(target)[place] = type == BFLOAT16 ? widened(rounded(number)) : number;
        }
    }
}

bool emulates_amx = false;

}  // namespace

// For tests: computes in bf16 as with AMX, but with an emulation of its instructions.
NATIVE_EXPORT void native_emulate_amx(int64_t wanted) { emulates_amx = wanted != 0; }

const Kernel& native::kernel_for(int64_t type) {
    if (type == BFLOAT16 && emulates_amx) return BFLOAT16_EMULATED;
#ifdef NATIVE_AMX
    if (type == BFLOAT16 && isa() >= amx) return BFLOAT16_AMX;
#endif
#ifdef NATIVE_AVX512BF16
    if (type == BFLOAT16 && isa() >= avx512bf16) return BFLOAT16_AVX512BF16;
#endif
#ifdef NATIVE_AVX512
    if (isa() >= avx512) return type == BFLOAT16 ? BFLOAT16_AVX512 : FLOAT32_AVX512;
#endif
    return type == BFLOAT16 ? BFLOAT16_AVX2 : FLOAT32_AVX2;
}

// Returns the bytes of a packed weight that multiplies numbers of a type.
NATIVE_EXPORT int64_t native_packed_bytes(int64_t type, int64_t matrices, int64_t rows, int64_t columns) {
    const Kernel& kernel = kernel_for(type);
    const Panels panels(kernel, columns);
    const Panel all{0, panels.vectors};
    return static_cast<const char*>(panel_of(kernel, nullptr, all, matrices, matrices, rows)) - static_cast<char*>(nullptr);
}

// Packs a weight of any strides, to be multiplied with numbers of type `type`.
NATIVE_EXPORT void native_pack(const void* numbers, int64_t weight_type, const int64_t* shape, const int64_t* strides,
                               int64_t type, void* packed, int64_t threads) {
    const Weight weight{numbers,  static_cast<Type>(weight_type), shape[0], shape[1], shape[2], strides[0], strides[1],
                        strides[2]};
    const Kernel& kernel = kernel_for(type);
    const Panels panels(kernel, weight.columns);
    const int64_t count = weight.matrices * panels.count;
    parallel(count * weight.rows < 1024 ? 1 : static_cast<int>(threads), [&](int thread, int of) {
        const Range mine = share(count, thread, of);
        for (int64_t i = mine.begin; i < mine.end; ++i) {
            const int64_t matrix = i / panels.count;
            const Panel panel = panels[i % panels.count];
            const void* target = panel_of(kernel, packed, panel, weight.matrices, matrix, weight.rows);
            pack_panel(weight, kernel, static_cast<Type>(type), matrix, panel, const_cast<void*>(target));
        }
    });
}
