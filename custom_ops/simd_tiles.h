// The innermost tiles of codes times weights, for whatever instruction set the including file is compiled for.
//
// MLAS has no product of integer codes with float32 weights summed in float64, which is what makes packed equal to
// unrolled. A code has at most 29 bits and a weight 24, so every product is exact and fused multiply-adds change
// nothing; int8 weights times int16 codes sum exactly in int32 (the caller checks).
#pragma once

#include "simd.h"

#ifdef __AVX2__
#include <immintrin.h>
#endif

namespace spikec {

// c[r][j] += Σ_k a[k][r]·b[k][j], r < kWideRows, j < kWideColumns.
static void tile_f64(const double* a, const double* b, double* c, std::size_t depth) {
#if defined(__AVX2__) && defined(__FMA__)
  static_assert(kWideRows == 4 && kWideColumns == 12);
  // Named, not an array: GCC 12 would store an array's registers at every step.
  __m256d x0 = _mm256_loadu_pd(c + 0), y0 = _mm256_loadu_pd(c + 4), z0 = _mm256_loadu_pd(c + 8);
  __m256d x1 = _mm256_loadu_pd(c + 12), y1 = _mm256_loadu_pd(c + 16), z1 = _mm256_loadu_pd(c + 20);
  __m256d x2 = _mm256_loadu_pd(c + 24), y2 = _mm256_loadu_pd(c + 28), z2 = _mm256_loadu_pd(c + 32);
  __m256d x3 = _mm256_loadu_pd(c + 36), y3 = _mm256_loadu_pd(c + 40), z3 = _mm256_loadu_pd(c + 44);
  for (std::size_t k = 0; k < depth; ++k, a += kWideRows, b += kWideColumns) {
    const __m256d x = _mm256_loadu_pd(b), y = _mm256_loadu_pd(b + 4), z = _mm256_loadu_pd(b + 8);
    __m256d code;
    code = _mm256_broadcast_sd(a + 0);
    x0 = _mm256_fmadd_pd(code, x, x0), y0 = _mm256_fmadd_pd(code, y, y0), z0 = _mm256_fmadd_pd(code, z, z0);
    code = _mm256_broadcast_sd(a + 1);
    x1 = _mm256_fmadd_pd(code, x, x1), y1 = _mm256_fmadd_pd(code, y, y1), z1 = _mm256_fmadd_pd(code, z, z1);
    code = _mm256_broadcast_sd(a + 2);
    x2 = _mm256_fmadd_pd(code, x, x2), y2 = _mm256_fmadd_pd(code, y, y2), z2 = _mm256_fmadd_pd(code, z, z2);
    code = _mm256_broadcast_sd(a + 3);
    x3 = _mm256_fmadd_pd(code, x, x3), y3 = _mm256_fmadd_pd(code, y, y3), z3 = _mm256_fmadd_pd(code, z, z3);
  }
  _mm256_storeu_pd(c + 0, x0), _mm256_storeu_pd(c + 4, y0), _mm256_storeu_pd(c + 8, z0);
  _mm256_storeu_pd(c + 12, x1), _mm256_storeu_pd(c + 16, y1), _mm256_storeu_pd(c + 20, z1);
  _mm256_storeu_pd(c + 24, x2), _mm256_storeu_pd(c + 28, y2), _mm256_storeu_pd(c + 32, z2);
  _mm256_storeu_pd(c + 36, x3), _mm256_storeu_pd(c + 40, y3), _mm256_storeu_pd(c + 44, z3);
#else
  for (std::size_t k = 0; k < depth; ++k)
    for (std::size_t r = 0; r < kWideRows; ++r)
      for (std::size_t j = 0; j < kWideColumns; ++j)
        c[r * kWideColumns + j] += a[k * kWideRows + r] * b[k * kWideColumns + j];
#endif
}

// The same with int16 codes and weights in pairs along k: a[k/2][r][2], b[k/2][j][2].
static void tile_i16(const std::int16_t* a, const std::int16_t* b, std::int32_t* c, std::size_t pairs) {
#ifdef __AVX2__
  static_assert(kNarrowRows == 6 && kNarrowColumns == 8);
  const auto at = [](std::int32_t* p) { return reinterpret_cast<__m256i*>(p); };
  const auto step = [](__m256i sum, const std::int16_t* pair, __m256i weights) {
    std::int32_t codes;
    __builtin_memcpy(&codes, pair, sizeof codes);
#ifdef __AVX512VNNI__
    return _mm256_dpwssd_epi32(sum, _mm256_set1_epi32(codes), weights);
#else
    return _mm256_add_epi32(sum, _mm256_madd_epi16(_mm256_set1_epi32(codes), weights));
#endif
  };
  __m256i s0 = _mm256_loadu_si256(at(c + 0));
  __m256i s1 = _mm256_loadu_si256(at(c + 8));
  __m256i s2 = _mm256_loadu_si256(at(c + 16));
  __m256i s3 = _mm256_loadu_si256(at(c + 24));
  __m256i s4 = _mm256_loadu_si256(at(c + 32));
  __m256i s5 = _mm256_loadu_si256(at(c + 40));
  for (std::size_t k = 0; k < pairs; ++k, a += 2 * kNarrowRows, b += 2 * kNarrowColumns) {
    const __m256i weights = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(b));
    s0 = step(s0, a + 0, weights);
    s1 = step(s1, a + 2, weights);
    s2 = step(s2, a + 4, weights);
    s3 = step(s3, a + 6, weights);
    s4 = step(s4, a + 8, weights);
    s5 = step(s5, a + 10, weights);
  }
  _mm256_storeu_si256(at(c + 0), s0);
  _mm256_storeu_si256(at(c + 8), s1);
  _mm256_storeu_si256(at(c + 16), s2);
  _mm256_storeu_si256(at(c + 24), s3);
  _mm256_storeu_si256(at(c + 32), s4);
  _mm256_storeu_si256(at(c + 40), s5);
#else
  for (std::size_t k = 0; k < pairs; ++k)
    for (std::size_t r = 0; r < kNarrowRows; ++r)
      for (std::size_t j = 0; j < kNarrowColumns; ++j)
        for (std::size_t i = 0; i < 2; ++i)
          c[r * kNarrowColumns + j] += static_cast<std::int32_t>(a[2 * (k * kNarrowRows + r) + i]) *
                                     static_cast<std::int32_t>(b[2 * (k * kNarrowColumns + j) + i]);
#endif
}

}  // namespace spikec
