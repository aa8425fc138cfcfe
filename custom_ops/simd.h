// The inner loops, in one version per instruction set, chosen when the library is loaded.
//
// Each isa_*.cc is compiled with its own flags and holds nothing but its table: no templates and no inline
// functions of the standard library, because the linker would keep one copy for everyone, perhaps one this
// CPU cannot run.
#pragma once

#include <cstddef>
#include <cstdint>

namespace spikec {

struct Kernels {
  const char* name;
  // acc[i] += value * row[i], product and sum each rounded, as numpy does.
  void (*accumulate_f64)(double* acc, const float* row, double value, std::size_t n);
  // The same in integers, modulo 2**32.
  void (*accumulate_i32)(std::int32_t* acc, const std::int8_t* row, std::int32_t value, std::size_t n);
};

extern const Kernels kGeneric;
extern const Kernels kAvx2;
extern const Kernels kAvx512;
extern const Kernels kAvx512Vnni;

// The best version this CPU runs, or the one that SPIKEC_ISA names.
const Kernels& kernels();

// Why SPIKEC_ISA could not be obeyed; empty when it could.
const char* isa_problem();

}  // namespace spikec
