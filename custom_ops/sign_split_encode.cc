// SignSplitEncode: from a real activation to a spike train, each sign on its own grid (sign_split_encode.py is the
// definition).
//
// Unrolled, it integrates and fires: each step subtracts the threshold 2**(bits-1-t) where the rest of the code
// reaches it.
#include "train.h"

namespace spikec {

namespace {

struct SignSplitEncodeKernel {
  static constexpr const char* name = "SignSplitEncode";
  static constexpr std::array inputs{Port{"X", Types::of<float>()}};
  static constexpr std::array outputs{Port{"S", kAnyInteger}};
  static constexpr std::array attributes{
      Attribute{"scale", AttrType::Float},  Attribute{"bits", AttrType::Int},  Attribute{"positive", AttrType::Int},
      Attribute{"negative", AttrType::Int}, Attribute{"steps", AttrType::Int}, Attribute{"radix", AttrType::Int},
      Attribute{"to", AttrType::Int}};

  explicit SignSplitEncodeKernel(const KernelInfo& info)
      : scale(info.float_attribute("scale")),
        bits(info.int_attribute("bits")),
        positive(static_cast<std::int32_t>(info.int_attribute("positive"))),
        negative(static_cast<std::int32_t>(info.int_attribute("negative"))),
        steps(info.int_attribute("steps")),
        to(static_cast<ElementType>(info.int_attribute("to"))) {
    if (!(scale > 0)) throw Error("scale must be positive");
    if (bits < 1 || bits > 16) throw Error("bits must be 1 to 16");
    for (const std::int32_t weight : {positive, negative})
      if (weight < 1 || weight > 1 << 14 || weight & (weight - 1))
        throw Error("positive and negative must be powers of two up to 2**14");
    const std::int64_t radix = info.int_attribute("radix");
    if (!(steps == bits && radix == 2) && !(steps == 1 && radix == std::int64_t{1} << bits))
      throw Error("steps and radix must be bits and 2, or 1 and 2**bits");
    const std::int64_t loudest = std::int64_t{std::max(positive, negative)} * (radix - 1);
    if (loudest > (to == ElementType::Int8 ? 127 : to == ElementType::Int16 ? 32767 : INT32_MAX))
      throw Error("a spike of the coarser sign does not fit the train's type");
  }

  static void infer(InferContext& context) { infer_train(context); }

  struct State {
    std::array<std::int32_t, kBlock> code, weight;
  };

  void compute(Context& context) const {
    const Tensor input = context.input(0);
    const auto x = input.as<float>();
    const auto levels = static_cast<float>((1 << bits) - 1);
    const auto charge = [&](State& state, std::size_t first, std::size_t n) {
      for (std::size_t i = 0; i < n; ++i) {
        const float value = x[first + i];
        const std::int32_t weight = value < 0 ? negative : positive;
        const float z = (value < 0 ? -value : value) / scale / static_cast<float>(weight) + 0.5f;
        state.code[i] = static_cast<std::int32_t>(z < levels ? z : levels);  // ⌊z⌋: z is not negative
        state.weight[i] = value < 0 ? -weight : value > 0 ? weight : 0;
      }
    };
    write_train<State>(context, input.shape(), steps, to, charge,
                       [&](State& state, std::int64_t t, std::int32_t* spikes, std::size_t n) {
                         if (steps == 1) {
                           for (std::size_t i = 0; i < n; ++i) spikes[i] = state.code[i] * state.weight[i];
                           return;
                         }
                         const auto threshold = std::int32_t{1} << (bits - 1 - t);
                         for (std::size_t i = 0; i < n; ++i) {
                           const bool fires = state.code[i] >= threshold;
                           state.code[i] -= fires ? threshold : 0;
                           spikes[i] = fires ? state.weight[i] : 0;
                         }
                       });
  }

  float scale;
  std::int64_t bits;
  std::int32_t positive, negative;
  std::int64_t steps;
  ElementType to;
};

}  // namespace

void add_sign_split_encode(OpList& list) { list.add<SignSplitEncodeKernel>(); }

}  // namespace spikec
