// LIFEncode: leaky integrate-and-fire, step by step (lif_encode.py is the definition).
#include "train.h"

namespace spikec {

namespace {

constexpr std::size_t kGrain = 16384;  // neurons per task
constexpr std::size_t kBlock = 256;    // membranes held at a time, so that the loops over them vectorise

struct LifEncodeKernel {
  static constexpr const char* name = "LIFEncode";
  static constexpr std::array inputs{Port{"I", Types::of<float>()}, Port{"theta", Types::of<float>()}};
  static constexpr std::array outputs{Port{"S", Types::of<std::int8_t>()}};
  static constexpr std::array attributes{Attribute{"beta", AttrType::Float}, Attribute{"steps", AttrType::Int}};

  explicit LifEncodeKernel(const KernelInfo& info)
      : beta(info.float_attribute("beta")), steps(info.int_attribute("steps")) {
    if (steps < 1) throw Error("steps must be at least 1, got " + std::to_string(steps));
  }

  static void infer(InferContext& context) {
    TypeShape train = context.input(0);
    if (train.dims.empty()) return;
    train.type = ElementType::Int8;
    train.dims[0] = Dim{context.int_attribute("steps")};
    context.set_output(0, train);
  }

  void compute(Context& context) const {
    const Tensor current = context.input(0), theta = context.input(1);
    const std::size_t frames = step_count(current, "I");
    if (frames != 1 && frames != static_cast<std::size_t>(steps))
      throw Error("I " + to_string(current.shape()) + " is neither one current nor " + std::to_string(steps));
    Shape shape(current.shape());
    shape[0] = steps;
    const auto spikes = context.output<std::int8_t>(0, shape);
    const auto i = current.as<float>();
    const auto thresholds = spread(theta, step_shape(current));
    const std::size_t neurons = thresholds.size();
    context.parallel_ranges(neurons, kGrain, [&](std::size_t begin, std::size_t end) {
      for (std::size_t first = begin; first < end; first += kBlock) {
        const std::size_t n = std::min(kBlock, end - first);
        std::array<float, kBlock> u{};
        const float* at = thresholds.data() + first;
        for (std::size_t t = 0; t < static_cast<std::size_t>(steps); ++t) {
          const float* in = i.data() + (frames == 1 ? 0 : t) * neurons + first;
          std::int8_t* out = spikes.data() + t * neurons + first;
          for (std::size_t j = 0; j < n; ++j) {
            const float membrane = beta * u[j] + in[j];
            const bool fired = membrane >= at[j];
            out[j] = fired;
            u[j] = membrane - at[j] * static_cast<float>(fired);
          }
        }
      }
    });
  }

 private:
  // One threshold for each neuron.
  static std::vector<float> spread(const Tensor& theta, std::span<const std::int64_t> shape) {
    const auto from = theta.as<float>();
    const std::size_t missing = shape.size() - std::min(shape.size(), theta.shape().size());
    std::vector<std::size_t> strides(shape.size(), 0);
    std::size_t stride = 1;
    if (theta.shape().size() > shape.size()) refuse(theta, shape);
    for (std::size_t axis = shape.size(); axis-- > missing;) {
      const std::int64_t size = theta.shape()[axis - missing];
      if (size != 1 && size != shape[axis]) refuse(theta, shape);
      if (size != 1) strides[axis] = stride;
      stride *= static_cast<std::size_t>(size);
    }
    std::vector<float> all(static_cast<std::size_t>(element_count(shape)));
    Shape index(shape.size(), 0);
    std::size_t at = 0;
    for (float& value : all) {
      value = from[at];
      for (std::size_t axis = shape.size(); axis-- > 0;) {
        at += strides[axis];
        if (++index[axis] < shape[axis]) break;
        at -= strides[axis] * static_cast<std::size_t>(shape[axis]);
        index[axis] = 0;
      }
    }
    return all;
  }

  [[noreturn]] static void refuse(const Tensor& theta, std::span<const std::int64_t> shape) {
    throw Error("theta " + to_string(theta.shape()) + " does not fit one step of I " +
                to_string(Shape(shape.begin(), shape.end())));
  }

  float beta;
  std::int64_t steps;
};

}  // namespace

void add_lif_encode(OpList& list) { list.add<LifEncodeKernel>(); }

}  // namespace spikec
