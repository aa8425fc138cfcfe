// Y = codes · W on the session's threads: panels of W are widened once a call and stay in cache while all rows pass.
#pragma once

#include "train.h"

namespace spikec {

struct Sizes {
  std::size_t rows, fan_in, fan_out;
};

// What a tile multiplies, sums in, and how many values along k lie together.
struct Wide {
  using Left = double;
  using Right = double;
  using Sum = double;
  static constexpr std::size_t group = 1, rows = kWideRows, columns = kWideColumns;
  static void tile(const double* a, const double* b, double* c, std::size_t groups) {
    kernels().tile_f64(a, b, c, groups);
  }
};
struct Narrow {
  using Left = std::int16_t;
  using Right = std::int16_t;
  using Sum = std::int32_t;
  static constexpr std::size_t group = 2, rows = kNarrowRows, columns = kNarrowColumns;
  static void tile(const std::int16_t* a, const std::int16_t* b, std::int32_t* c, std::size_t groups) {
    kernels().tile_i16(a, b, c, groups);
  }
};

inline constexpr std::size_t kDepth = 192;             // values along k in one pass: a panel of them stays in L1
inline constexpr std::size_t kPanels = 4;   // panels of a tile's columns that one task takes along n

// Lays `Lanes` columns (or rows) of k values side by side in groups: out[k / group][lane][k % group]. Lane l's values
// begin at source + l·lane_stride and lie k_stride apart; what is beyond `lanes` or `depth` is zero.
template <class Kind, std::size_t Lanes, class Operand, class Source>
void interleave(Operand* out, const Source* source, std::size_t lane_stride, std::size_t k_stride,
                std::size_t lanes, std::size_t depth) {
  const std::size_t whole = lanes == Lanes ? depth / Kind::group * Kind::group : 0;
  for (std::size_t k = 0; k < whole; k += Kind::group, out += Kind::group * Lanes)
    for (std::size_t lane = 0; lane < Lanes; ++lane)
      for (std::size_t i = 0; i < Kind::group; ++i)
        out[lane * Kind::group + i] = static_cast<Operand>(source[lane * lane_stride + (k + i) * k_stride]);
  for (std::size_t k = whole; k < depth; k += Kind::group, out += Kind::group * Lanes)
    for (std::size_t lane = 0; lane < Lanes; ++lane)
      for (std::size_t i = 0; i < Kind::group; ++i) {
        const bool inside = lane < lanes && k + i < depth;
        out[lane * Kind::group + i] =
            inside ? static_cast<Operand>(source[lane * lane_stride + (k + i) * k_stride]) : Operand{};
      }
}

// Runs tasks one after another, where the caller is itself one of several tasks.
struct Serial {
  template <class Body>
  void parallel_for(std::size_t count, Body&& body) {
    for (std::size_t i = 0; i < count; ++i) body(i);
  }
};

// Calls finish(row, column, sums, count) for every run of sums of codes [rows, fan_in] · weights [fan_in, fan_out].
template <class Kind, class Threads, class Code, class Weight, class Finish>
void product(Threads& threads, const Sizes& size, const Code* codes, const Weight* weights, Finish&& finish) {
  using Sum = typename Kind::Sum;
  constexpr std::size_t span = kPanels * Kind::columns;
  const std::size_t depth = (size.fan_in + Kind::group - 1) / Kind::group * Kind::group;
  const std::size_t strips = (size.rows + Kind::rows - 1) / Kind::rows;
  const auto left = scratch<typename Kind::Left, struct LeftStrips>(strips * Kind::rows * depth);
  threads.parallel_for(strips, [&](std::size_t strip) {
    const std::size_t row = strip * Kind::rows;
    interleave<Kind, Kind::rows>(left.data() + row * depth, codes + row * size.fan_in, size.fan_in, 1,
                                std::min(Kind::rows, size.rows - row), size.fan_in);
  });
  threads.parallel_for((size.fan_out + span - 1) / span, [&](std::size_t task) {
    const std::size_t column0 = task * span, columns = std::min(span, size.fan_out - column0);
    const std::size_t panels = (columns + Kind::columns - 1) / Kind::columns;
    constexpr std::size_t kTile = Kind::rows * Kind::columns;
    const auto sums = scratch<Sum, struct Sums>(strips * kPanels * kTile);
    const auto panel = scratch<typename Kind::Right, struct Panel>(Kind::columns * kDepth);
    std::ranges::fill(sums, Sum{});
    for (std::size_t k0 = 0; k0 < size.fan_in; k0 += kDepth) {
      const std::size_t part = std::min(kDepth, size.fan_in - k0);
      const std::size_t groups = (part + Kind::group - 1) / Kind::group;
      for (std::size_t p = 0; p < panels; ++p) {
        const std::size_t column = p * Kind::columns;
        interleave<Kind, Kind::columns>(panel.data(), weights + k0 * size.fan_out + column0 + column, 1, size.fan_out,
                                       std::min(Kind::columns, columns - column), part);
        for (std::size_t strip = 0; strip < strips; ++strip)
          Kind::tile(left.data() + strip * Kind::rows * depth + k0 * Kind::rows, panel.data(),
                     sums.data() + (strip * kPanels + p) * kTile, groups);
      }
    }
    for (std::size_t row = 0; row < size.rows; ++row)
      for (std::size_t p = 0; p < panels; ++p) {
        const std::size_t column = p * Kind::columns;
        const Sum* found = sums.data() + (row / Kind::rows * kPanels + p) * kTile + row % Kind::rows * Kind::columns;
        finish(row, column0 + column, found, std::min(Kind::columns, columns - column));
      }
  });
}

}  // namespace spikec
