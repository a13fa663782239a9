// The step from points to voxels: keys of the points, input features. Every number is computed in fp32 by the same
// operations, in the same order, as in network/voxels/: the library is compiled with -ffp-contract=off for that.
#include <cmath>

#include "parallel.h"

namespace {

constexpr int AXES = 3;
constexpr int BLOCK = 64;  // points whose coordinates are kept axis by axis meanwhile
constexpr int64_t BIAS = 1 << 15, LIMIT = BIAS - 4;  // see network/sparse/coordinates.py
constexpr int SHIFT[AXES] = {16, 32, 0};             // of x, y and z in a key
constexpr int BATCH_SHIFT = 48;

// Coordinates of a block, as distances from the low corner of the volume.
struct Block {
    float from_low[AXES][BLOCK];
};

// The biased cells along one axis; what is no number lies at the low face, as it does in PyTorch.
void cells_of(const float* from_low, float cells, float extent, int32_t* out) {
    for (int i = 0; i < BLOCK; ++i) {
        const float cell = std::floor(cells * from_low[i] / extent);
        const float above = cell > float(-LIMIT) ? cell : float(-LIMIT);
        out[i] = int32_t(above < float(LIMIT) ? above : float(LIMIT)) + int32_t(BIAS);
    }
}

void keys_of_block(const Block& block, const int64_t* scan, int count, const float* cells, const float* extent,
                   int64_t* keys) {
    int32_t cell[AXES][BLOCK];
    for (int axis = 0; axis < AXES; ++axis) cells_of(block.from_low[axis], cells[axis], extent[axis], cell[axis]);
    for (int i = 0; i < count; ++i)
        keys[i] = scan[i] << BATCH_SHIFT | int64_t(cell[1][i]) << SHIFT[1] | int64_t(cell[0][i]) << SHIFT[0] |
                  int64_t(cell[2][i]);
}

// Means of the coordinates of the points of each voxel, and its low corner: 6 numbers.
struct References {
    const float* points;
    int64_t columns;
    const int64_t *order, *ends, *keys;
    const float *low, *size;
    float* out;
};

void find_references(const References& r, int64_t voxel) {
    float* mean = r.out + voxel * 2 * AXES;
    float* corner = mean + AXES;
    const int64_t begin = r.ends[voxel], end = r.ends[voxel + 1];
    const float weight = 1.0f / float(end - begin);
    for (int axis = 0; axis < AXES; ++axis) {
        float sum = 0;
        for (int64_t e = begin; e < end; ++e)
            sum = std::fmaf(weight, r.points[r.order[e] * r.columns + axis], sum);  // as native_sum_rows adds up
        const int64_t cell = (r.keys[voxel] >> SHIFT[axis] & 0xFFFF) - BIAS;
        mean[axis] = sum;
        corner[axis] = float(cell) * r.size[axis] + r.low[axis];
    }
}

}  // namespace

// Computes the keys of the points at each scale, (scales, count); see `voxelize._keys_by_scale`. A point has `columns`
// numbers, the first three of which are x, y, z; `cells` has three numbers for each scale.
NATIVE_EXPORT void native_voxel_keys(
    const float* points, int64_t columns, const int64_t* scan_ids, int64_t count, const float* low, const float* extent,
    const float* cells, int64_t scales, int64_t* keys, int threads) {
    native::parallel(threads, [&](int thread, int actual) {
        const native::Range mine = native::share(count, thread, actual);
        Block block = {};
        for (int64_t begin = mine.begin; begin < mine.end; begin += BLOCK) {
            const int size = int(mine.end - begin < BLOCK ? mine.end - begin : BLOCK);
            for (int i = 0; i < size; ++i)
                for (int axis = 0; axis < AXES; ++axis)
                    block.from_low[axis][i] = points[(begin + i) * columns + axis] - low[axis];
            for (int64_t s = 0; s < scales; ++s)
                keys_of_block(block, scan_ids + begin, size, cells + s * AXES, extent, keys + s * count + begin);
        }
    });
}

// Computes the input features of the points, (count, columns + 6); see `voxelize._input_features`. The voxels have
// `keys`, and the points order[ends[v]] .. order[ends[v + 1] - 1]; `references` has room for 6 numbers per voxel.
NATIVE_EXPORT void native_input_features(
    const float* points, int64_t columns, int64_t count, const int64_t* order, const int64_t* ends,
    const int64_t* inverse, const int64_t* keys, int64_t voxels, const float* low, const float* size, float* references,
    float* out, int threads) {
    const References r{points, columns, order, ends, keys, low, size, references};
    native::parallel(threads, [&](int thread, int actual) {
        const native::Range mine = native::share(voxels, thread, actual);
        for (int64_t v = mine.begin; v < mine.end; ++v) find_references(r, v);
    });
    native::parallel(threads, [&](int thread, int actual) {
        const native::Range mine = native::share(count, thread, actual);
        for (int64_t i = mine.begin; i < mine.end; ++i) {
            const float* point = points + i * columns;
            const float* reference = references + inverse[i] * 2 * AXES;
            float* to = out + i * (columns + 2 * AXES);
            for (int c = 0; c < AXES + 1; ++c) *to++ = point[c];
            for (int n = 0; n < 2 * AXES; ++n) *to++ = point[n % AXES] - reference[n];
            for (int64_t c = AXES + 1; c < columns; ++c) *to++ = point[c];
        }
    });
}

// Computes the keys of floor(coordinate / 2) on every axis; see `coordinates.halve`.
NATIVE_EXPORT void native_halve_keys(const int64_t* keys, int64_t count, int64_t* out) {
    constexpr int64_t FIELDS = 0x7FFF7FFF7FFF, SCAN = ~((int64_t(1) << BATCH_SHIFT) - 1);
    constexpr int64_t HALF_BIAS = (BIAS >> 1) * ((int64_t(1) << SHIFT[1]) + (int64_t(1) << SHIFT[0]) + 1);
    for (int64_t i = 0; i < count; ++i) out[i] = (keys[i] & SCAN) | ((keys[i] >> 1 & FIELDS) + HALF_BIAS);
}
