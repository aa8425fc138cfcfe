#include "context.h"

#include <new>

namespace spikec {

using namespace abi;

void check(OrtStatus* status) {
  if (!status) return;
  const Error error(GetErrorMessage(status), GetErrorCode(status));
  ReleaseStatus(status);
  throw error;
}

OrtStatus* current_exception_status() noexcept {
  try {
    throw;
  } catch (const Error& error) {
    return CreateStatus(error.code(), error.what());
  } catch (const std::bad_alloc&) {
    return CreateStatus(ErrorCode::Fail, "out of memory");
  } catch (const std::exception& error) {
    return CreateStatus(ErrorCode::Fail, error.what());
  } catch (...) {
    return CreateStatus(ErrorCode::Fail, "an unknown exception");
  }
}

Tensor::Tensor(const OrtValue* value) : value_(value) {
  OrtTensorTypeAndShapeInfo* info = nullptr;
  check(GetTensorTypeAndShape(value, &info));
  std::size_t rank = 0;
  OrtStatus* status = GetTensorElementType(info, &type_);
  if (!status) status = GetDimensionsCount(info, &rank);
  if (!status) {
    shape_.resize(rank);
    status = GetDimensions(info, shape_.data(), rank);
  }
  ReleaseTensorTypeAndShapeInfo(info);
  check(status);
  size_ = element_count(shape_);

  void* data = nullptr;  // the runtime has one function for reading and writing
  check(GetTensorMutableData(const_cast<OrtValue*>(value), &data));
  data_ = data;
}

void Tensor::require(ElementType type) const {
  if (type != type_) throw Error(std::string("expected ") + type_name(type) + ", got " + type_name(type_));
}

namespace {

[[noreturn]] void attribute_error(const char* name, const Error& error) {
  throw Error(std::string("attribute '") + name + "': " + error.what(), error.code());
}

template <auto& Read, class T>
T read_attribute(const OrtKernelInfo* info, const char* name) {
  T value{};
  try {
    check(Read(info, name, &value));
  } catch (const Error& error) {
    attribute_error(name, error);
  }
  return value;
}

// For values of variable length: the first call only asks for the length.
template <auto& Read, class Values>
Values read_attributes(const OrtKernelInfo* info, const char* name) {
  Values values;
  try {
    std::size_t size = 0;
    check(Read(info, name, nullptr, &size));
    values.resize(size);
    if (size) check(Read(info, name, values.data(), &size));
  } catch (const Error& error) {
    attribute_error(name, error);
  }
  return values;
}

}  // namespace

float KernelInfo::float_attribute(const char* name) const {
  return read_attribute<KernelInfoGetAttribute_float, float>(raw_, name);
}

std::int64_t KernelInfo::int_attribute(const char* name) const {
  return read_attribute<KernelInfoGetAttribute_int64, std::int64_t>(raw_, name);
}

std::string KernelInfo::string_attribute(const char* name) const {
  auto text = read_attributes<KernelInfoGetAttribute_string, std::string>(raw_, name);
  if (!text.empty()) text.pop_back();  // the size counts the terminating zero
  return text;
}

std::vector<float> KernelInfo::floats_attribute(const char* name) const {
  return read_attributes<KernelInfoGetAttributeArray_float, std::vector<float>>(raw_, name);
}

std::vector<std::int64_t> KernelInfo::ints_attribute(const char* name) const {
  return read_attributes<KernelInfoGetAttributeArray_int64, std::vector<std::int64_t>>(raw_, name);
}

std::size_t KernelInfo::input_count() const {
  std::size_t count = 0;
  check(KernelInfo_GetInputCount(raw_, &count));
  return count;
}

ElementType KernelInfo::input_type(std::size_t index) const {
  OrtTypeInfo* info = nullptr;
  if (OrtStatus* status = KernelInfo_GetInputTypeInfo(raw_, index, &info)) {
    ReleaseStatus(status);  // an omitted optional input has no type
    return ElementType::Undefined;
  }
  const OrtTensorTypeAndShapeInfo* tensor = nullptr;
  ElementType type = ElementType::Undefined;
  OrtStatus* status = CastTypeInfoToTensorInfo(info, &tensor);
  if (!status && tensor) status = GetTensorElementType(tensor, &type);
  ReleaseTypeInfo(info);
  check(status);
  return type;
}

std::optional<Tensor> KernelInfo::constant_input(std::size_t index) const {
  int is_constant = 0;
  const OrtValue* value = nullptr;
  check(KernelInfoGetConstantInput_tensor(raw_, index, &is_constant, &value));
  if (!is_constant || !value) return std::nullopt;
  return Tensor(value);
}

std::size_t Context::input_count() const {
  std::size_t count = 0;
  check(KernelContext_GetInputCount(raw_, &count));
  return count;
}

bool Context::has_input(std::size_t index) const {
  if (index >= input_count()) return false;
  const OrtValue* value = nullptr;
  check(KernelContext_GetInput(raw_, index, &value));
  return value != nullptr;
}

Tensor Context::input(std::size_t index) const {
  const OrtValue* value = nullptr;
  check(KernelContext_GetInput(raw_, index, &value));
  if (!value) throw Error("input " + std::to_string(index) + " is missing");
  return Tensor(value);
}

OrtValue* Context::make_output(std::size_t index, std::span<const std::int64_t> shape) {
  OrtValue* value = nullptr;
  check(KernelContext_GetOutput(raw_, index, shape.data(), shape.size(), &value));
  if (!value) throw Error("output " + std::to_string(index) + " is not there");
  return value;
}

}  // namespace spikec
