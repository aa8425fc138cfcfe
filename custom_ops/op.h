// From a kernel class to what the runtime wants to be given. A kernel is a class with
//
//   static constexpr const char* name;                 the op
//   static constexpr std::array inputs, outputs;       of Port
//   static constexpr std::array attributes;            of Attribute
//   explicit Kernel(const KernelInfo&);                once per node; throws to refuse it
//   void compute(Context&) const;                      each run, possibly from several threads at once
//   static void infer(InferContext&);                  optional: types and shapes of the outputs
//   static constexpr std::array in_place;              optional: of InPlace
#pragma once

#include <array>
#include <memory>
#include <string>
#include <vector>

#include "context.h"
#include "infer.h"

namespace spikec {

using abi::Arity;
using abi::AttrType;

// An optional input may be left off the end of a node. Do not emit an empty name for one where the kernel has
// `infer`: ONNX Runtime 1.20 crashes before calling it.
struct Port {
  const char* name;
  Types types = {};  // none named: any
  Arity arity = Arity::Required;
};

struct Attribute {
  const char* name;
  AttrType type;
};

// `output` may be written over `input`.
struct InPlace {
  int input;
  int output;
};

inline constexpr std::array<Attribute, 0> kNoAttributes{};

// Checks at session creation what the runtime does not: an input of several possible types is "any" to it.
void check_input_types(const KernelInfo& info, std::span<const Port> ports);

template <class Kernel>
class Op : public abi::OrtCustomOp {
 public:
  static const abi::OrtCustomOp* instance() {
    static const Op op;
    return &op;
  }

 private:
  static constexpr auto& inputs = Kernel::inputs;
  static constexpr auto& outputs = Kernel::outputs;

  static constexpr std::size_t several_types(std::span<const Port> ports) {
    return static_cast<std::size_t>(std::ranges::count_if(
        ports, [](const Port& port) { return port.types.only() == ElementType::Undefined; }));
  }
  static constexpr bool output_of_several_types = several_types(outputs) > 0;
  static_assert(!output_of_several_types || (requires(InferContext& context) { Kernel::infer(context); }),
                "only infer can tell the type of an output that has several");
  static_assert(!output_of_several_types || several_types(inputs) <= 1,
                "ONNX Runtime 1.20 allows one input of several types beside an output of several types");

  // ONNX Runtime 1.20 also demands that one such input exists. Then the first is declared so, and we check
  // it.
  static constexpr ElementType declared_type(std::size_t i) {
    const ElementType type = inputs[i].types.only();
    const bool pretend = output_of_several_types && several_types(inputs) == 0 && i == 0;
    return pretend ? ElementType::Undefined : type;
  }

  Op() : OrtCustomOp{} {
    version = abi::kApiVersion;
    GetName = [](const OrtCustomOp*) { return Kernel::name; };
    GetExecutionProviderType = [](const OrtCustomOp*) -> const char* { return nullptr; };  // the CPU
    GetInputTypeCount = [](const OrtCustomOp*) { return inputs.size(); };
    GetInputType = [](const OrtCustomOp*, std::size_t i) { return declared_type(i); };
    GetInputCharacteristic = [](const OrtCustomOp*, std::size_t i) { return inputs[i].arity; };
    GetInputMemoryType = [](const OrtCustomOp*, std::size_t) { return abi::MemType::Default; };
    GetOutputTypeCount = [](const OrtCustomOp*) { return outputs.size(); };
    GetOutputType = [](const OrtCustomOp*, std::size_t i) { return outputs[i].types.only(); };
    GetOutputCharacteristic = [](const OrtCustomOp*, std::size_t i) { return outputs[i].arity; };
    GetVariadicInputMinArity = GetVariadicOutputMinArity = [](const OrtCustomOp*) { return 1; };
    GetVariadicInputHomogeneity = GetVariadicOutputHomogeneity = [](const OrtCustomOp*) { return 0; };
    GetStartVersion = GetEndVersion = [](const OrtCustomOp*) { return 1; };
    CreateKernelV2 = create;
    KernelComputeV2 = compute;
    KernelDestroy = [](void* kernel) { delete static_cast<Kernel*>(kernel); };
    if constexpr (requires(InferContext& context) { Kernel::infer(context); }) InferOutputShapeFn = infer;
    if constexpr (requires { Kernel::in_place; }) {
      GetMayInplace = in_place;
      ReleaseMayInplace = [](int* from, int* to) { delete[] from, delete[] to; };
    }
  }

  // Runs `body`; an error in it is reported with the op's name.
  template <class Body>
  static abi::OrtStatus* guarded_by_name(Body&& body) noexcept {
    return guarded([&] {
      try {
        body();
      } catch (const Error& error) {
        throw Error(std::string(Kernel::name) + ": " + error.what(), error.code());
      }
    });
  }

  static abi::OrtStatus* create(const OrtCustomOp*, const abi::OrtApi*, const abi::OrtKernelInfo* raw,
                                void** kernel) {
    return guarded_by_name([&] {
      const KernelInfo info(raw);
      check_input_types(info, inputs);
      *kernel = new Kernel(info);
    });
  }

  static abi::OrtStatus* compute(void* kernel, abi::OrtKernelContext* raw) {
    return guarded_by_name([&] {
      Context context(raw);
      static_cast<const Kernel*>(kernel)->compute(context);
    });
  }

  static abi::OrtStatus* infer(const OrtCustomOp*, abi::OrtShapeInferContext* raw) {
    return guarded_by_name([&] {
      InferContext context(raw);
      Kernel::infer(context);
    });
  }

  static std::size_t in_place(int** from, int** to) {
    constexpr auto& pairs = Kernel::in_place;
    *from = new int[pairs.size()];
    *to = new int[pairs.size()];
    for (std::size_t i = 0; i < pairs.size(); ++i) (*from)[i] = pairs[i].input, (*to)[i] = pairs[i].output;
    return pairs.size();
  }
};

// What the library offers: the ops for the runtime, and a description of each for people and tests.
class OpList {
 public:
  template <class Kernel>
  void add() {
    ops_.push_back(Op<Kernel>::instance());
    describe(Kernel::name, Kernel::inputs, Kernel::outputs, Kernel::attributes);
  }
  const std::vector<const abi::OrtCustomOp*>& ops() const { return ops_; }
  std::string json() const { return "[" + json_ + "]"; }

 private:
  void describe(const char* name, std::span<const Port> inputs, std::span<const Port> outputs,
                std::span<const Attribute> attributes);

  std::vector<const abi::OrtCustomOp*> ops_;
  std::string json_;
};

}  // namespace spikec
