// Ranks of int64 numbers: a stable radix sort that looks only at the bits in which the numbers of a list differ.
//
// A sorted item is one word: the bits of the number that differ, packed, above the row of the number. Where both do not
// fit into 64 bits, the packed number is sorted in several rounds, its lowest bits first.
#include <atomic>
#include <cstring>

#include "parallel.h"

namespace {

constexpr int MOST_FIELDS = 4;   // runs of bits that are taken out of a number
constexpr int MOST_BITS = 10;    // of a digit: so many streams are written to at once
constexpr int MOST_DIGITS = 16;  // of an item: 64 bits in digits of at least 4
constexpr uint64_t SIGN = uint64_t(1) << 63;

int bits_of(uint64_t number) { return number ? 64 - __builtin_clzll(number) : 0; }

uint64_t low_bits(int count) { return count >= 64 ? ~uint64_t(0) : (uint64_t(1) << count) - 1; }

// Packs the bits in which numbers differ; packed numbers have the order of the numbers.
class Packing {
public:
    Packing(const int64_t* values, int64_t count) {
        uint64_t differing = 0;
        for (int64_t i = 0; i < count; ++i) differing |= uint64_t(values[i] ^ values[0]);
        take_fields(differing);
    }

    int bits() const { return bits_; }

    uint64_t operator()(int64_t value) const {
        const uint64_t number = uint64_t(value) ^ SIGN;  // negative numbers come first
        uint64_t packed = 0;
        for (int f = 0; f < MOST_FIELDS; ++f) packed |= (number >> shift_[f]) & mask_[f];
        return packed;
    }

private:
    // Splits the bits that differ into few runs: the narrowest gaps, whose bits are all equal, are taken along.
    void take_fields(uint64_t differing) {
        while (runs(differing) > MOST_FIELDS) differing |= narrowest_gap(differing);
        for (int f = 0; differing; ++f) {
            const int begin = __builtin_ctzll(differing);
            const uint64_t rest = ~(differing >> begin);
            const int width = rest ? __builtin_ctzll(rest) : 64;
            shift_[f] = begin - bits_;
            mask_[f] = low_bits(width) << bits_;
            bits_ += width;
            differing &= ~(low_bits(width) << begin);
        }
    }

    static int runs(uint64_t bits) { return __builtin_popcountll(bits & ~(bits << 1)); }

    static uint64_t narrowest_gap(uint64_t bits) {
        uint64_t narrowest = 0;
        int best = 65;
        for (uint64_t rest = bits; rest;) {
            const int begin = __builtin_ctzll(rest);
            const uint64_t after = ~(rest >> begin);
            const int end = begin + (after ? __builtin_ctzll(after) : 64);
            rest = end >= 64 ? 0 : rest & ~low_bits(end);
            if (!rest) break;
            const int gap = __builtin_ctzll(rest) - end;
            if (gap < best) best = gap, narrowest = low_bits(gap) << end;
        }
        return narrowest;
    }

    int bits_ = 0;
    int shift_[MOST_FIELDS] = {};
    uint64_t mask_[MOST_FIELDS] = {};
};

// The digits of the items of one round: those of the packed number, which stands above the row.
struct Digits {
    int count, width, low;
    uint32_t begins[MOST_DIGITS << MOST_BITS];  // of each digit, where the items with each of its values begin

    Digits(int bits, int row_bits, int64_t items) : low(row_bits) {
        const int most = items < (1 << MOST_BITS) ? 6 : MOST_BITS;  // counting costs as much as there are values
        count = bits ? (bits + most - 1) / most : 0;
        width = count ? (bits + count - 1) / count : 0;
        std::memset(begins, 0, sizeof(uint32_t) * (size_t(count) << width));
    }

    uint32_t& at(int digit, uint64_t item) {
        return begins[(size_t(digit) << width) + ((item >> (low + digit * width)) & low_bits(width))];
    }

    void tally(uint64_t item) {
        for (int d = 0; d < count; ++d) ++at(d, item);
    }

    void add_up() {
        for (int d = 0; d < count; ++d) {
            uint32_t total = 0;
            for (size_t v = 0; v < size_t(1) << width; ++v) {
                uint32_t& begin = begins[(size_t(d) << width) + v];
                const uint32_t here = begin;
                begin = total;
                total += here;
            }
        }
    }
};

struct List {
    const int64_t* values;
    int64_t count;
    int64_t *order, *inverse, *distinct, *ends, *size;
};

// Sorts the items by the bits from..to of the packed number; `order` holds the rows in the order of the bits below.
void sort_round(const List& list, const Packing& packing, int from, int to, int row_bits) {
    Digits digits(to - from, row_bits, list.count);
    const uint64_t rows = low_bits(row_bits), chosen = low_bits(to - from);
    uint64_t* here = reinterpret_cast<uint64_t*>(list.order);
    uint64_t* there = reinterpret_cast<uint64_t*>(list.inverse);  // both are free until the order is known
    for (int64_t i = 0; i < list.count; ++i) {
        const uint64_t row = from ? here[i] & rows : uint64_t(i);
        const uint64_t item = ((packing(list.values[row]) >> from) & chosen) << row_bits | row;
        here[i] = item;
        digits.tally(item);
    }
    digits.add_up();
    for (int d = 0; d < digits.count; ++d) {
        for (int64_t i = 0; i < list.count; ++i) there[digits.at(d, here[i])++] = here[i];
        uint64_t* swapped = here;
        here = there;
        there = swapped;
    }
    if (here != reinterpret_cast<uint64_t*>(list.order)) std::memcpy(list.order, here, sizeof(uint64_t) * list.count);
}

void rank(const List& list) {
    const Packing packing(list.values, list.count);
    const int row_bits = bits_of(uint64_t(list.count > 0 ? list.count - 1 : 0));
    const int most = 64 - row_bits;
    int from = 0, to;
    do {
        to = packing.bits() - from > most ? from + most : packing.bits();
        sort_round(list, packing, from, to, row_bits);
        from = to;
    } while (to < packing.bits());

    const bool at_once = packing.bits() <= most;  // then an item holds all bits of its number
    int64_t found = -1;
    uint64_t before = 0;
    for (int64_t i = 0; i < list.count; ++i) {
        const uint64_t item = uint64_t(list.order[i]);
        const int64_t row = int64_t(item & low_bits(row_bits));
        const uint64_t number = at_once ? (row_bits ? item >> row_bits : item) : uint64_t(list.values[row]);
        found += i == 0 || number != before;
        before = number;
        list.order[i] = row;
        list.inverse[row] = found;
        list.ends[found + 1] = i + 1;  // the last item of each number has the last word
    }
    list.ends[0] = 0;
    *list.size = found + 1;
    for (int64_t v = 0; v <= found; ++v) list.distinct[v] = list.values[list.order[list.ends[v]]];
}

}  // namespace

// Ranks each of several lists; see `network/native/ranking.py`. Each column has one address for each list.
NATIVE_EXPORT void native_rank(
    int64_t lists, const int64_t* const* values, const int64_t* counts, int64_t* const* order, int64_t* const* inverse,
    int64_t* const* distinct, int64_t* const* ends, int64_t* sizes, int threads) {
    std::atomic<int64_t> next{0};
    native::parallel(threads < lists ? threads : int(lists), [&](int, int) {
        for (int64_t n = next++; n < lists; n = next++)
            rank({values[n], counts[n], order[n], inverse[n], distinct[n], ends[n], sizes + n});
    });
}
