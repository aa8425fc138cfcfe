// What the shared library shows to the outside: the runtime's entry point, and two functions that describe
// the library.
#include <string>

#include "ops.h"
#include "simd.h"

namespace spikec {

namespace {

const OpList& op_list() {
  static const OpList list = [] {
    OpList made;
    for (const auto add : {add_oat_encode, add_gif_encode, add_int2spike, add_is_encode, add_decode, add_linear,
                           add_matmul, add_multiply, add_function, add_softmax, add_norms, add_few_spikes_encode,
                           add_lif_encode, add_self_attention, add_burst_encode, add_sign_split_encode})
      add(made);
    return made;
  }();
  return list;
}

// Never released: sessions keep a plain pointer to it, and may outlive everything here.
abi::OrtCustomOpDomain* op_domain() {
  static abi::OrtCustomOpDomain* const domain = [] {
    abi::OrtCustomOpDomain* made = nullptr;
    check(abi::CreateCustomOpDomain("ai.spikec", &made));
    for (const abi::OrtCustomOp* op : op_list().ops()) check(abi::CustomOpDomain_Add(made, op));
    return made;
  }();
  return domain;
}

}  // namespace

}  // namespace spikec

extern "C" {

[[gnu::visibility("default")]] spikec::abi::OrtStatus* RegisterCustomOps(
    spikec::abi::OrtSessionOptions* options, const spikec::abi::OrtApiBase* base) {
  using namespace spikec;
  abi::table = base->GetApi(abi::kApiVersion);
  if (!abi::table) {
    const std::string message = std::string("spikec custom ops need ONNX Runtime >= ") + abi::kRuntimeNeeded +
                                ", this is " + base->GetVersionString();
    return abi::CreateStatus.in(base->GetApi(1))(abi::ErrorCode::Fail, message.c_str());
  }
  return guarded([&] {
    if (*isa_problem()) throw Error(isa_problem());
    check(abi::AddCustomOpDomain(options, op_domain()));
  });
}

[[gnu::visibility("default")]] const char* spikec_isa() { return spikec::kernels().name; }

[[gnu::visibility("default")]] const char* spikec_op_table() {
  static const std::string json = spikec::op_list().json();
  return json.c_str();
}
}
