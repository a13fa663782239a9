#include "isa.h"

#include "parallel.h"

namespace {

// What was compiled into this library.
#if defined(NATIVE_AMX)
constexpr native::Isa compiled = native::amx;
#elif defined(NATIVE_AVX512BF16)
constexpr native::Isa compiled = native::avx512bf16;
#elif defined(NATIVE_AVX512)
constexpr native::Isa compiled = native::avx512;
#else
constexpr native::Isa compiled = native::avx2;
#endif

native::Isa allowed = native::avx2;

}  // namespace

native::Isa native::isa() { return allowed; }

NATIVE_EXPORT int32_t native_isa() { return allowed; }

// Allows the instructions up to `wanted`, as far as they were compiled; returns what is allowed now.
NATIVE_EXPORT int32_t native_allow_isa(int32_t wanted) {
    allowed = wanted < compiled ? static_cast<native::Isa>(wanted) : compiled;
    return allowed;
}
