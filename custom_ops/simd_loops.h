// Plain loops that the compiler vectorises for whatever instruction set the including file is compiled for.
// Everything is static, so each including file has its own copy (see simd.h). An intrinsic version of a loop
// goes in its isa_*.cc.
#pragma once

#include "simd.h"

namespace spikec {

static void accumulate_f64(double* __restrict acc, const float* __restrict row, double value, std::size_t n) {
  for (std::size_t i = 0; i < n; ++i) acc[i] += value * row[i];
}

static void accumulate_i32(std::int32_t* __restrict acc, const std::int8_t* __restrict row,
                           std::int32_t value, std::size_t n) {
  const auto factor = static_cast<std::uint32_t>(value);  // unsigned: overflow wraps, as in numpy
  for (std::size_t i = 0; i < n; ++i)
    acc[i] = static_cast<std::int32_t>(static_cast<std::uint32_t>(acc[i]) +
                                       factor * static_cast<std::uint32_t>(row[i]));
}

}  // namespace spikec
