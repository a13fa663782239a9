// Trilinear interpolation from the voxels of a coarser level: of the 8 voxels around a finest one, those that exist.
#include <cstring>

#include "parallel.h"

namespace {

constexpr int CORNERS = 8;
constexpr int SHIFT_X = 16, SHIFT_Y = 32;  // of the coordinates in a key, see network/sparse/coordinates.py
constexpr float MISSING = 1e-8f;           // see network/voxels/voxel_pyramid.py

// The number of a corner among the offsets of a kernel of size 2: z slowest, x fastest.
int offset_number(int dz, int dy, int dx) { return dz * 4 + dy * 2 + dx; }

struct Interpolation {
    const int64_t *keys, *inverse;  // of the finest voxels; the coarse voxel of each
    int level;
    const int32_t* around;  // for each coarse voxel its 8 corners: rows, or -1

    // How far a voxel lies between two coarse ones, along the axis whose coordinate ends at this bit of its key.
    float share(int64_t voxel, int shift) const {
        const int64_t stride = int64_t(1) << level;
        return float(keys[voxel] >> shift & (stride - 1)) / float(stride);
    }

    // Calls use(coarse row, weight) for each corner that exists and has a weight, in the order y, x, z.
    template <class Use>
    void corners(int64_t voxel, Use&& use) const {
        const int32_t* rows = around + inverse[voxel] * CORNERS;
        const float z = share(voxel, 0), y = share(voxel, SHIFT_Y), x = share(voxel, SHIFT_X);
        const float of_z[2] = {1 - z, z}, of_y[2] = {1 - y, y}, of_x[2] = {1 - x, x};
        for (int corner = 0; corner < CORNERS; ++corner) {
            const int dy = corner >> 2, dx = corner >> 1 & 1, dz = corner & 1;
            const float weight = of_z[dz] * of_y[dy] * of_x[dx];
            const int32_t row = rows[offset_number(dz, dy, dx)];
            if (row >= 0 && weight != 0) use(row, weight);
        }
    }
};

}  // namespace

// Lists the corners around each coarse voxel, rows or -1, from the pairs of a kernel of size 2.
NATIVE_EXPORT void native_corners(
    const int32_t* inputs, const int32_t* outputs, const int64_t* ends, int64_t coarse, int32_t* around) {
    std::memset(around, 0xFF, sizeof(int32_t) * CORNERS * coarse);
    for (int k = 0; k < CORNERS; ++k)
        for (int64_t p = ends[k]; p < ends[k + 1]; ++p) around[int64_t(outputs[p]) * CORNERS + k] = inputs[p];
}

// Counts the entries of each finest voxel: those of voxel v are to be ends[v] .. ends[v + 1] - 1.
NATIVE_EXPORT void native_interpolation_ends(
    const int64_t* keys, const int64_t* inverse, int64_t count, int level, const int32_t* around, int64_t* ends,
    int threads) {
    const Interpolation interpolation{keys, inverse, level, around};
    native::parallel(threads, [&](int thread, int actual) {
        const native::Range mine = native::share(count, thread, actual);
        for (int64_t v = mine.begin; v < mine.end; ++v) {
            int64_t entries = 0;
            interpolation.corners(v, [&](int32_t, float) { ++entries; });
            ends[v + 1] = entries;
        }
    });
    ends[0] = 0;
    for (int64_t v = 0; v < count; ++v) ends[v + 1] += ends[v];
}

// Writes the entries: coarse rows, and weights that add up to 1.
NATIVE_EXPORT void native_interpolation_entries(
    const int64_t* keys, const int64_t* inverse, int64_t count, int level, const int32_t* around, const int64_t* ends,
    int32_t* source, float* weight, int threads) {
    const Interpolation interpolation{keys, inverse, level, around};
    native::parallel(threads, [&](int thread, int actual) {
        const native::Range mine = native::share(count, thread, actual);
        for (int64_t v = mine.begin; v < mine.end; ++v) {
            int64_t at = ends[v];
            float sum = 0;
            interpolation.corners(v, [&](int32_t row, float share) {
                source[at] = row, weight[at] = share;
                sum += share;
                ++at;
            });
            for (int64_t e = ends[v]; e < at; ++e) weight[e] /= sum + MISSING;
        }
    });
}
