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

// c[r][j] += Σ_k a[k][r]·b[k][j], r < kTileRows, j < kTileColumns.
static void tile_f64(const double* a, const float* b, double* c, std::size_t depth) {
#if defined(__AVX2__) && defined(__FMA__)
  static_assert(kTileRows == 6 && kTileColumns == 8);
  // Named, not an array: GCC 12 would store an array's registers at every step.
  __m256d l0 = _mm256_loadu_pd(c + 0), r0 = _mm256_loadu_pd(c + 4);
  __m256d l1 = _mm256_loadu_pd(c + 8), r1 = _mm256_loadu_pd(c + 12);
  __m256d l2 = _mm256_loadu_pd(c + 16), r2 = _mm256_loadu_pd(c + 20);
  __m256d l3 = _mm256_loadu_pd(c + 24), r3 = _mm256_loadu_pd(c + 28);
  __m256d l4 = _mm256_loadu_pd(c + 32), r4 = _mm256_loadu_pd(c + 36);
  __m256d l5 = _mm256_loadu_pd(c + 40), r5 = _mm256_loadu_pd(c + 44);
#pragma GCC unroll 4
  for (std::size_t k = 0; k < depth; ++k, a += kTileRows, b += kTileColumns) {
    const __m256d left = _mm256_cvtps_pd(_mm_loadu_ps(b)), right = _mm256_cvtps_pd(_mm_loadu_ps(b + 4));
    __m256d code;
    code = _mm256_broadcast_sd(a + 0);
    l0 = _mm256_fmadd_pd(code, left, l0), r0 = _mm256_fmadd_pd(code, right, r0);
    code = _mm256_broadcast_sd(a + 1);
    l1 = _mm256_fmadd_pd(code, left, l1), r1 = _mm256_fmadd_pd(code, right, r1);
    code = _mm256_broadcast_sd(a + 2);
    l2 = _mm256_fmadd_pd(code, left, l2), r2 = _mm256_fmadd_pd(code, right, r2);
    code = _mm256_broadcast_sd(a + 3);
    l3 = _mm256_fmadd_pd(code, left, l3), r3 = _mm256_fmadd_pd(code, right, r3);
    code = _mm256_broadcast_sd(a + 4);
    l4 = _mm256_fmadd_pd(code, left, l4), r4 = _mm256_fmadd_pd(code, right, r4);
    code = _mm256_broadcast_sd(a + 5);
    l5 = _mm256_fmadd_pd(code, left, l5), r5 = _mm256_fmadd_pd(code, right, r5);
  }
  _mm256_storeu_pd(c + 0, l0), _mm256_storeu_pd(c + 4, r0);
  _mm256_storeu_pd(c + 8, l1), _mm256_storeu_pd(c + 12, r1);
  _mm256_storeu_pd(c + 16, l2), _mm256_storeu_pd(c + 20, r2);
  _mm256_storeu_pd(c + 24, l3), _mm256_storeu_pd(c + 28, r3);
  _mm256_storeu_pd(c + 32, l4), _mm256_storeu_pd(c + 36, r4);
  _mm256_storeu_pd(c + 40, l5), _mm256_storeu_pd(c + 44, r5);
#else
  for (std::size_t k = 0; k < depth; ++k)
    for (std::size_t r = 0; r < kTileRows; ++r)
      for (std::size_t j = 0; j < kTileColumns; ++j)
        c[r * kTileColumns + j] += a[k * kTileRows + r] * static_cast<double>(b[k * kTileColumns + j]);
#endif
}

// The same with int16 codes and weights in pairs along k: a[k/2][r][2], b[k/2][j][2].
static void tile_i16(const std::int16_t* a, const std::int16_t* b, std::int32_t* c, std::size_t pairs) {
#ifdef __AVX2__
  static_assert(kTileRows == 6 && kTileColumns == 8);
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
  for (std::size_t k = 0; k < pairs; ++k, a += 2 * kTileRows, b += 2 * kTileColumns) {
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
    for (std::size_t r = 0; r < kTileRows; ++r)
      for (std::size_t j = 0; j < kTileColumns; ++j)
        for (std::size_t i = 0; i < 2; ++i)
          c[r * kTileColumns + j] += static_cast<std::int32_t>(a[2 * (k * kTileRows + r) + i]) *
                                     static_cast<std::int32_t>(b[2 * (k * kTileColumns + j) + i]);
#endif
}

}  // namespace spikec
