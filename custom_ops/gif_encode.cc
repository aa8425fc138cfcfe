// GIFEncode: from a real activation to graded spikes, in steps of the token's own threshold (gif_encode.py is the
// definition).
#include "graded.h"

namespace spikec {

namespace {

constexpr std::size_t kGrain = 16384;  // elements per task

struct GIFEncodeKernel {
  static constexpr const char* name = "GIFEncode";
  static constexpr std::array inputs{Port{"X", Types::of<float>()}, Port{"levels", Types::of<float>()},
                                     Port{"ratio", Types::of<float>()}};
  static constexpr std::array outputs{Port{"S", kAnyInteger}, Port{"theta", Types::of<float>()}};
  static constexpr std::array attributes{
      Attribute{"axis", AttrType::Int},  Attribute{"timesteps", AttrType::Int}, Attribute{"chunk", AttrType::Int},
      Attribute{"limit", AttrType::Int}, Attribute{"steps", AttrType::Int},     Attribute{"most", AttrType::Int},
      Attribute{"to", AttrType::Int}};

  explicit GIFEncodeKernel(const KernelInfo& info) : axis(info.int_attribute("axis")), graded(info, 1) {
    const std::int64_t timesteps = info.int_attribute("timesteps"), chunk = info.int_attribute("chunk");
    if (timesteps * chunk < info.int_attribute("limit")) throw Error("timesteps of `chunk` do not reach `limit`");
  }

  static void infer(InferContext& context) {
    infer_train(context, 0);
    infer_shared(context, 1);
  }

  void compute(Context& context) const {
    const Tensor input = context.input(0), levels_of = context.input(1), ratio_of = context.input(2);
    const auto x = input.as<float>(), levels = levels_of.as<float>(), ratio = ratio_of.as<float>();
    const Shared shared(input.shape(), axis);
    const std::size_t channels = levels.size();
    if (ratio.size() != channels || (channels != 1 && (axis != -1 || channels != shared.size)))
      throw Error("levels and ratio need 1 value each, or one a channel of the last axis");
    const auto theta = context.output<float>(1, shared.threshold_shape);
    Shape shape = input.shape();
    shape.insert(shape.begin(), graded.steps());
    const std::size_t stride = channels == 1 ? 0 : 1;
    graded.typed([&]<class T>() {
      const auto train = context.output<T>(0, shape);
      const std::size_t grain = kGrain / std::max<std::size_t>(1, shared.size);
      context.parallel_ranges(shared.thresholds, grain, [&](std::size_t begin, std::size_t end) {
        for (std::size_t i = begin; i < end; ++i) {
          float peak = 0;
          for (std::size_t k = 0; k < shared.size; ++k)
            peak = std::max(peak, std::abs(x[shared.at(i, k)]) / (levels[k * stride] * ratio[k * stride]));
          theta[i] = peak > 0 ? peak : 1;
          for (std::size_t k = 0; k < shared.size; ++k) {
            const std::size_t e = shared.at(i, k);
            const float z = std::abs(x[e]) / (theta[i] * ratio[k * stride]);
            const auto code = static_cast<std::int32_t>(std::min(z + 0.5f, levels[k * stride]));
            graded.spend(code, x[e] < 0, train.data(), e, x.size());
          }
        }
      });
    });
  }

  std::int64_t axis;
  Graded graded;
};

}  // namespace

void add_gif_encode(OpList& list) { list.add<GIFEncodeKernel>(); }

}  // namespace spikec
