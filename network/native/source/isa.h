// The instructions that may be used on this CPU: chosen once by Python, read where a function has several versions.
#pragma once

#include <cstdint>

namespace native {

// Each contains the ones before it. amx: tiles of bfloat16.
enum Isa : int32_t { avx2 = 1, avx512 = 2, avx512bf16 = 3, amx = 4 };

// The most that may be used. Files for instructions that the compiler does not know are left out of the library, so
// that calls of their functions stand in `#ifdef NATIVE_AVX512`, `NATIVE_AVX512BF16` or `NATIVE_AMX`.
Isa isa();

}  // namespace native
