// ISEncode: from a real activation to integer spikes (is_encode.py is the definition).
#include "graded.h"

namespace spikec {

namespace {

constexpr std::size_t kGrain = 16384;  // elements per task

struct ISEncodeKernel {
  static constexpr const char* name = "ISEncode";
  static constexpr std::array inputs{Port{"X", Types::of<float>()}};
  static constexpr std::array outputs{Port{"S", kAnyInteger}};
  static constexpr std::array attributes{
      Attribute{"scale", AttrType::Float},   Attribute{"offset", AttrType::Int},    Attribute{"ceiling", AttrType::Int},
      Attribute{"signed", AttrType::Int},    Attribute{"timesteps", AttrType::Int}, Attribute{"steps", AttrType::Int},
      Attribute{"to", AttrType::Int}};

  explicit ISEncodeKernel(const KernelInfo& info)
      : scale(info.float_attribute("scale")),
        offset(static_cast<double>(info.int_attribute("offset"))),
        ceiling(static_cast<double>(info.int_attribute("ceiling"))),
        is_signed(info.int_attribute("signed") != 0),
        steps(info.int_attribute("steps")),
        to(static_cast<ElementType>(info.int_attribute("to"))) {
    if (!(scale > 0)) throw Error("scale must be positive");
    if (steps < 1 || ceiling < 1) throw Error("steps and ceiling must be at least 1");
    const double room = to == ElementType::Int8 ? 127 : to == ElementType::Int16 ? 32767 : 2147483647.0;
    if (std::ceil(ceiling / static_cast<double>(steps)) > room) throw Error("a spike does not fit the train's type");
  }

  static void infer(InferContext& context) { infer_train(context, 0); }

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
    const auto train = context.output<T>(0, shape);
    const auto divisor = static_cast<double>(steps);
    context.parallel_ranges(x.size(), kGrain, [&](std::size_t begin, std::size_t end) {
      for (std::size_t i = begin; i < end; ++i) {
        const float current = is_signed ? std::abs(x[i]) : x[i];
        const double y = std::min(std::max(static_cast<double>(current / scale) + offset, 0.0), ceiling);
        const std::int32_t sign = !is_signed ? 1 : x[i] > 0 ? 1 : x[i] < 0 ? -1 : 0;
        std::int32_t fired = 0;
        for (std::int64_t t = 1; t <= steps; ++t) {
          const auto now = static_cast<std::int32_t>(static_cast<double>(t) * y / divisor + 0.5);
          train[static_cast<std::size_t>(t - 1) * x.size() + i] = static_cast<T>(sign * (now - fired));
          fired = now;
        }
      }
    });
  }

  float scale;
  double offset;
  double ceiling;
  bool is_signed;
  std::int64_t steps;
  ElementType to;
};

}  // namespace

void add_is_encode(OpList& list) { list.add<ISEncodeKernel>(); }

}  // namespace spikec
