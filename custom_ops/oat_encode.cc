// OATEncode: from a real activation to a spike train (oat_encode.py is the definition).
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
        ratio(info.int_attribute("ratio")),
        ranges(static_cast<int>(info.int_attribute("ranges"))),
        digits(info.int_attribute("steps"), info.int_attribute("radix")),
        to(static_cast<ElementType>(info.int_attribute("to"))) {
    if (!(scale > 0)) throw Error("scale must be positive");
    if (bits < 1 || bits > 24 || ratio < 1 || ranges < 1)
      throw Error("bits must be 1 to 24, ratio and ranges at least 1");
    if (ratio & (ratio - 1)) throw Error("ratio must be a power of two");
  }

  static void infer(InferContext& context) {
    TypeShape x = context.input(0);
    x.dims.insert(x.dims.begin(), Dim{context.int_attribute("steps")});
    context.set_output(0, {static_cast<ElementType>(context.int_attribute("to")), x.dims});
  }

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
    shape.insert(shape.begin(), static_cast<std::int64_t>(digits.steps()));
    const auto train = context.output<T>(0, shape);
    context.parallel_ranges(x.size(), kGrain, [&](std::size_t begin, std::size_t end) {
      std::array<std::int32_t, kBlock> code, gate;
      for (std::size_t first = begin; first < end; first += kBlock) {
        const std::size_t n = std::min(kBlock, end - first);
        kernels().oat_code(x.data() + first, code.data(), gate.data(), n, scale,
                           static_cast<std::int32_t>((1 << bits) - 1), static_cast<std::int32_t>(ratio), ranges);
        for (std::size_t t = 0; t < digits.steps(); ++t) {
          T* spikes = train.data() + t * x.size() + first;
          if (digits.steps() == 1)
            for (std::size_t i = 0; i < n; ++i) spikes[i] = static_cast<T>(code[i] * gate[i]);
          else
            for (std::size_t i = 0; i < n; ++i) spikes[i] = static_cast<T>(digits.digit(code[i], t) * gate[i]);
        }
      }
    });
  }

  float scale;
  std::int64_t bits, ratio;
  int ranges;
  Digits digits;
  ElementType to;
};

}  // namespace

void add_oat_encode(OpList& list) { list.add<OATEncodeKernel>(); }

}  // namespace spikec
