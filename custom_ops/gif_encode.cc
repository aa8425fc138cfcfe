// GIFEncode: from a real activation to graded spikes, in steps of the token's own threshold (gif_encode.py is the
// definition).
#include "graded.h"

namespace spikec {

namespace {

constexpr std::size_t kGrain = 16384;  // elements per task

struct GIFEncodeKernel {
  static constexpr const char* name = "GIFEncode";
  static constexpr std::array inputs{Port{"X", Types::of<float>()}};
  static constexpr std::array outputs{Port{"S", kAnyInteger}, Port{"theta", Types::of<float>()}};
  static constexpr std::array attributes{
      Attribute{"axis", AttrType::Int},      Attribute{"levels", AttrType::Ints}, Attribute{"ratio", AttrType::Ints},
      Attribute{"timesteps", AttrType::Int}, Attribute{"chunk", AttrType::Int},   Attribute{"steps", AttrType::Int},
      Attribute{"most", AttrType::Int},      Attribute{"to", AttrType::Int}};

  explicit GIFEncodeKernel(const KernelInfo& info)
      : axis(info.int_attribute("axis")), ratio(info.ints_attribute("ratio")), graded(info, 1) {
    const auto highest = info.ints_attribute("levels");
    const std::int64_t reach = info.int_attribute("timesteps") * info.int_attribute("chunk");
    if (highest.empty() || highest.size() != ratio.size()) throw Error("levels and ratio must be as many");
    for (std::size_t c = 0; c < ratio.size(); ++c) {
      if (highest[c] < 1 || ratio[c] < 1) throw Error("levels and ratio must be positive");
      if (highest[c] > reach) throw Error("timesteps of `chunk` do not reach levels");
      if (static_cast<double>(std::min(highest[c], graded.most()) * ratio[c]) > graded.room())
        throw Error("a spike does not fit the train's type");
      levels.push_back(static_cast<float>(highest[c]));
      unit.push_back(static_cast<float>(ratio[c]));
    }
  }

  static void infer(InferContext& context) {
    infer_train(context, 0);
    infer_shared(context, 1);
  }

  void compute(Context& context) const {
    const Tensor input = context.input(0);
    const auto x = input.as<float>();
    const Shared shared(input.shape(), axis);
    const std::size_t channels = levels.size();
    if (channels != 1 && (axis != -1 || channels != shared.size))
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
            peak = std::max(peak, std::abs(x[shared.at(i, k)]) / (levels[k * stride] * unit[k * stride]));
          theta[i] = peak > 0 ? peak : 1;
          for (std::size_t k = 0; k < shared.size; ++k) {
            const std::size_t e = shared.at(i, k);
            const float z = std::abs(x[e]) / (theta[i] * unit[k * stride]);
            const auto code = static_cast<std::int32_t>(std::min(z + 0.5f, levels[k * stride]));
            const std::int64_t gate = x[e] < 0 ? -ratio[k * stride] : ratio[k * stride];
            graded.spend(code, gate, train.data(), e, x.size());
          }
        }
      });
    });
  }

  std::int64_t axis;
  std::vector<std::int64_t> ratio;
  Graded graded;
  std::vector<float> levels, unit;
};

}  // namespace

void add_gif_encode(OpList& list) { list.add<GIFEncodeKernel>(); }

}  // namespace spikec
