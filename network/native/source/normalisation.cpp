// BatchNorm over rows in training, with the addition and the activation that follow, and its gradient.
//
// Forward and backward read the rows twice: once for sums over the rows, once for the results. The sums are made of
// blocks of rows that stay in the L1 cache, in fp32, and added up in fp64: first of a thread's blocks, then of the
// threads, in their order.
#include <algorithm>
#include <cmath>
#include <type_traits>

#include "bfloat16.h"
#include "parallel.h"

namespace {

using namespace native;

constexpr int64_t BLOCK = 32;            // rows
constexpr int64_t COLUMNS = 64;          // columns that are computed at a time
constexpr int64_t LEAST_NUMBERS = 1 << 15;  // below this one thread is faster

template <class Number>
struct Forward {
    const Number *x, *residual;  // (rows, columns); residual may be null
    const float *weight, *bias;
    Number* out;
    float *mean, *variance, *scale, *shift;  // (columns,): of the rows; out = act(x * scale + shift + residual)
    int64_t rows, columns;
    float eps, slope;
};

template <class Number>
struct Backward {
    const Number *grad, *out, *x;  // out is null without an activation
    const float *weight, *mean, *variance;
    Number *grad_x, *grad_residual;  // grad_residual may be null
    float *grad_weight, *grad_bias;
    int64_t rows, columns;
    float eps, slope;
};

struct Columns {
    int64_t begin, count;
};

// Calls f(rows of a block, columns) for all of a thread's rows.
template <class F>
void for_blocks(Range rows, int64_t columns, F&& f) {
    for (int64_t begin = rows.begin; begin < rows.end; begin += BLOCK)
        for (int64_t column = 0; column < columns; column += COLUMNS)
            f(Range{begin, std::min(begin + BLOCK, rows.end)}, Columns{column, std::min(COLUMNS, columns - column)});
}

template <class Number>
void add_row(const Number* __restrict x, int64_t columns, float* __restrict sum) {
    for (int64_t c = 0; c < columns; ++c) sum[c] += load(x + c);
}

template <class Number>
void add_squares(const Number* __restrict x, const float* __restrict mean, int64_t columns, float* __restrict sum) {
    for (int64_t c = 0; c < columns; ++c) {
        const float distance = load(x + c) - mean[c];
        sum[c] += distance * distance;
    }
}

// Adds the rows of a block to the moments of earlier rows (Chan et al.): their sums, and the sums of their squared
// distances from the mean.
template <class Number>
void add_moments(const Forward<Number>& f, Range rows, Columns columns, int64_t earlier, double* sums, double* squares) {
    float sum[COLUMNS] = {}, mean[COLUMNS], square[COLUMNS] = {};
    const int64_t count = rows.end - rows.begin;
    for (int64_t r = rows.begin; r < rows.end; ++r) add_row(f.x + r * f.columns + columns.begin, columns.count, sum);
    for (int64_t c = 0; c < columns.count; ++c) mean[c] = sum[c] / static_cast<float>(count);
    for (int64_t r = rows.begin; r < rows.end; ++r)
        add_squares(f.x + r * f.columns + columns.begin, mean, columns.count, square);
    const double share = earlier ? static_cast<double>(earlier) * count / (earlier + count) : 0;
    for (int64_t c = 0; c < columns.count; ++c) {
        double& total = sums[columns.begin + c];
        const double apart = earlier ? total / earlier - mean[c] : 0;
        squares[columns.begin + c] += square[c] + apart * apart * share;
        total += sum[c];
    }
}

template <class Number>
void finish_moments(const Forward<Number>& f, const double* work, int threads) {
    for (int64_t c = 0; c < f.columns; ++c) {
        double sum = 0, square = 0;
        int64_t earlier = 0;
        for (int t = 0; t < threads; ++t) {
            const Range part = share(f.rows, t, threads);
            const int64_t count = part.end - part.begin;
            if (!count) continue;
            const double* own = work + 2 * t * f.columns;
            const double apart = earlier ? sum / earlier - own[c] / count : 0;
            square += own[f.columns + c] + (earlier ? apart * apart * earlier * count / (earlier + count) : 0);
            sum += own[c];
            earlier += count;
        }
        const double mean = sum / f.rows, variance = square / f.rows, scale = f.weight[c] / std::sqrt(variance + f.eps);
        f.mean[c] = static_cast<float>(mean);
        f.variance[c] = static_cast<float>(variance);
        f.scale[c] = static_cast<float>(scale);
        f.shift[c] = static_cast<float>(f.bias[c] - mean * scale);
    }
}

// What becomes of a negative number: a ReLU makes 0 of an infinite one, too.
inline float lowered(float number, float slope) { return slope == 0 ? 0 : number * slope; }

// LeakyReLU; NaN stays NaN.
inline float activate(float number, float slope) { return number < 0 ? lowered(number, slope) : number; }

template <bool ADDS, class Number>
void write_row(const Number* __restrict x, const Number* __restrict residual, const float* __restrict scale,
               const float* __restrict shift, float slope, int64_t columns, Number* __restrict out) {
    for (int64_t c = 0; c < columns; ++c) {
        const float number = load(x + c) * scale[c] + shift[c];
        store(out + c, activate(ADDS ? number + load(residual + c) : number, slope));
    }
}

template <class Number>
void write_results(const Forward<Number>& f, Range rows) {
    for (int64_t r = rows.begin; r < rows.end; ++r) {
        const int64_t at = r * f.columns;
        if (f.residual)
            write_row<true>(f.x + at, f.residual + at, f.scale, f.shift, f.slope, f.columns, f.out + at);
        else
            write_row<false>(f.x + at, f.x + at, f.scale, f.shift, f.slope, f.columns, f.out + at);
    }
}

int useful_threads(int64_t rows, int64_t columns, int64_t threads) {
    return rows * columns < LEAST_NUMBERS ? 1 : static_cast<int>(threads);
}

// work: for each thread 2 * columns numbers.
template <class Number>
void forward(const Forward<Number>& f, double* work, int64_t threads) {
    int used = 1;
    parallel(useful_threads(f.rows, f.columns, threads), [&](int thread, int of) {
        if (thread == 0) used = of;
        double* sums = work + 2 * thread * f.columns;
        std::fill(sums, sums + 2 * f.columns, 0.0);
        const Range mine = share(f.rows, thread, of);
        for_blocks(mine, f.columns, [&](Range rows, Columns columns) {
            add_moments(f, rows, columns, rows.begin - mine.begin, sums, sums + f.columns);
        });
    });
    finish_moments(f, work, used);
    parallel(used, [&](int thread, int of) { write_results(f, share(f.rows, thread, of)); });
}

// The gradient before the activation, of one number.
template <bool ACTIVE, class Number>
inline float gradient(const Number* grad, const Number* out, int64_t c, float slope) {
    const float g = load(grad + c);
    if constexpr (ACTIVE) return load(out + c) <= 0 ? lowered(g, slope) : g;
    return g;
}

template <bool ACTIVE, class Number>
void add_row(const Number* __restrict grad, const Number* __restrict out, const Number* __restrict x,
             const float* __restrict mean, float slope, int64_t columns, float* __restrict sum,
             float* __restrict product) {
    for (int64_t c = 0; c < columns; ++c) {
        const float g = gradient<ACTIVE>(grad, out, c, slope);
        sum[c] += g;
        product[c] += g * (load(x + c) - mean[c]);
    }
}

// Adds g and g * (x - mean) over the rows of a block.
template <bool ACTIVE, class Number>
void add_gradients(const Backward<Number>& b, Range rows, Columns columns, double* sums, double* products) {
    float sum[COLUMNS] = {}, product[COLUMNS] = {};
    for (int64_t r = rows.begin; r < rows.end; ++r) {
        const int64_t at = r * b.columns + columns.begin;
        add_row<ACTIVE>(b.grad + at, b.out + at, b.x + at, b.mean + columns.begin, b.slope, columns.count, sum, product);
    }
    for (int64_t c = 0; c < columns.count; ++c) {
        sums[columns.begin + c] += sum[c];
        products[columns.begin + c] += product[c];
    }
}

// Adds up the sums of all threads; leaves in `work` what write_gradients takes: factors of g and of x, and an offset.
template <class Number>
void finish_gradients(const Backward<Number>& b, double* work, float* factors, int threads) {
    for (int64_t c = 0; c < b.columns; ++c) {
        double sum = 0, product = 0;
        for (int t = 0; t < threads; ++t) {
            sum += work[2 * t * b.columns + c];
            product += work[(2 * t + 1) * b.columns + c];
        }
        const double inverse = 1 / std::sqrt(static_cast<double>(b.variance[c]) + b.eps), scale = b.weight[c] * inverse;
        b.grad_bias[c] = static_cast<float>(sum);
        b.grad_weight[c] = static_cast<float>(product * inverse);
        // scale * (g - mean of g - (x - mean) * inverse^2 * mean of g * (x - mean))
        factors[c] = static_cast<float>(scale);
        factors[b.columns + c] = static_cast<float>(-scale * inverse * inverse * product / b.rows);
        factors[2 * b.columns + c] = static_cast<float>(-scale * sum / b.rows);
    }
}

template <bool ACTIVE, class Number>
void write_row(const Number* __restrict grad, const Number* __restrict out, const Number* __restrict x,
               const float* __restrict mean, const float* __restrict factors, float slope, int64_t columns,
               Number* __restrict grad_x) {
    for (int64_t c = 0; c < columns; ++c) {
        const float g = gradient<ACTIVE>(grad, out, c, slope);
        store(grad_x + c, g * factors[c] + (load(x + c) - mean[c]) * factors[columns + c] + factors[2 * columns + c]);
    }
}

template <class Number>
void write_residual(const Number* __restrict grad, const Number* __restrict out, float slope, int64_t columns,
                    Number* __restrict grad_residual) {
    for (int64_t c = 0; c < columns; ++c) store(grad_residual + c, gradient<true>(grad, out, c, slope));
}

template <bool ACTIVE, class Number>
void write_gradients(const Backward<Number>& b, const float* factors, Range rows) {
    for (int64_t r = rows.begin; r < rows.end; ++r) {
        const int64_t at = r * b.columns;
        write_row<ACTIVE>(b.grad + at, b.out + at, b.x + at, b.mean, factors, b.slope, b.columns, b.grad_x + at);
        if (b.grad_residual) write_residual(b.grad + at, b.out + at, b.slope, b.columns, b.grad_residual + at);
    }
}

// work: for each thread 2 * columns numbers; factors: 3 * columns.
template <bool ACTIVE, class Number>
void backward(const Backward<Number>& b, double* work, float* factors, int64_t threads) {
    int used = 1;
    parallel(useful_threads(b.rows, b.columns, threads), [&](int thread, int of) {
        if (thread == 0) used = of;
        double* sums = work + 2 * thread * b.columns;
        std::fill(sums, sums + 2 * b.columns, 0.0);
        for_blocks(share(b.rows, thread, of), b.columns, [&](Range rows, Columns columns) {
            add_gradients<ACTIVE>(b, rows, columns, sums, sums + b.columns);
        });
    });
    finish_gradients(b, work, factors, used);
    parallel(used, [&](int thread, int of) { write_gradients<ACTIVE>(b, factors, share(b.rows, thread, of)); });
}

}  // namespace

// `about`: mean, variance, and two more rows of `columns` numbers.
NATIVE_EXPORT void native_norm_forward(const void* x, const void* residual, const float* weight, const float* bias,
                                       int64_t bf16, int64_t rows, int64_t columns, float eps, float slope, void* out,
                                       float* about, double* work, int64_t threads) {
    auto run = [&](auto* number) {
        using Number = std::remove_pointer_t<decltype(number)>;
        forward<Number>({static_cast<const Number*>(x), static_cast<const Number*>(residual), weight, bias,
                         static_cast<Number*>(out), about, about + columns, about + 2 * columns, about + 3 * columns, rows,
                         columns, eps, slope},
                        work, threads);
    };
    bf16 ? run(static_cast<uint16_t*>(nullptr)) : run(static_cast<float*>(nullptr));
}

// `about`: as native_norm_forward has written it. `gradients`: those of weight and bias, and three more rows.
NATIVE_EXPORT void native_norm_backward(const void* grad, const void* out, const void* x, const float* weight,
                                        const float* about, int64_t bf16, int64_t rows, int64_t columns, float eps,
                                        float slope, void* grad_x, void* grad_residual, float* gradients, double* work,
                                        int64_t threads) {
    auto run = [&](auto* number) {
        using Number = std::remove_pointer_t<decltype(number)>;
        const Backward<Number> b{static_cast<const Number*>(grad), static_cast<const Number*>(out),
                                 static_cast<const Number*>(x), weight, about, about + columns,
                                 static_cast<Number*>(grad_x), static_cast<Number*>(grad_residual), gradients,
                                 gradients + columns, rows, columns, eps, slope};
        out ? backward<true>(b, work, gradients + 2 * columns, threads)
            : backward<false>(b, work, gradients + 2 * columns, threads);
    };
    bf16 ? run(static_cast<uint16_t*>(nullptr)) : run(static_cast<float*>(nullptr));
}
