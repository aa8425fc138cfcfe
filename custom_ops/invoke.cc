#include "invoke.h"

namespace spikec {

using namespace abi;

namespace {

const OrtMemoryInfo* cpu_memory() {
  static const OrtMemoryInfo* const memory = [] {  // never released: as long-lived as the library
    OrtMemoryInfo* made = nullptr;
    check(CreateCpuMemoryInfo(AllocatorType::Device, MemType::Default, &made));
    return made;
  }();
  return memory;
}

}  // namespace

Borrowed::Borrowed(void* data, std::size_t bytes, ElementType type, std::span<const std::int64_t> shape) {
  OrtValue* made = nullptr;
  check(CreateTensorWithDataAsOrtValue(cpu_memory(), data, bytes, shape.data(), shape.size(), type, &made));
  value_.reset(made);
}

Builtin::Builtin(const KernelInfo& info, const char* name, int version,
                 std::initializer_list<TypeConstraint> types, int input_count, int output_count) {
  std::vector<const char*> names;
  std::vector<ElementType> elements;
  for (const auto& [type_name, element] : types) names.push_back(type_name), elements.push_back(element);
  OrtOp* made = nullptr;
  check(CreateOp(info.raw(), name, "", version, names.data(), elements.data(), static_cast<int>(types.size()),
                 nullptr, 0, input_count, output_count, &made));
  op_.reset(made);
}

void Builtin::operator()(Context& context, std::initializer_list<const OrtValue*> inputs,
                         std::initializer_list<OrtValue*> outputs) const {
  check(InvokeOp(context.raw(), op_.get(), inputs.begin(), static_cast<int>(inputs.size()), outputs.begin(),
                 static_cast<int>(outputs.size())));
}

}  // namespace spikec
