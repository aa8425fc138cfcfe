#include "infer.h"

#include <atomic>
#include <memory>

#include "context.h"

namespace spikec {

using namespace abi;

namespace {

struct Release {
  void operator()(OrtTensorTypeAndShapeInfo* info) const { ReleaseTensorTypeAndShapeInfo(info); }
};

template <AttrType Type, class T>
T read_attribute(const OrtShapeInferContext* context, const char* name) {
  const OrtOpAttr* attribute = nullptr;
  check(ShapeInferContext_GetAttribute(context, name, &attribute));
  T value{};
  std::size_t needed = 0;
  check(ReadOpAttr(attribute, Type, &value, sizeof value, &needed));
  return value;
}

}  // namespace

Dim Dim::unknown() {
  static std::atomic<unsigned> count = 0;
  return {-1, "spikec_unknown_" + std::to_string(count++)};
}

std::size_t InferContext::input_count() const {
  std::size_t count = 0;
  check(ShapeInferContext_GetInputCount(raw_, &count));
  return count;
}

TypeShape InferContext::input(std::size_t index) const {
  OrtTensorTypeAndShapeInfo* info = nullptr;  // borrowed
  check(ShapeInferContext_GetInputTypeShape(raw_, index, &info));
  TypeShape input;
  std::size_t rank = 0;
  check(GetTensorElementType(info, &input.type));
  check(GetDimensionsCount(info, &rank));
  std::vector<std::int64_t> sizes(rank);
  std::vector<const char*> names(rank, nullptr);
  check(GetDimensions(info, sizes.data(), rank));
  check(GetSymbolicDimensions(info, names.data(), rank));
  for (std::size_t i = 0; i < rank; ++i) {
    const bool named = names[i] && *names[i];
    input.dims.push_back(named ? Dim{-1, names[i]} : sizes[i] >= 0 ? Dim{sizes[i]} : Dim::unknown());
  }
  return input;
}

std::int64_t InferContext::int_attribute(const char* name) const {
  return read_attribute<AttrType::Int, std::int64_t>(raw_, name);
}

float InferContext::float_attribute(const char* name) const {
  return read_attribute<AttrType::Float, float>(raw_, name);
}

void InferContext::set_output(std::size_t index, const TypeShape& output) {
  std::vector<std::int64_t> sizes;
  std::vector<const char*> names;
  for (const Dim& dim : output.dims) {
    sizes.push_back(dim.known() ? dim.size : -1);
    names.push_back(dim.known() ? "" : dim.name.c_str());
  }
  OrtTensorTypeAndShapeInfo* made = nullptr;
  check(CreateTensorTypeAndShapeInfo(&made));
  const std::unique_ptr<OrtTensorTypeAndShapeInfo, Release> info(made);
  check(SetTensorElementType(made, output.type));
  check(SetDimensions(made, sizes.data(), sizes.size()));
  check(SetSymbolicDimensions(made, names.data(), names.size()));
  check(ShapeInferContext_SetOutputTypeShape(raw_, index, made));
}

}  // namespace spikec
