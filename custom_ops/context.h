// What a kernel works with: tensors, attributes, inputs and outputs, threads. Every failure is an exception
// here; Op turns exceptions into a status of the runtime, because none may cross the C boundary.
#pragma once

#include <algorithm>
#include <exception>
#include <mutex>
#include <optional>
#include <span>
#include <string>

#include "types.h"

namespace spikec {

// Throws what a status says, and frees it. Null means success.
void check(abi::OrtStatus* status);

// The status for an exception that is being handled. Call only inside a catch block.
abi::OrtStatus* current_exception_status() noexcept;

// Runs `body` and answers with a status in place of any exception.
template <class Body>
abi::OrtStatus* guarded(Body&& body) noexcept {
  try {
    body();
    return nullptr;
  } catch (...) {
    return current_exception_status();
  }
}

// A view of a tensor that the runtime owns.
class Tensor {
 public:
  explicit Tensor(const abi::OrtValue* value);

  ElementType type() const { return type_; }
  const Shape& shape() const { return shape_; }
  std::int64_t size() const { return size_; }
  const abi::OrtValue* value() const { return value_; }

  template <class T>
  std::span<const T> as() const {
    require(element_type<T>());
    return {static_cast<const T*>(data_), static_cast<std::size_t>(size_)};
  }
  // The value of a tensor with one element.
  template <class T>
  T scalar() const {
    if (size_ != 1) throw Error("expected a single value, got shape " + to_string(shape_));
    return as<T>()[0];
  }

 private:
  void require(ElementType type) const;

  const abi::OrtValue* value_;
  const void* data_ = nullptr;
  ElementType type_ = ElementType::Undefined;
  Shape shape_;
  std::int64_t size_ = 0;
};

// Calls body(std::span<const T>) with the T among `Ts` that the tensor holds.
template <class... Ts, class Body>
void visit(const Tensor& tensor, Body&& body) {
  const auto attempt = [&]<class T>() {
    if (tensor.type() != element_type<T>()) return false;
    body(tensor.as<T>());
    return true;
  };
  if (!(attempt.template operator()<Ts>() || ...))
    throw Error(std::string("element type ") + type_name(tensor.type()) + " is not supported");
}

// A node as its kernel sees it when the session is made. Attributes have no defaults: spikec writes all of
// them.
class KernelInfo {
 public:
  explicit KernelInfo(const abi::OrtKernelInfo* raw) : raw_(raw) {}

  float float_attribute(const char* name) const;
  std::int64_t int_attribute(const char* name) const;
  std::string string_attribute(const char* name) const;
  std::vector<float> floats_attribute(const char* name) const;
  std::vector<std::int64_t> ints_attribute(const char* name) const;

  std::size_t input_count() const;
  ElementType input_type(std::size_t index) const;  // Undefined for an omitted input
  std::optional<Tensor> constant_input(std::size_t index) const;
  const abi::OrtKernelInfo* raw() const { return raw_; }

 private:
  const abi::OrtKernelInfo* raw_;
};

// One run of a kernel.
class Context {
 public:
  explicit Context(abi::OrtKernelContext* raw) : raw_(raw) {}

  std::size_t input_count() const;
  bool has_input(std::size_t index) const;
  Tensor input(std::size_t index) const;

  template <class T>
  std::span<T> output(std::size_t index, std::span<const std::int64_t> shape) {
    abi::OrtValue* value = make_output(index, shape);
    if (const ElementType made = Tensor(value).type(); made != element_type<T>())
      throw Error("output " + std::to_string(index) + ": the kernel writes " + type_name(element_type<T>()) +
                  ", the model says " + type_name(made));
    void* data = nullptr;
    check(abi::GetTensorMutableData(value, &data));
    return {static_cast<T*>(data), static_cast<std::size_t>(element_count(shape))};
  }
  abi::OrtValue* make_output(std::size_t index, std::span<const std::int64_t> shape);

  // Calls body(i) for i in [0, count) on the session's own threads.
  template <class Body>
  void parallel_for(std::size_t count, Body&& body);

  // Calls body(begin, end) on pieces of [0, count) of `grain` each (the last may be shorter).
  template <class Body>
  void parallel_ranges(std::size_t count, std::size_t grain, Body&& body) {
    grain = std::max<std::size_t>(grain, 1);
    parallel_for((count + grain - 1) / grain,
                 [&](std::size_t piece) { body(piece * grain, std::min(count, (piece + 1) * grain)); });
  }
  abi::OrtKernelContext* raw() const { return raw_; }

 private:
  abi::OrtKernelContext* raw_;
};

template <class Body>
void Context::parallel_for(std::size_t count, Body&& body) {
  if (count == 0) return;
  if (count == 1) return body(std::size_t{0});

  struct Job {
    Body& body;
    std::mutex mutex;
    std::exception_ptr error;  // the first one; it must not leave a thread of the runtime
  } job{body, {}, {}};
  const auto task = [](void* argument, std::size_t index) {
    Job& shared = *static_cast<Job*>(argument);
    try {
      shared.body(index);
    } catch (...) {
      const std::lock_guard lock(shared.mutex);
      if (!shared.error) shared.error = std::current_exception();
    }
  };
  check(abi::KernelContext_ParallelFor(raw_, task, count, 0, &job));
  if (job.error) std::rethrow_exception(job.error);
}

}  // namespace spikec
