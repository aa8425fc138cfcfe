// The inner loops, in one version per instruction set, chosen when the library is loaded.
//
// Each isa_*.cc is compiled with its own flags and holds nothing but its table: no templates and no inline
// functions of the standard library, because the linker would keep one copy for everyone, perhaps one this
// CPU cannot run.
#pragma once

#include <cstddef>
#include <cstdint>

namespace spikec {

// Elements that the loops over a block of scratch take at most.
inline constexpr std::size_t kBlock = 256;

struct Kernels {
  const char* name;

  // Accumulation. acc[i] += value * row[i], product and sum each rounded, as numpy does.
  void (*accumulate_f64)(double* acc, const float* row, double value, std::size_t n);
  void (*accumulate_wide)(double* acc, const double* row, double value, std::size_t n);
  // The same in integers, modulo 2**32.
  void (*accumulate_i32)(std::int32_t* acc, const std::int8_t* row, std::int32_t value, std::size_t n);

  // OATEncode: the magnitude's code, and the sign times the weight of the range it falls in.
  void (*oat_code)(const float* x, std::int32_t* magnitude, std::int32_t* gate, std::size_t n, float scale,
                   std::int32_t levels, std::int32_t ratio, int ranges);
  // Codes to int8 planes, least significant first: code = Σ 256**j · plane_j, every plane signed.
  void (*split_planes)(const std::int32_t* code, std::int8_t* planes, std::size_t stride, std::size_t n, int count);

  // Bit-serial neuron: how many thresholds of its row (of 2**bits entries, at offset[i]) x[i] has passed.
  void (*bit_serial)(const float* x, const std::int32_t* offset, std::int32_t* code, std::size_t n,
                     const float* thresholds, int bits);
  // max(0, #{edges < x} - 1)
  void (*segment)(const float* x, std::int32_t* segment, std::size_t n, const float* edges, std::size_t count);

  // SpikeSoftmax: t = (x - largest)·log₂e split into exponent and fraction; then p = 2**(e-bits)·(2**bits + code).
  // A silent entry (t not above the reach) has exponent kSilent and p = 0.
  void (*exp2_split)(const float* x, float largest, float reach, float* fraction, std::int32_t* exponent,
                     std::size_t n);
  void (*exp2_join)(const std::int32_t* code, const std::int32_t* exponent, double* p, std::size_t n, int bits);
  // y[i] = (x[i]·factor)·scale, rounded once at the end.
  void (*scale_wide)(const double* x, double factor, double scale, float* y, std::size_t n);
  void (*scale_narrow)(const float* x, double factor, double scale, float* y, std::size_t n);

  // Norms: the largest magnitude of a row, and its integer code.
  float (*largest)(const float* x, std::size_t n);
  float (*largest_magnitude)(const float* x, std::size_t n);
  void (*row_code)(const float* x, std::int32_t* code, std::size_t n, float step);
};

inline constexpr std::int32_t kSilent = -100000;

extern const Kernels kGeneric;
extern const Kernels kAvx2;
extern const Kernels kAvx512;
extern const Kernels kAvx512Vnni;

// The best version this CPU runs, or the one that SPIKEC_ISA names.
const Kernels& kernels();

// Why SPIKEC_ISA could not be obeyed; empty when it could.
const char* isa_problem();

}  // namespace spikec
