// The gradient of the weight of a convolution or a linear layer, and of its bias.
//
// Each thread has a range of output rows with its share of the pairs. It goes through them in blocks, all offsets of a
// block one after the other: so the rows of a block are read from memory once. Each thread adds into sums of its own,
// which are added up in the order of the threads.
#include <algorithm>
#include <cstring>

#include "isa.h"
#include "outer_products.h"
#include "parallel.h"

namespace {

using namespace native;

constexpr int64_t CHUNK = 64;        // pairs whose rows stay in the L1 cache (at 64 channels)
constexpr int64_t BLOCK_ROWS = 512;  // output rows whose features stay in the L2 cache (at 64 channels)

struct Rows {
    const void* numbers;
    int64_t stride, columns;  // in numbers
};

struct WeightGradient {
    bool bf16;
    Rows features, grad;
    const int32_t *inputs, *outputs;
    const int64_t* ends;
    int64_t volume, identity, rows;

    int64_t matrix() const { return features.columns * grad.columns; }
    int64_t sums() const { return volume * matrix() + grad.columns; }  // of the weight, then of the bias
    // The first pair of an offset whose output is `row` or a later one.
    int64_t first_pair(int64_t offset, int64_t row) const {
        const int32_t* begin = outputs + ends[offset];
        return std::lower_bound(begin, outputs + ends[offset + 1], row) - outputs;
    }
    int64_t pairs_before(int64_t row) const {
        int64_t count = row;  // each row costs something even without pairs
        for (int64_t k = 0; k < volume; ++k) count += first_pair(k, row) - ends[k];
        return count;
    }
    // The first row that has at least `pairs` pairs before it.
    int64_t row_after(int64_t pairs) const {
        int64_t low = 0, high = rows;
        while (low < high) {
            const int64_t middle = (low + high) / 2;
            if (pairs_before(middle) < pairs)
                low = middle + 1;
            else
                high = middle;
        }
        return low;
    }
};

// The kernel for the numbers of a call on this CPU.
struct Kernel {
    void (*add)(const OuterProducts&);
    bool interleaves;  // takes two rows of bf16 numbers at a time

    static Kernel choose(bool bf16) {
#ifdef NATIVE_AVX512BF16
        if (bf16 && isa() >= avx512bf16) return {add_outer_products_avx512bf16, true};
#endif
#ifdef NATIVE_AVX512
        if (isa() >= avx512) return {add_outer_products_avx512, false};
#endif
        (void)bf16;
        return {add_outer_products_avx2, false};
    }
};

// The rows of a chunk of pairs in the form that the kernel takes: fp32 rows where they lie, bf16 rows in copies.
class Operand {
public:
    // `room`: CHUNK rows of words for copies.
    Operand(Rows rows, bool bf16, bool interleaves, uint32_t* room)
        : rows_(rows), bf16_(bf16), interleaves_(interleaves), room_(room) {}

    // Takes the rows picks[0 .. count - 1], or those from `first` on; returns the number of rows for the kernel.
    int64_t take(const int32_t* picks, int64_t first, int64_t count) {
        auto row = [&](int64_t q) { return (picks ? picks[q] : first + q) * rows_.stride; };
        if (!bf16_) {
            for (int64_t q = 0; q < count; ++q) pointers[q] = static_cast<const uint32_t*>(rows_.numbers) + row(q);
            return count;
        }
        const uint16_t* numbers = static_cast<const uint16_t*>(rows_.numbers);
        const int64_t step = interleaves_ ? 2 : 1, steps = (count + step - 1) / step;
        for (int64_t i = 0; i < steps; ++i) {
            uint32_t* copy = room_ + i * rows_.columns;
            const int64_t q = i * step;
            if (!interleaves_)
                widen(numbers + row(q), copy);
            else
                interleave(numbers + row(q), q + 1 < count ? numbers + row(q + 1) : nullptr, copy);
            pointers[i] = copy;
        }
        return steps;
    }

    const uint32_t* pointers[CHUNK];

private:
    void widen(const uint16_t* __restrict from, uint32_t* __restrict to) const {
        for (int64_t c = 0; c < rows_.columns; ++c) to[c] = static_cast<uint32_t>(from[c]) << 16;
    }
    void interleave(const uint16_t* __restrict first, const uint16_t* __restrict second, uint32_t* __restrict to) const {
        if (second)
            for (int64_t c = 0; c < rows_.columns; ++c) to[c] = first[c] | static_cast<uint32_t>(second[c]) << 16;
        else
            for (int64_t c = 0; c < rows_.columns; ++c) to[c] = first[c];
    }

    const Rows rows_;
    const bool bf16_, interleaves_;
    uint32_t* const room_;
};

int64_t words_for_copies(const WeightGradient& g) {
    return g.bf16 ? CHUNK * (g.features.columns + g.grad.columns) : 0;
}

// The share of a thread.
class Part {
public:
    Part(const WeightGradient& gradient, bool with_bias, float* sums, uint32_t* room)
        : g_(gradient), kernel_(Kernel::choose(g_.bf16)), with_bias_(with_bias), sums_(sums),
          left_(g_.features, g_.bf16, kernel_.interleaves, room),
          right_(g_.grad, g_.bf16, kernel_.interleaves, room + CHUNK * g_.features.columns) {}

    void add(int64_t begin, int64_t end) {
        std::memset(sums_, 0, g_.sums() * sizeof(float));
        for (int64_t row = begin; row < end; row += BLOCK_ROWS) add_block(row, std::min(row + BLOCK_ROWS, end));
    }

private:
    void add_block(int64_t begin, int64_t end) {
        for (int64_t k = 0; k < g_.volume; ++k) {
            float* sums = sums_ + k * g_.matrix();
            if (k == g_.identity) {
                for (int64_t row = begin; row < end; row += CHUNK)
                    add_pairs(nullptr, nullptr, row, std::min(CHUNK, end - row), sums);
            } else {
                const int64_t last = g_.first_pair(k, end);
                for (int64_t p = g_.first_pair(k, begin); p < last; p += CHUNK)
                    add_pairs(g_.inputs + p, g_.outputs + p, 0, std::min(CHUNK, last - p), sums);
            }
        }
        if (with_bias_) add_columns(begin, end);
    }

    void add_pairs(const int32_t* inputs, const int32_t* outputs, int64_t first, int64_t count, float* sums) {
        left_.take(inputs, first, count);
        const int64_t rows = right_.take(outputs, first, count);
        kernel_.add({left_.pointers, right_.pointers, rows, g_.features.columns, g_.grad.columns, sums});
    }

    // The gradient of the bias: outer products with ones.
    void add_columns(int64_t begin, int64_t end) {
        const uint32_t one = kernel_.interleaves ? 0x3f803f80 : 0x3f800000;
        const uint32_t* ones[CHUNK];
        std::fill(ones, ones + CHUNK, &one);
        for (int64_t row = begin; row < end; row += CHUNK) {
            const int64_t rows = right_.take(nullptr, row, std::min(CHUNK, end - row));
            kernel_.add({ones, right_.pointers, rows, 1, g_.grad.columns, sums_ + g_.volume * g_.matrix()});
        }
    }

    const WeightGradient& g_;
    const Kernel kernel_;
    const bool with_bias_;
    float* const sums_;
    Operand left_, right_;
};

}  // namespace

// Writes sums[k][i][j] = sum over the pairs of offset k of features[input][i] * grad[output][j], and after them, if
// `with_bias`, the sums of the columns of grad.
//
// shape: c_in, c_out, features' stride, grad's stride, offsets, identity (or -1), output rows.
// room: for each thread as many words as `native_weight_gradient_room` says; `sums` for the first thread.
NATIVE_EXPORT void native_weight_gradient(const void* features, const void* grad, int64_t bf16, const int32_t* inputs,
                                          const int32_t* outputs, const int64_t* ends, const int64_t* shape,
                                          int64_t with_bias, float* sums, uint32_t* room, int64_t threads) {
    const WeightGradient gradient{bf16 != 0,  {features, shape[2], shape[0]}, {grad, shape[3], shape[1]},
                                  inputs,     outputs,                        ends,
                                  shape[4],   shape[5],                       shape[6]};
    const int64_t count = gradient.sums(), copies = words_for_copies(gradient), own = count + copies;
    const int64_t pairs = gradient.pairs_before(gradient.rows);
    auto sums_of = [&](int thread) { return thread ? reinterpret_cast<float*>(room + thread * own) : sums; };
    int used = 1;
    parallel(static_cast<int>(threads), [&](int thread, int of) {
        if (thread == 0) used = of;
        const int64_t begin = gradient.row_after(pairs * thread / of);
        const int64_t end = thread + 1 == of ? gradient.rows : gradient.row_after(pairs * (thread + 1) / of);
        Part(gradient, with_bias != 0, sums_of(thread), room + thread * own + count).add(begin, end);
    });
    if (used == 1) return;
    parallel(used, [&](int thread, int of) {
        const Range mine = share(count, thread, of);
        for (int other = 1; other < used; ++other) {
            const float* more = sums_of(other);
            for (int64_t i = mine.begin; i < mine.end; ++i) sums[i] += more[i];
        }
    });
}

// Returns the number of words that each thread needs for sums and copies of rows.
NATIVE_EXPORT int64_t native_weight_gradient_room(int64_t bf16, int64_t c_in, int64_t c_out, int64_t offsets) {
    const WeightGradient gradient{bf16 != 0, {nullptr, 0, c_in}, {nullptr, 0, c_out}, nullptr, nullptr, nullptr, offsets, -1, 0};
    return gradient.sums() + words_for_copies(gradient);
}
