// Shape inference with named dimensions kept. (The runtime's C++ helper loses the whole shape when a
// dimension has a name, and without the shape no buffer is reused and no neighbour is folded.)
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "types.h"

namespace spikec {

// A dimension: a number, or a name when the number is known only at run time.
struct Dim {
  std::int64_t size = -1;
  std::string name = {};

  bool operator==(const Dim&) const = default;
  bool known() const { return size >= 0; }
  static Dim unknown();  // with a name that no other dimension has
};

using Dims = std::vector<Dim>;

struct TypeShape {
  ElementType type = ElementType::Undefined;
  Dims dims;
};

class InferContext {
 public:
  explicit InferContext(abi::OrtShapeInferContext* raw) : raw_(raw) {}

  std::size_t input_count() const;
  // Rank 0 is a scalar or an unknown rank: the runtime does not tell which.
  TypeShape input(std::size_t index) const;
  std::int64_t int_attribute(const char* name) const;
  float float_attribute(const char* name) const;
  void set_output(std::size_t index, const TypeShape& output);

 private:
  abi::OrtShapeInferContext* raw_;
};

}  // namespace spikec
