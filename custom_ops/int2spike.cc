// Int2Spike: from a real activation to the spike counts of its token's own threshold (int2spike.py is the definition).
#include "graded.h"

namespace spikec {

namespace {

constexpr std::size_t kGrain = 16384;  // elements per task

struct Int2SpikeKernel {
  static constexpr const char* name = "Int2Spike";
  static constexpr std::array inputs{Port{"X", Types::of<float>()}};
  static constexpr std::array outputs{Port{"S", kAnyInteger}, Port{"theta", Types::of<float>()}};
  static constexpr std::array attributes{
      Attribute{"k", AttrType::Float},      Attribute{"axis", AttrType::Int},      Attribute{"limit", AttrType::Int},
      Attribute{"no_clip", AttrType::Int}, Attribute{"timesteps", AttrType::Int}, Attribute{"radix", AttrType::Int},
      Attribute{"steps", AttrType::Int},    Attribute{"most", AttrType::Int},      Attribute{"to", AttrType::Int}};

  explicit Int2SpikeKernel(const KernelInfo& info)
      : k(info.float_attribute("k")),
        axis(info.int_attribute("axis")),
        limit(static_cast<float>(info.int_attribute("limit"))),
        no_clip(info.int_attribute("no_clip") != 0),
        graded(info, info.int_attribute("radix")) {
    if (!(k > 0) || !(limit >= 1) || limit > 1 << 24) throw Error("k must be positive, limit 1 to 2**24");
  }

  static void infer(InferContext& context) {
    infer_train(context, 0);
    infer_shared(context, 1);
  }

  float threshold(const Shared& shared, const float* x, std::size_t i) const {
    double total = 0;
    float peak = 0;
    for (std::size_t n = 0; n < shared.size; ++n) {
      const float size = std::abs(x[shared.at(i, n)]);
      total += static_cast<double>(size);
      peak = std::max(peak, size);
    }
    float theta = static_cast<float>(total / static_cast<double>(shared.size) / static_cast<double>(k));
    if (no_clip) theta = std::max(theta, peak / limit);
    return theta > 0 ? theta : 1;
  }

  void compute(Context& context) const {
    const Tensor input = context.input(0);
    const auto x = input.as<float>();
    const Shared shared(input.shape(), axis);
    const auto theta = context.output<float>(1, shared.threshold_shape);
    Shape shape = input.shape();
    shape.insert(shape.begin(), graded.steps());
    graded.typed([&]<class T>() {
      const auto train = context.output<T>(0, shape);
      const std::size_t grain = kGrain / std::max<std::size_t>(1, shared.size);
      context.parallel_ranges(shared.thresholds, grain, [&](std::size_t begin, std::size_t end) {
        for (std::size_t i = begin; i < end; ++i) {
          theta[i] = threshold(shared, x.data(), i);
          for (std::size_t n = 0; n < shared.size; ++n) {
            const std::size_t e = shared.at(i, n);
            const auto code = static_cast<std::int32_t>(std::min(std::abs(x[e]) / theta[i] + 0.5f, limit));
            graded.spend(code, x[e] < 0 ? -1 : 1, train.data(), e, x.size());
          }
        }
      });
    });
  }

  float k;
  std::int64_t axis;
  float limit;
  bool no_clip;
  Graded graded;
};

}  // namespace

void add_int2spike(OpList& list) { list.add<Int2SpikeKernel>(); }

}  // namespace spikec
