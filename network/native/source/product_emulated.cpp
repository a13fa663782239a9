// The products of product_amx.cpp with AMX's operations on tiles emulated in plain C++, for tests on any CPU.
#include "amx_tiles.h"
#include "bfloat16.h"

namespace {

thread_local uint32_t tiles[8][TILE][TILE];

float number(uint32_t pair, int half) { return native::widened(static_cast<uint16_t>(pair >> (16 * half))); }

struct Emulation {
    static void begin() { std::memset(tiles, 0, sizeof(tiles)); }
    static void end() { std::memset(tiles, 0, sizeof(tiles)); }

    template <int tile>
    static void clear() {
        std::memset(tiles[tile], 0, sizeof(tiles[tile]));
    }
    template <int tile>
    static void load(const uint16_t* rows, int64_t stride) {
        for (int64_t r = 0; r < TILE; ++r) std::memcpy(tiles[tile][r], rows + r * stride, sizeof(tiles[tile][r]));
    }
    // Each row of the right tile holds pairs: two rows of the matrix, interleaved.
    template <int sum, int left, int right>
    static void multiply_add() {
        for (int64_t r = 0; r < TILE; ++r)
            for (int64_t c = 0; c < TILE; ++c) {
                float total;
                std::memcpy(&total, &tiles[sum][r][c], sizeof(total));
                for (int64_t k = 0; k < TILE; ++k)
                    for (int half = 0; half < 2; ++half)
                        total += number(tiles[left][r][k], half) * number(tiles[right][k][c], half);
                std::memcpy(&tiles[sum][r][c], &total, sizeof(total));
            }
    }
    template <int tile>
    static void store(float* rows, int64_t stride) {
        for (int64_t r = 0; r < TILE; ++r) std::memcpy(rows + r * stride, tiles[tile][r], sizeof(tiles[tile][r]));
    }
};

}  // namespace

const native::Kernel native::BFLOAT16_EMULATED = amx_kernel<Emulation>();
