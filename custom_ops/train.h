// Spike trains in kernels: shapes, scratch memory, and reading integer trains whatever their type.
#pragma once

#include <algorithm>
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

// An encoder's output: the train [steps, *X.shape] of type `to`, as its attributes say.
inline void infer_train(InferContext& context) {
  TypeShape x = context.input(0);
  // A type cannot be told without a shape, and the rank may be unknown: then a shape that equals no other,
  // or the runtime would keep trains of different sizes in one buffer.
  const bool known = !x.dims.empty();
  x.dims.insert(x.dims.begin(), known ? Dim{context.int_attribute("steps")} : Dim::unknown());
  context.set_output(0, {static_cast<ElementType>(context.int_attribute("to")), x.dims});
}

// Writes an encoder's train, a block of at most kBlock values at a time: `start(state, first, n)` prepares the values
// from `first` on, then `step(state, t, spikes, n)` gives each timestep's int32 spikes. State is one block's memory.
template <class State, class Start, class Step>
void write_train(Context& context, const Shape& x, std::int64_t steps, ElementType to, Start&& start, Step&& step) {
  Shape shape = x;
  shape.insert(shape.begin(), steps);
  const auto write = [&]<class T>(T) {
    const auto train = context.output<T>(0, shape);
    const std::size_t size = train.size() / static_cast<std::size_t>(steps);
    context.parallel_ranges(size, 32 * kBlock, [&](std::size_t begin, std::size_t end) {
      State state;
      std::array<std::int32_t, kBlock> spikes;
      for (std::size_t first = begin; first < end; first += kBlock) {
        const std::size_t n = std::min(kBlock, end - first);
        start(state, first, n);
        for (std::int64_t t = 0; t < steps; ++t) {
          step(state, t, spikes.data(), n);
          T* const to_step = train.data() + static_cast<std::size_t>(t) * size + first;
          for (std::size_t i = 0; i < n; ++i) to_step[i] = static_cast<T>(spikes[i]);
        }
      }
    });
  };
  switch (to) {
    case ElementType::Int8: return write(std::int8_t{});
    case ElementType::Int16: return write(std::int16_t{});
    case ElementType::Int32: return write(std::int32_t{});
    default: throw Error("a train is int8, int16 or int32");
  }
}

// Step t of a unary train (`unary` in train.py): at most `largest` units of each code, while any remain.
inline void unary_spikes(const std::int32_t* code, std::int32_t* spikes, std::size_t n, std::int32_t t,
                         std::int32_t largest) {
  for (std::size_t i = 0; i < n; ++i) {
    const std::int32_t sign = code[i] < 0 ? -1 : 1;
    const std::int32_t left = code[i] * sign - largest * t;
    spikes[i] = sign * std::clamp(left, 0, largest);
  }
}

// A timestep of a steadily driven neuron (`rate` in train.py): how often the threshold goes into the membrane, at most
// `burst` times.
inline void rate_spikes(std::int32_t* membrane, const std::int32_t* drive, std::int32_t* spikes, std::size_t n,
                        std::int32_t threshold, std::int32_t burst) {
  if (burst == 1) {
    for (std::size_t i = 0; i < n; ++i) {
      const std::int32_t u = membrane[i] + drive[i];
      spikes[i] = u >= threshold ? 1 : 0;
      membrane[i] = u - (u >= threshold ? threshold : 0);
    }
    return;
  }
  for (std::size_t i = 0; i < n; ++i) {
    const std::int32_t u = membrane[i] + drive[i];
    spikes[i] = u / threshold;
    membrane[i] = u - spikes[i] * threshold;
  }
}

// Copies theta (one value, or one a channel of x's last axis) for the n values of x from `first` on.
inline void spread_theta(std::span<const float> theta, std::size_t first, std::size_t n, float* spread) {
  std::size_t channel = first % theta.size();
  for (std::size_t i = 0; i < n; ++i) {
    spread[i] = theta[channel];
    if (++channel == theta.size()) channel = 0;
  }
}

inline std::span<const float> checked_theta(const Tensor& theta, const Shape& x) {
  const std::int64_t channels = x.empty() ? 1 : x.back();
  if (theta.size() != 1 && theta.size() != channels)
    throw Error("theta needs 1 or " + std::to_string(channels) + " values");
  return theta.as<float>();
}

}  // namespace spikec
