// SpikeMultiply: a spike train gates a real-valued state (multiply.py is the definition).
#include "train.h"

namespace spikec {

namespace {

constexpr std::size_t kGrain = 64 * kBlock;

struct MultiplyKernel {
  static constexpr const char* name = "SpikeMultiply";
  static constexpr std::array inputs{Port{"S", kAnyInteger}, Port{"U", Types::of<float>()}};
  static constexpr std::array outputs{Port{"Y", Types::of<float>()}};
  static constexpr std::array attributes{Attribute{"scale", AttrType::Float},
                                         Attribute{"radix", AttrType::Int}};

  explicit MultiplyKernel(const KernelInfo& info)
      : scale(info.float_attribute("scale")), radix(static_cast<double>(info.int_attribute("radix"))) {}

  static void infer(InferContext& context) {
    const TypeShape state = context.input(1);
    if (!state.dims.empty()) context.set_output(0, {ElementType::Float, state.dims});
  }

  void compute(Context& context) const {
    const Tensor train = context.input(0), state = context.input(1);
    const std::size_t steps = step_count(train, "S");
    if (!std::ranges::equal(step_shape(train), state.shape()))
      throw Error("S " + to_string(train.shape()) + " does not fit U " + to_string(state.shape()));
    const auto u = state.as<float>();
    const auto y = context.output<float>(0, state.shape());
    visit<std::int8_t, std::int16_t, std::int32_t>(train, [&](auto spikes) {
      context.parallel_ranges(y.size(), kGrain, [&](std::size_t begin, std::size_t end) {
        for (std::size_t first = begin; first < end; first += kBlock) {
          const std::size_t n = std::min(kBlock, end - first);
          std::array<double, kBlock> membrane{};
          for (std::size_t t = 0; t < steps; ++t) {
            const auto* events = spikes.data() + t * y.size() + first;
            for (std::size_t i = 0; i < n; ++i)
              membrane[i] = radix * membrane[i] + static_cast<double>(events[i]) * static_cast<double>(u[first + i]);
          }
          for (std::size_t i = 0; i < n; ++i) y[first + i] = static_cast<float>(membrane[i] * scale);
        }
      });
    });
  }

  double scale, radix;
};

}  // namespace

void add_multiply(OpList& list) { list.add<MultiplyKernel>(); }

}  // namespace spikec
