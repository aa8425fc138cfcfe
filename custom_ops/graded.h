// Graded spikes (graded.py is the definition), and the axis along which a dynamic threshold is shared.
#pragma once

#include <cmath>

#include "train.h"

namespace spikec {

// How a code is spent over the steps of a train of `to`.
class Graded {
 public:
  explicit Graded(const KernelInfo& info, std::int64_t radix)
      : most_(info.int_attribute("most")), to_(static_cast<ElementType>(info.int_attribute("to"))) {
    const std::int64_t steps = info.int_attribute("steps");
    if (steps < 1 || steps > 4096) throw Error("steps must be 1 to 4096");
    if (radix != 1 && radix != 2) throw Error("radix must be 1 or 2");
    if (radix == 2 && steps > 24) throw Error("binary digits must be 1 to 24");
    if (most_ < 1 || static_cast<double>(most_) > room()) throw Error("a spike of `most` does not fit the train's type");
    for (std::int64_t t = 0; t < steps; ++t)
      weights_.push_back(radix == 1 ? 1 : std::int64_t{1} << (steps - 1 - t));
  }

  std::int64_t most() const { return most_; }
  double room() const {
    return to_ == ElementType::Int8 ? 127 : to_ == ElementType::Int16 ? 32767 : 2147483647.0;
  }
  std::int64_t steps() const { return static_cast<std::int64_t>(weights_.size()); }

  // Writes element i of every step of a train with `stride` elements a step; `gate` is what a unit spike counts.
  template <class T>
  void spend(std::int64_t magnitude, std::int64_t gate, T* train, std::size_t i, std::size_t stride) const {
    for (std::size_t t = 0; t < weights_.size(); ++t) {
      const std::int64_t spike = std::min(magnitude / weights_[t], most_);
      magnitude -= weights_[t] * spike;
      train[t * stride + i] = static_cast<T>(gate * spike);
    }
  }

  // Calls body.template operator()<T>() with the type of the train.
  template <class Body>
  void typed(Body&& body) const {
    switch (to_) {
      case ElementType::Int8: return body.template operator()<std::int8_t>();
      case ElementType::Int16: return body.template operator()<std::int16_t>();
      case ElementType::Int32: return body.template operator()<std::int32_t>();
      default: throw Error("a train is int8, int16 or int32");
    }
  }

 private:
  std::int64_t most_;
  ElementType to_;
  std::vector<std::int64_t> weights_;
};

// The shape of a train: `steps` before that of X. Unknown ranks get a dimension that equals no other.
inline void infer_train(InferContext& context, std::size_t output) {
  TypeShape x = context.input(0);
  const bool known = !x.dims.empty();
  x.dims.insert(x.dims.begin(), known ? Dim{context.int_attribute("steps")} : Dim::unknown());
  context.set_output(output, {static_cast<ElementType>(context.int_attribute("to")), x.dims});
}

// X as [outer, size, inner] around the axis (-1 or -2) that shares one threshold.
struct Shared {
  Shared(const Shape& shape, std::int64_t axis) : threshold_shape(shape) {
    const auto rank = static_cast<std::int64_t>(shape.size());
    if (axis != -1 && axis != -2) throw Error("axis must be -1 or -2");
    if (rank < -axis) throw Error("X needs the axis " + std::to_string(axis) + ", got shape " + to_string(shape));
    const auto at = static_cast<std::size_t>(rank + axis);
    size = static_cast<std::size_t>(shape[at]);
    inner = axis == -1 ? 1 : static_cast<std::size_t>(shape.back());
    threshold_shape[at] = 1;
    thresholds = static_cast<std::size_t>(element_count(threshold_shape));
  }
  // Index of entry k of what shares threshold i.
  std::size_t at(std::size_t i, std::size_t k) const { return (i / inner * size + k) * inner + i % inner; }

  Shape threshold_shape;
  std::size_t size, inner, thresholds;
};

inline void infer_shared(InferContext& context, std::size_t output) {
  TypeShape x = context.input(0);
  const auto axis = static_cast<std::size_t>(-context.int_attribute("axis"));
  if (x.dims.size() < axis) return;  // perhaps of unknown rank
  x.dims[x.dims.size() - axis] = Dim{1};
  context.set_output(output, {ElementType::Float, x.dims});
}

}  // namespace spikec
