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

// Rows and columns of the products' innermost tiles: as many sums as fit an instruction set's registers.
inline constexpr std::size_t kWideRows = 4, kWideColumns = 12;
inline constexpr std::size_t kNarrowRows = 6, kNarrowColumns = 8;

struct Kernels {
  const char* name;

  // Codes times weights (simd_tiles.h).
  void (*tile_f64)(const double* a, const double* b, double* c, std::size_t depth);
  void (*tile_i16)(const std::int16_t* a, const std::int16_t* b, std::int32_t* c, std::size_t pairs);

  // Accumulation. acc[i] += value * row[i], product and sum each rounded, as numpy does.
  void (*accumulate_f64)(double* acc, const float* row, double value, std::size_t n);
  void (*accumulate_wide)(double* acc, const double* row, double value, std::size_t n);
  void (*accumulate_i8)(double* acc, const std::int8_t* row, double value, std::size_t n);

  // OATEncode: the magnitude's code, and the sign times the weight of the range it falls in.
  void (*oat_code)(const float* x, std::int32_t* magnitude, std::int32_t* gate, std::size_t n, float scale,
                   std::int32_t levels, std::int32_t ratio, int ranges);
  // code[i] *= gate[i]
  void (*weigh)(std::int32_t* code, const std::int32_t* gate, std::size_t n);
  // One timestep of OATEncode: fires ±gate where the membrane reaches the threshold, which is then subtracted.
  void (*fire)(float* membrane, const std::int32_t* gate, std::int32_t* spikes, std::size_t n, float threshold);
  // The membrane before the first step: z/gate + ½, at most levels + ½.
  void (*charge)(const float* x, const std::int32_t* gate, float* membrane, std::size_t n, float scale,
                 std::int32_t levels);

  // Bit-serial neuron: how many thresholds of its row (of 2**bits entries, at offset[i]) x[i] has passed.
  void (*bit_serial)(const float* x, const std::int32_t* offset, std::int32_t* code, std::size_t n,
                     const float* thresholds, int bits);
  // The same for x in [0, 1) and one row of thresholds, followed by +∞: start[⌊x·buckets⌋] thresholds lie below the
  // bucket of x and at most `most` in it, so only these are compared.
  void (*bit_serial_hinted)(const float* x, std::int32_t* code, std::size_t n, const float* thresholds,
                            const std::int32_t* start, float buckets, int most);
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

  // Norms: the largest magnitude of a row, its integer code (at most 2**20), and Σ code².
  float (*largest)(const float* x, std::size_t n);
  float (*largest_magnitude)(const float* x, std::size_t n);
  void (*row_code)(const float* x, std::int32_t* code, std::size_t n, float step);
  double (*sum_of_squares)(const std::int32_t* code, std::size_t n);
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
