// FewSpikesEncode: from a real activation to few weighted spikes (few_spikes_encode.py is the definition).
//
// A table over equal buckets of z tells where a bucket's boundaries begin, so that a comparison or two find the level.
#include <algorithm>
#include <cmath>

#include "train.h"

namespace spikec {

namespace {

constexpr std::size_t kGrain = 32 * kBlock;
constexpr std::size_t kBuckets = 1024;

struct FewSpikesEncodeKernel {
  static constexpr const char* name = "FewSpikesEncode";
  static constexpr std::array inputs{Port{"X", Types::of<float>()}, Port{"theta", Types::of<float>()},
                                     Port{"boundaries", Types::of<float>()}, Port{"levels", Types::of<std::int32_t>()},
                                     Port{"patterns", Types::of<std::int32_t>()}};
  static constexpr std::array outputs{Port{"S", kAnyInteger}};
  static constexpr std::array attributes{
      Attribute{"ranges", AttrType::Int}, Attribute{"digits", AttrType::Int}, Attribute{"basis", AttrType::Int},
      Attribute{"state", AttrType::Int},  Attribute{"steps", AttrType::Int},  Attribute{"to", AttrType::Int}};

  explicit FewSpikesEncodeKernel(const KernelInfo& info)
      : ranges(static_cast<int>(info.int_attribute("ranges"))),
        steps(info.int_attribute("steps")),
        to(static_cast<ElementType>(info.int_attribute("to"))) {
    const std::int64_t digits = info.int_attribute("digits");
    if (digits < 1 || digits > 24 || ranges < 1 || ranges > 24)
      throw Error("digits and ranges must be 1 to 24");
    if (steps != digits && steps != 1) throw Error("steps must be digits or 1");
  }

  static void infer(InferContext& context) {
    TypeShape x = context.input(0);
    const bool known = !x.dims.empty();
    x.dims.insert(x.dims.begin(), known ? Dim{context.int_attribute("steps")} : Dim::unknown());
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

  // How many boundaries lie below each bucket of [0, reach], and one more than the last for all beyond.
  static std::array<std::int32_t, kBuckets + 1> starts(std::span<const float> boundaries, float reach) {
    std::array<std::int32_t, kBuckets + 1> start;
    std::int32_t below = 0;
    const auto count = static_cast<std::int32_t>(boundaries.size());
    for (std::size_t i = 0; i <= kBuckets; ++i) {
      const float low = static_cast<float>(i) * (reach / kBuckets) * (1 - 1e-5f);
      while (below < count && boundaries[static_cast<std::size_t>(below)] < low) ++below;
      start[i] = below;
    }
    return start;
  }

  template <class T>
  void encode(Context& context) const {
    const Tensor input = context.input(0), thetas = context.input(1);
    const auto x = input.as<float>(), theta = thetas.as<float>(), boundaries = context.input(2).as<float>();
    const auto levels = context.input(3).as<std::int32_t>(), patterns = context.input(4).as<std::int32_t>();
    Shape shape = input.shape();
    const std::size_t channels = shape.empty() ? 1 : static_cast<std::size_t>(shape.back());
    if (theta.size() != 1 && theta.size() != channels)
      throw Error("theta needs 1 or " + std::to_string(channels) + " values");
    if (levels.size() != boundaries.size() + 1) throw Error("levels must be one more than boundaries");
    if (steps > 1 && patterns.size() != static_cast<std::size_t>(steps) * levels.size())
      throw Error("patterns needs steps times levels values");
    const auto table = steps == 1 ? levels : patterns;
    shape.insert(shape.begin(), steps);
    const auto train = context.output<T>(0, shape);
    const float reach = static_cast<float>(levels.back()) + 0.5f;
    const auto above = std::upper_bound(levels.begin(), levels.end(), levels.back() / 2);
    const auto coarse = static_cast<std::int32_t>(above - levels.begin());
    const auto start = starts(boundaries, reach);
    const float per_bucket = kBuckets / reach;
    const auto count = static_cast<std::int32_t>(boundaries.size());
    context.parallel_ranges(x.size(), kGrain, [&](std::size_t begin, std::size_t end) {
      std::size_t channel = theta.size() == 1 ? 0 : begin % channels;
      for (std::size_t i = begin; i < end; ++i) {
        const float z = std::abs(x[i]) / theta[channel];
        if (theta.size() != 1 && ++channel == channels) channel = 0;
        std::int32_t gate = 1;
        for (std::int32_t r = 1, weight = 1; r < ranges && z > reach * static_cast<float>(weight); ++r)
          gate = weight *= 2;
        const float fine = z / static_cast<float>(gate);
        const float bucket = std::min(fine * per_bucket, static_cast<float>(kBuckets));
        std::int32_t index = start[static_cast<std::size_t>(bucket)];
        while (index < count && boundaries[static_cast<std::size_t>(index)] < fine) ++index;
        if (gate > 1) index = std::max(index, coarse);
        const std::int32_t signed_gate = x[i] > 0 ? gate : x[i] < 0 ? -gate : 0;
        for (std::size_t t = 0; t < static_cast<std::size_t>(steps); ++t) {
          const std::int32_t spike = table[t * levels.size() + static_cast<std::size_t>(index)];
          train[t * x.size() + i] = static_cast<T>(spike * signed_gate);
        }
      }
    });
  }

  int ranges;
  std::int64_t steps;
  ElementType to;
};

}  // namespace

void add_few_spikes_encode(OpList& list) { list.add<FewSpikesEncodeKernel>(); }

}  // namespace spikec
