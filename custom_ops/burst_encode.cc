// BurstEncode: integrate-and-fire neurons under a steady current (burst_encode.py is the definition).
//
// All in integers; packed, the recurrence has one step whose threshold is a power of two.
#include "train.h"

namespace spikec {

namespace {

constexpr int kFraction = 12;

struct BurstEncodeKernel {
  static constexpr const char* name = "BurstEncode";
  static constexpr std::array inputs{Port{"X", Types::of<float>()}, Port{"theta", Types::of<float>()}};
  static constexpr std::array outputs{Port{"S", kAnyInteger}};
  static constexpr std::array attributes{Attribute{"timesteps", AttrType::Int}, Attribute{"burst", AttrType::Int},
                                         Attribute{"half", AttrType::Int}, Attribute{"steps", AttrType::Int},
                                         Attribute{"to", AttrType::Int}};

  explicit BurstEncodeKernel(const KernelInfo& info)
      : steps(info.int_attribute("steps")), to(static_cast<ElementType>(info.int_attribute("to"))) {
    const std::int64_t timesteps = info.int_attribute("timesteps"), most = info.int_attribute("burst");
    const std::int64_t half = info.int_attribute("half");
    if (timesteps < 1 || most < 1 || timesteps * most > 1 << 15)
      throw Error("timesteps and burst must be at least 1, and their product at most 2**15");
    if (half != 0 && half != 1) throw Error("half must be 0 or 1");
    if (steps != timesteps && steps != 1) throw Error("steps must be timesteps or 1");
    const std::int64_t loudest = timesteps * most / steps;
    if (loudest > (to == ElementType::Int8 ? 127 : to == ElementType::Int16 ? 32767 : INT32_MAX))
      throw Error("a step's spikes do not fit the train's type");
    largest = static_cast<float>(timesteps * most);
    burst = static_cast<std::int32_t>(most);
    start = static_cast<std::int32_t>(half * steps << (kFraction - 1));
    threshold = static_cast<std::int32_t>(steps << kFraction);
  }

  static void infer(InferContext& context) { infer_train(context); }

  struct State {
    std::array<float, kBlock> theta;
    std::array<std::int32_t, kBlock> drive, membrane, sign;
  };

  void compute(Context& context) const {
    const Tensor input = context.input(0), thetas = context.input(1);
    const auto x = input.as<float>(), theta = checked_theta(thetas, input.shape());
    const auto charge = [&](State& state, std::size_t first, std::size_t n) {
      spread_theta(theta, first, n, state.theta.data());
      for (std::size_t i = 0; i < n; ++i) {
        const float value = x[first + i];
        const float z = (value < 0 ? -value : value) / state.theta[i];
        state.drive[i] = static_cast<std::int32_t>((z < largest ? z : largest) * (1 << kFraction));
        state.membrane[i] = start;
        state.sign[i] = value < 0 ? -1 : value > 0 ? 1 : 0;
      }
    };
    write_train<State>(context, input.shape(), steps, to, charge,
                       [&](State& state, std::int64_t, std::int32_t* spikes, std::size_t n) {
                         if (steps == 1)
                           for (std::size_t i = 0; i < n; ++i) spikes[i] = (state.drive[i] + start) >> kFraction;
                         else
                           rate_spikes(state.membrane.data(), state.drive.data(), spikes, n, threshold, burst);
                         for (std::size_t i = 0; i < n; ++i) spikes[i] *= state.sign[i];
                       });
  }

  std::int64_t steps;
  ElementType to;
  float largest;
  std::int32_t burst, start, threshold;
};

}  // namespace

void add_burst_encode(OpList& list) { list.add<BurstEncodeKernel>(); }

}  // namespace spikec
