// Spike trains in kernels: shapes, scratch memory, and reading integer trains whatever their type.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "ops.h"
#include "simd.h"

namespace spikec {

// Memory that stays with the thread and only grows: asking the system for it anew at each run costs page faults.
// A kernel that calls another operator in between may not hold two of one Tag.
template <class T, class Tag>
std::span<T> scratch(std::size_t n) {
  thread_local std::unique_ptr<T[]> memory;
  thread_local std::size_t size = 0;
  if (size < n) {
    memory.reset(new T[n]);
    size = n;
  }
  return {memory.get(), n};
}

// A train's leading axis; the op refuses a scalar.
inline std::size_t step_count(const Tensor& train, const char* name) {
  if (train.shape().empty()) throw Error(std::string(name) + " needs a leading axis of steps, got a scalar");
  return static_cast<std::size_t>(train.shape()[0]);
}

inline std::span<const std::int64_t> step_shape(const Tensor& train) {
  return std::span(train.shape()).subspan(1);
}

// The largest magnitude among codes.
template <class T>
double largest(std::span<const T> codes) {
  T most = 0, least = 0;
  for (const T code : codes) {
    most = std::max(most, code);
    least = std::min(least, code);
  }
  return std::max(static_cast<double>(most), -static_cast<double>(least));
}

// Digits of a magnitude, most significant first: Σ digit(t)·radix**(steps-1-t).
class Digits {
 public:
  Digits(std::int64_t steps, std::int64_t radix) : radix_(radix), weights_(static_cast<std::size_t>(steps)) {
    std::int64_t weight = 1;
    for (std::size_t t = weights_.size(); t-- > 0; weight *= radix) weights_[t] = weight;
  }
  std::size_t steps() const { return weights_.size(); }
  double radix() const { return static_cast<double>(radix_); }
  std::int64_t digit(std::int64_t magnitude, std::size_t t) const { return magnitude / weights_[t] % radix_; }

 private:
  std::int64_t radix_;
  std::vector<std::int64_t> weights_;
};

}  // namespace spikec
