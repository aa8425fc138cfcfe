// OATEncode: from a real activation to a spike train (oat_encode.py is the definition).
//
// Unrolled, it integrates and fires: from z + ½, each step subtracts the threshold 2**(bits-1-t) where it is reached.
// Packed, it rounds to the code whose digits those spikes are.
#include <cmath>

#include "train.h"

namespace spikec {

namespace {

constexpr std::size_t kGrain = 32 * kBlock;

struct OATEncodeKernel {
  static constexpr const char* name = "OATEncode";
  static constexpr std::array inputs{Port{"X", Types::of<float>()}};
  static constexpr std::array outputs{Port{"S", kAnyInteger}};
  static constexpr std::array attributes{
      Attribute{"scale", AttrType::Float}, Attribute{"bits", AttrType::Int},  Attribute{"ratio", AttrType::Int},
      Attribute{"ranges", AttrType::Int},  Attribute{"steps", AttrType::Int}, Attribute{"radix", AttrType::Int},
      Attribute{"to", AttrType::Int}};

  explicit OATEncodeKernel(const KernelInfo& info)
      : scale(info.float_attribute("scale")),
        bits(info.int_attribute("bits")),
        ratio(static_cast<std::int32_t>(info.int_attribute("ratio"))),
        ranges(static_cast<int>(info.int_attribute("ranges"))),
        steps(info.int_attribute("steps")),
        to(static_cast<ElementType>(info.int_attribute("to"))) {
    if (!(scale > 0)) throw Error("scale must be positive");
    if (bits < 1 || bits > 24 || ratio < 1 || ranges < 1)
      throw Error("bits must be 1 to 24, ratio and ranges at least 1");
    if (ratio & (ratio - 1)) throw Error("ratio must be a power of two");
    const std::int64_t radix = info.int_attribute("radix");
    if (!(steps == bits && radix == 2) && !(steps == 1 && radix == std::int64_t{1} << bits))
      throw Error("steps and radix must be bits and 2, or 1 and 2**bits");
    const double loudest = std::pow(ratio, ranges - 1) * static_cast<double>(radix - 1);
    const double room = to == ElementType::Int8 ? 127 : to == ElementType::Int16 ? 32767 : 2147483647.0;
    if (loudest > room) throw Error("a spike of the coarsest range does not fit the train's type");
  }

  static void infer(InferContext& context) { infer_train(context); }

  void compute(Context& context) const {
    switch (to) {
      case ElementType::Int8: return encode<std::int8_t>(context);
      case ElementType::Int16: return encode<std::int16_t>(context);
      case ElementType::Int32: return encode<std::int32_t>(context);
      default: throw Error("a train is int8, int16 or int32");
    }
  }

  template <class T>
  void encode(Context& context) const {
    const Tensor input = context.input(0);
    const auto x = input.as<float>();
    Shape shape = input.shape();
    shape.insert(shape.begin(), steps);
    const auto levels = static_cast<std::int32_t>((1 << bits) - 1);
    const auto train = context.output<T>(0, shape);
    context.parallel_ranges(x.size(), kGrain, [&](std::size_t begin, std::size_t end) {
      std::array<std::int32_t, kBlock> code, gate;
      std::array<float, kBlock> membrane;
      for (std::size_t first = begin; first < end; first += kBlock) {
        const std::size_t n = std::min(kBlock, end - first);
        kernels().oat_code(x.data() + first, code.data(), gate.data(), n, scale, levels, ratio, ranges);
        if (steps == 1) {
          kernels().weigh(code.data(), gate.data(), n);
          for (std::size_t i = 0; i < n; ++i) train[first + i] = static_cast<T>(code[i]);
          continue;
        }
        kernels().charge(x.data() + first, gate.data(), membrane.data(), n, scale, levels);
        for (std::int64_t t = 0; t < steps; ++t) {
          const auto threshold = static_cast<float>(std::int64_t{1} << (bits - 1 - t));
          kernels().fire(membrane.data(), gate.data(), code.data(), n, threshold);
          std::copy_n(code.data(), n, train.data() + static_cast<std::size_t>(t) * x.size() + first);
        }
      }
    });
  }

  float scale;
  std::int64_t bits;
  std::int32_t ratio;
  int ranges;
  std::int64_t steps;
  ElementType to;
};

}  // namespace

void add_oat_encode(OpList& list) { list.add<OATEncodeKernel>(); }

}  // namespace spikec
