// Plain loops that the compiler vectorises for whatever instruction set the including file is compiled for.
// Everything is static, so each including file has its own copy (see simd.h). An intrinsic version of a loop
// goes in its isa_*.cc. ⌊z⌋ of z ≥ 0 is a conversion to an integer, which every instruction set has.
#pragma once

#include "simd_tiles.h"

namespace spikec {

static inline float magnitude(float x) { return __builtin_fabsf(x); }

static inline std::int32_t rounded(float z) {
  const float half_up = z + 0.5f;
  return static_cast<std::int32_t>(half_up < 1e9f ? half_up : 1e9f);
}

static void accumulate_f64(double* __restrict acc, const float* __restrict row, double value, std::size_t n) {
  for (std::size_t i = 0; i < n; ++i) acc[i] += value * row[i];
}

static void accumulate_wide(double* __restrict acc, const double* __restrict row, double value, std::size_t n) {
  for (std::size_t i = 0; i < n; ++i) acc[i] += value * row[i];
}

static void accumulate_i8(double* __restrict acc, const std::int8_t* __restrict row, double value,
                          std::size_t n) {
  for (std::size_t i = 0; i < n; ++i) acc[i] += value * row[i];
}

static void oat_code(const float* __restrict x, std::int32_t* __restrict code, std::int32_t* __restrict gate,
                     std::size_t n, float scale, std::int32_t levels, std::int32_t ratio, int ranges) {
  float z[kBlock];
  for (std::size_t i = 0; i < n; ++i) {
    z[i] = magnitude(x[i]) / scale;
    code[i] = rounded(z[i]);
    gate[i] = 1;
  }
  std::int32_t weight = 1;
  for (int range = 1; range < ranges; ++range) {
    weight *= ratio;
    const float finer = 1.0f / static_cast<float>(weight);  // a power of two: exact
    for (std::size_t i = 0; i < n; ++i) {
      const std::int32_t wide = rounded(z[i] * finer);
      const bool beyond = code[i] > levels;
      code[i] = beyond ? wide : code[i];
      gate[i] = beyond ? weight : gate[i];
    }
  }
  for (std::size_t i = 0; i < n; ++i) {
    code[i] = code[i] < levels ? code[i] : levels;
    gate[i] = x[i] < 0 ? -gate[i] : x[i] > 0 ? gate[i] : 0;
  }
}

static void charge(const float* __restrict x, const std::int32_t* __restrict gate, float* __restrict membrane,
                   std::size_t n, float scale, std::int32_t levels) {
  const float most = static_cast<float>(levels) + 0.5f;
  for (std::size_t i = 0; i < n; ++i) {
    const auto weight = static_cast<float>(gate[i] < 0 ? -gate[i] : gate[i] > 0 ? gate[i] : 1);
    const float start = magnitude(x[i]) / scale / weight + 0.5f;
    membrane[i] = start < most ? start : most;
  }
}

static void fire(float* __restrict membrane, const std::int32_t* __restrict gate, std::int32_t* __restrict spikes,
                 std::size_t n, float threshold) {
  for (std::size_t i = 0; i < n; ++i) {
    const bool spike = membrane[i] >= threshold;
    membrane[i] -= spike ? threshold : 0.0f;
    spikes[i] = spike ? gate[i] : 0;
  }
}

static void bit_serial(const float* __restrict x, const std::int32_t* __restrict offset,
                       std::int32_t* __restrict code, std::size_t n, const float* __restrict thresholds,
                       int bits) {
  for (std::size_t i = 0; i < n; ++i) code[i] = 0;
  for (std::int32_t bit = 1 << (bits - 1); bit; bit >>= 1)
    for (std::size_t i = 0; i < n; ++i)
      code[i] += x[i] > thresholds[offset[i] + code[i] + bit] ? bit : 0;
}

static void bit_serial_hinted(const float* __restrict x, std::int32_t* __restrict code, std::size_t n,
                              const float* __restrict thresholds, const std::int32_t* __restrict start,
                              float buckets, int most) {
  const float last = buckets - 1;
  std::int32_t below[kBlock];
  for (std::size_t i = 0; i < n; ++i) {
    const float bucket = x[i] * buckets;
    below[i] = code[i] = start[static_cast<std::int32_t>(bucket < last ? bucket : last)];
  }
  for (int next = 1; next <= most; ++next)
    for (std::size_t i = 0; i < n; ++i) code[i] += x[i] > thresholds[below[i] + next] ? 1 : 0;
}

static void segment(const float* __restrict x, std::int32_t* __restrict found, std::size_t n,
                    const float* __restrict edges, std::size_t count) {
  constexpr std::size_t kLanes = 32;  // counters that stay in registers while all edges pass
  std::size_t i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    std::int32_t passed[kLanes] = {};
    for (std::size_t k = 1; k < count; ++k)
      for (std::size_t j = 0; j < kLanes; ++j) passed[j] += x[i + j] > edges[k] ? 1 : 0;
    for (std::size_t j = 0; j < kLanes; ++j) found[i + j] = passed[j];
  }
  for (; i < n; ++i) {
    found[i] = 0;
    for (std::size_t k = 1; k < count; ++k) found[i] += x[i] > edges[k] ? 1 : 0;
  }
}

static void weigh(std::int32_t* __restrict code, const std::int32_t* __restrict gate, std::size_t n) {
  for (std::size_t i = 0; i < n; ++i) code[i] *= gate[i];
}

static void exp2_split(const float* __restrict x, float largest, float reach, float* __restrict fraction,
                       std::int32_t* __restrict exponent, std::size_t n) {
  for (std::size_t i = 0; i < n; ++i) {
    const float raw = (x[i] - largest) * 1.4426950408889634f;
    const bool alive = raw > reach;
    const float t = alive ? raw : reach;
    std::int32_t whole = static_cast<std::int32_t>(t);
    whole -= static_cast<float>(whole) > t ? 1 : 0;
    fraction[i] = t - static_cast<float>(whole);
    exponent[i] = alive ? whole : kSilent;
  }
}

// 2**e for -1000 < e < 1000, by its bits.
static inline double power_of_two(std::int64_t e) {
  const std::int64_t bits = (e + 1023) << 52;
  double value;
  __builtin_memcpy(&value, &bits, sizeof value);
  return value;
}

static void exp2_join(const std::int32_t* __restrict code, const std::int32_t* __restrict exponent,
                      double* __restrict p, std::size_t n, int bits) {
  for (std::size_t i = 0; i < n; ++i) {
    const bool alive = exponent[i] != kSilent;
    const double mantissa = static_cast<double>(code[i] + (1 << bits));
    p[i] = alive ? mantissa * power_of_two((alive ? exponent[i] : 0) - bits) : 0.0;
  }
}

static void scale_wide(const double* __restrict x, double factor, double scale, float* __restrict y,
                       std::size_t n) {
  for (std::size_t i = 0; i < n; ++i) y[i] = static_cast<float>(x[i] * factor * scale);
}

static void scale_narrow(const float* __restrict x, double factor, double scale, float* __restrict y,
                         std::size_t n) {
  for (std::size_t i = 0; i < n; ++i) y[i] = static_cast<float>(x[i] * factor * scale);
}

static float largest(const float* x, std::size_t n) {
  float most = x[0];
  for (std::size_t i = 1; i < n; ++i) most = x[i] > most ? x[i] : most;
  return most;
}

static float largest_magnitude(const float* x, std::size_t n) {
  float most = 0;
  for (std::size_t i = 0; i < n; ++i) most = magnitude(x[i]) > most ? magnitude(x[i]) : most;
  return most;
}

static void row_code(const float* __restrict x, std::int32_t* __restrict code, std::size_t n, float step) {
  for (std::size_t i = 0; i < n; ++i) {
    const std::int32_t size = rounded(magnitude(x[i]) / step);
    code[i] = x[i] < 0 ? -size : size;
  }
}

static double sum_of_squares(const std::int32_t* code, std::size_t n) {
  double sum = 0;
  for (std::size_t first = 0; first < n; first += kBlock) {
    std::int64_t part = 0;
    for (std::size_t i = first; i < n && i < first + kBlock; ++i) {
      const std::int64_t c = code[i];
      part += c * c;
    }
    sum += static_cast<double>(part);
  }
  return sum;
}

// The table's entries.
#define SPIKEC_LOOPS                                                                                   \
  .tile_f64 = tile_f64, .tile_i16 = tile_i16, .accumulate_f64 = accumulate_f64, .accumulate_wide = accumulate_wide, .accumulate_i8 = accumulate_i8,    \
  .oat_code = oat_code, .weigh = weigh, .fire = fire, .charge = charge, .bit_serial = bit_serial, .bit_serial_hinted = bit_serial_hinted,      \
  .segment = segment,          \
  .exp2_split = exp2_split, .exp2_join = exp2_join, .scale_wide = scale_wide, .scale_narrow = scale_narrow,  \
  .largest = largest, .largest_magnitude = largest_magnitude, .row_code = row_code,                            \
  .sum_of_squares = sum_of_squares

}  // namespace spikec
