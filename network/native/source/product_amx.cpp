// Products of bf16 numbers with AMX. The order of the operations is tested with an emulation of the instructions
// (product_emulated.cpp); the instructions themselves are compared with plain PyTorch by the self-check of the backend,
// on the first CPU that has them.
#include "amx_tiles.h"

namespace {

// Written as assembly: the compiler's functions want the number of a tile as a literal.
struct Instructions {
    // All eight tiles have 16 rows of 64 bytes.
    static void begin() {
        struct alignas(64) {
            uint8_t palette = 1, start_row = 0, reserved[14] = {};
            uint16_t row_bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
            uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
        } shape;
        asm volatile("ldtilecfg %0" ::"m"(shape));
    }
    static void end() { asm volatile("tilerelease"); }

    template <int tile>
    static void clear() {
        asm volatile("tilezero %%tmm%c0" ::"i"(tile));
    }
    template <int tile>
    static void load(const uint16_t* rows, int64_t stride) {
        asm volatile("tileloadd (%1,%2,1), %%tmm%c0" ::"i"(tile), "r"(rows), "r"(stride * 2) : "memory");
    }
    template <int sum, int left, int right>
    static void multiply_add() {
        asm volatile("tdpbf16ps %%tmm%c2, %%tmm%c1, %%tmm%c0" ::"i"(sum), "i"(left), "i"(right));
    }
    template <int tile>
    static void store(float* rows, int64_t stride) {
        asm volatile("tilestored %%tmm%c0, (%1,%2,1)" ::"i"(tile), "r"(rows), "r"(stride * 4) : "memory");
    }
};

}  // namespace

const native::Kernel native::BFLOAT16_AMX = amx_kernel<Instructions>();
