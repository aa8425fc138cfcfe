// Calling the runtime's own operators from inside a kernel: its matrix product is better than any of ours,
// and runs on the same threads.
#pragma once

#include <initializer_list>
#include <memory>
#include <utility>

#include "context.h"

namespace spikec {

// A tensor over memory of the kernel's own, for an operator to read or to write.
class Borrowed {
 public:
  template <class T>
  Borrowed(std::span<T> data, std::span<const std::int64_t> shape)
      : Borrowed(const_cast<std::remove_const_t<T>*>(data.data()), data.size_bytes(),
                 element_type<std::remove_const_t<T>>(), shape) {}
  abi::OrtValue* value() const { return value_.get(); }

 private:
  Borrowed(void* data, std::size_t bytes, ElementType type, std::span<const std::int64_t> shape);

  struct Release {
    void operator()(abi::OrtValue* value) const { abi::ReleaseValue(value); }
  };
  std::unique_ptr<abi::OrtValue, Release> value_;
};

// An operator of the standard domain without attributes. Make it with the kernel; it may be called from
// several threads.
class Builtin {
 public:
  using TypeConstraint =
      std::pair<const char*, ElementType>;  // of the operator's schema: {"T", ElementType::Double}

  // `version`: exactly the opset version in which the operator last changed, such as 13 for MatMul.
  Builtin(const KernelInfo& info, const char* name, int version, std::initializer_list<TypeConstraint> types,
          int input_count, int output_count = 1);
  void operator()(Context& context, std::initializer_list<const abi::OrtValue*> inputs,
                  std::initializer_list<abi::OrtValue*> outputs) const;

 private:
  struct Release {
    void operator()(abi::OrtOp* op) const { abi::ReleaseOp(op); }
  };
  std::unique_ptr<abi::OrtOp, Release> op_;
};

}  // namespace spikec
