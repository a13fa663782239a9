// Sparse convolution as an implicit matrix product: some hundred output rows at a time, whose sums stay in the cache.
//
// For each offset the pairs of a block are multiplied (product.h): input rows are read where they lie, so nothing is
// gathered and no products are written. Then the block is finished: bias, residual, activation. A linear layer is a
// convolution of one offset, the identity.
#include "convolution.h"

#include <cstdlib>
#include <cstring>

#include "epilogue.h"
#include "packing.h"
#include "parallel.h"
#include "product.h"

namespace {

using namespace native;

// Memory of a thread for the sums of a block, kept for the next call.
class Workspace {
public:
    Workspace() = default;
    Workspace(const Workspace&) = delete;
    Workspace& operator=(const Workspace&) = delete;
    ~Workspace() { std::free(memory_); }

    void* bytes(int64_t wanted) {
        if (wanted > size_) {
            std::free(memory_);
            size_ = (wanted + 4095) / 4096 * 4096;
            memory_ = std::aligned_alloc(4096, static_cast<size_t>(size_));
            if (!memory_) std::abort();
        }
        return memory_;
    }

private:
    void* memory_ = nullptr;
    int64_t size_ = 0;
};

thread_local Workspace workspace;

struct Block {
    int64_t index;
    Range rows;
    Panel panel;
    float* sums;
    void* scratch;
};

class Worker {
public:
    Worker(const Convolution& c, const Kernel& kernel) : c_(c), kernel_(kernel), panels_(kernel, c.c_out) {
        const int64_t depth = c.side_depth > c.c_in ? c.side_depth : c.c_in;
        sums_bytes_ = c.block_rows * kernel.panel * kernel.width * static_cast<int64_t>(sizeof(float));
        bytes_ = sums_bytes_ + kernel.scratch_bytes(depth);
    }

    int64_t count() const { return blocks() * panels_.count; }

    void compute(int64_t item) const {
        const int64_t index = item / panels_.count, begin = index * c_.block_rows;
        const int64_t end = begin + c_.block_rows < c_.rows ? begin + c_.block_rows : c_.rows;
        char* memory = static_cast<char*>(workspace.bytes(bytes_));
        const Block block{index, {begin, end}, panels_[item % panels_.count], reinterpret_cast<float*>(memory),
                          memory + sums_bytes_};
        start(block);
        multiply(block);
        if (c_.type == BFLOAT16)
            finish<uint16_t>(block);
        else
            finish<float>(block);
    }

private:
    int64_t blocks() const { return (c_.rows + c_.block_rows - 1) / c_.block_rows; }
    int64_t first_column(const Block& block) const { return block.panel.first * kernel_.width; }
    int64_t width(const Block& block) const { return block.panel.vectors * kernel_.width; }
    int64_t columns(const Block& block) const {
        const int64_t left = c_.c_out - first_column(block);
        return left < width(block) ? left : width(block);
    }

    // The sums of all rows begin with the bias.
    void start(const Block& block) const {
        const int64_t bytes = width(block) * static_cast<int64_t>(sizeof(float)), rows = block.rows.end - block.rows.begin;
        if (!c_.bias) {
            std::memset(block.sums, 0, static_cast<size_t>(rows * bytes));
            return;
        }
        for (int64_t row = 0; row < rows; ++row)
            std::memcpy(block.sums + row * width(block), c_.bias + first_column(block), static_cast<size_t>(bytes));
    }

    void multiply(const Block& block) const {
        Product product{c_.features, nullptr,    nullptr,             nullptr,    block.rows.begin,
                        0,           c_.c_in,    block.panel.vectors, block.sums, block.scratch};
        for (int64_t k = 0; k < c_.offsets; ++k) {
            product.weights = panel_of(kernel_, c_.weights, block.panel, c_.offsets, k, c_.c_in);
            product.inputs = c_.cuts || !c_.inputs ? nullptr : c_.inputs + block.rows.begin;
            product.outputs = nullptr;
            product.count = block.rows.end - block.rows.begin;
            if (k != c_.identity) {
                const int32_t* cut = c_.cuts + block.index * c_.offsets + k;
                product.inputs = c_.inputs + cut[0];
                product.outputs = c_.outputs + cut[0];
                product.count = cut[c_.offsets] - cut[0];
            }
            kernel_.multiply(product);
        }
        if (c_.side) {
            product.features = c_.side;
            product.depth = c_.side_depth;
            product.weights = panel_of(kernel_, c_.side_weights, block.panel, 1, 0, c_.side_depth);
            product.inputs = product.outputs = nullptr;
            product.count = block.rows.end - block.rows.begin;
            kernel_.multiply(product);
        }
    }

    // Writes the rows of the block.
    template <class Number>
    void finish(const Block& block) const {
        const int64_t used = columns(block), first = first_column(block);
        const Activation activation(c_.slope);
        const auto row_of = [&](const void* matrix, int64_t row) {
            return static_cast<const Number*>(matrix) + row * c_.c_out + first;
        };
        const auto picked = [&](const Addend& addend, int64_t row) {
            return row_of(addend.rows, addend.picks ? addend.picks[row] : row);
        };
        for (int64_t row = block.rows.begin; row < block.rows.end; ++row) {
            float* sums = block.sums + (row - block.rows.begin) * width(block);
            for (int64_t i = 1; i < c_.num_residuals; ++i) add_row(sums, picked(c_.residuals[i], row), used);
            const Number* residual = c_.num_residuals ? picked(c_.residuals[0], row) : nullptr;
            const Number* addend = c_.out_plus ? picked(c_.addend, row) : nullptr;
            Number* plus = c_.out_plus ? const_cast<Number*>(row_of(c_.out_plus, row)) : nullptr;
            Number* out = const_cast<Number*>(row_of(c_.out, row));
            if (kernel_.finish)
                kernel_.finish({sums, used, residual, c_.slope, out, addend, plus});
            else
                finish_row(sums, used, residual, activation, out, addend, plus);
        }
    }

    const Convolution& c_;
    const Kernel& kernel_;
    const Panels panels_;
    int64_t sums_bytes_, bytes_;
};

}  // namespace

NATIVE_EXPORT void native_convolve(const Convolution* convolution) {
    const Worker worker(*convolution, kernel_for(convolution->type));
    const int64_t count = worker.count();
    int64_t next = 0;
    // Blocks are handed out as threads become free: they have different numbers of pairs. A row is computed by one thread
    // in one order, so the result is always the same.
    const int threads = static_cast<int>(convolution->threads < count ? convolution->threads : count);
    parallel(threads, [&](int, int) {
        for (;;) {
            const int64_t item = __atomic_fetch_add(&next, 1, __ATOMIC_RELAXED);
            if (item >= count) return;
            worker.compute(item);
        }
    });
}

// Finds for each block of output rows and each offset the first pair that lies in it: (blocks + 1, offsets) numbers.
NATIVE_EXPORT void native_cut(const int32_t* outputs, const int64_t* ends, int64_t offsets, int64_t block_rows,
                              int64_t blocks, int32_t* cuts) {
    for (int64_t k = 0; k < offsets; ++k) {
        int64_t pair = ends[k];
        for (int64_t block = 0; block <= blocks; ++block) {
            const int64_t first = block * block_rows;
            while (pair < ends[k + 1] && outputs[pair] < first) ++pair;
            cuts[block * offsets + k] = static_cast<int32_t>(pair);
        }
    }
}
