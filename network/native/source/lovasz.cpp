// The derivative of the Lovasz extension of the Jaccard loss, class by class: a stable radix sort of the errors, and a
// walk along them. In float32, with the operations of PyTorch, so the result is the same to the last bit.
#include <atomic>
#include <cstring>

#include "parallel.h"

namespace {

constexpr int ROUNDS = 3, DIGIT = 11, VALUES = 1 << DIGIT;  // of the 32 bits that are sorted

// An item is one word: what is sorted, above the row, above whether the row is foreground. `here` holds the items.
class Sort {
public:
    Sort(uint64_t* here, uint64_t* there, int64_t count) : here_(here), there_(there), count_(count) {}

    // Makes the items of a class. Greater errors come first; as integers, non-negative floats have the same order.
    void fill(const float* errors, const float* foreground) {
        std::memset(begins_, 0, sizeof(begins_));
        for (int64_t i = 0; i < count_; ++i) {
            uint32_t bits;
            std::memcpy(&bits, errors + i, sizeof(bits));
            here_[i] = uint64_t(~bits) << 32 | uint64_t(i) << 1 | uint64_t(foreground[i] != 0);
            for (int r = 0; r < ROUNDS; ++r) ++begins_[r][digit(here_[i], r)];
        }
    }

    const uint64_t* sorted() {
        for (int r = 0; r < ROUNDS; ++r) {
            if (count_ && begins_[r][digit(here_[0], r)] == count_) continue;  // all have the same digit
            add_up(begins_[r]);
            for (int64_t i = 0; i < count_; ++i) there_[begins_[r][digit(here_[i], r)]++] = here_[i];
            uint64_t* swapped = here_;
            here_ = there_;
            there_ = swapped;
        }
        return here_;
    }

private:
    static uint64_t digit(uint64_t item, int round) { return (item >> (32 + round * DIGIT)) & (VALUES - 1); }

    static void add_up(int64_t* begins) {
        int64_t total = 0;
        for (int v = 0; v < VALUES; ++v) {
            const int64_t here = begins[v];
            begins[v] = total;
            total += here;
        }
    }

    uint64_t *here_, *there_;
    int64_t count_;
    int64_t begins_[ROUNDS][VALUES];  // of each digit, where the items with each of its values begin
};

// Writes the difference of the Jaccard loss that each row makes when it joins those with greater errors.
void walk(const uint64_t* sorted, int64_t count, float* gradient) {
    int64_t total = 0, hits = 0;
    for (int64_t i = 0; i < count; ++i) total += sorted[i] & 1;
    float before = 0;
    for (int64_t i = 0; i < count; ++i) {
        hits += sorted[i] & 1;
        const float intersection = float(total - hits), all = float(total + (i + 1 - hits));
        const float jaccard = 1 - intersection / all;
        gradient[(sorted[i] & 0xffffffff) >> 1] = jaccard - before;
        before = jaccard;
    }
}

}  // namespace

// Computes the gradients (classes, count) for errors and foreground (0 or 1) of the same shape; see
// `network/native/lovasz.py`. `room` has 2 * count words for each thread; a count is below 2^24.
NATIVE_EXPORT void native_lovasz_gradient(
    const float* errors, const float* foreground, int64_t classes, int64_t count, float* gradient, uint64_t* room,
    int threads) {
    std::atomic<int64_t> next{0};
    native::parallel(threads < classes ? threads : int(classes), [&](int thread, int) {
        uint64_t* mine = room + 2 * count * thread;
        for (int64_t c = next++; c < classes; c = next++) {
            Sort sort(mine, mine + count, count);
            sort.fill(errors + c * count, foreground + c * count);
            walk(sort.sorted(), count, gradient + c * count);
        }
    });
}
