// SpikeDecode: a spike train back to the real value it carries (decode.py is the definition).
#include "ops.h"

namespace spikec {

namespace {

constexpr std::size_t kGrain = 16384;  // elements per task
constexpr std::size_t kBlock =
    256;  // elements summed at a time, step by step, so that the loop over them vectorises

struct DecodeKernel {
  static constexpr const char* name = "SpikeDecode";
  static constexpr std::array inputs{Port{"S", kAnyInteger}};
  static constexpr std::array outputs{Port{"Y", Types::of<float>()}};
  static constexpr std::array attributes{Attribute{"scale", AttrType::Float},
                                         Attribute{"radix", AttrType::Int}};

  explicit DecodeKernel(const KernelInfo& info)
      : scale(info.float_attribute("scale")), radix(static_cast<double>(info.int_attribute("radix"))) {}

  static void infer(InferContext& context) {
    TypeShape train = context.input(0);
    if (train.dims.size() < 2) return;  // perhaps of unknown rank
    train.dims.erase(train.dims.begin());
    context.set_output(0, {ElementType::Float, train.dims});
  }

  void compute(Context& context) const {
    const Tensor train = context.input(0);
    if (train.shape().empty()) throw Error("S needs a leading axis of steps, got a scalar");
    const auto steps = static_cast<std::size_t>(train.shape()[0]);
    const auto y = context.output<float>(0, std::span(train.shape()).subspan(1));
    visit<std::int8_t, std::int16_t, std::int32_t>(train, [&](auto spikes) {
      context.parallel_ranges(y.size(), kGrain, [&](std::size_t begin, std::size_t end) {
        for (std::size_t first = begin; first < end; first += kBlock) {
          const std::size_t n = std::min(kBlock, end - first);
          std::array<double, kBlock> value{};
          for (std::size_t t = 0; t < steps; ++t) {
            const auto* step = spikes.data() + t * y.size() + first;
            for (std::size_t i = 0; i < n; ++i) value[i] = radix * value[i] + step[i];
          }
          for (std::size_t i = 0; i < n; ++i) y[first + i] = static_cast<float>(value[i] * scale);
        }
      });
    });
  }

  double scale;
  double radix;
};

}  // namespace

void add_decode(OpList& list) { list.add<DecodeKernel>(); }

}  // namespace spikec
