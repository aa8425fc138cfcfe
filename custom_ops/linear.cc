// SpikeLinear: every spike adds its row of weights to the membrane (linear.py is the definition).
//
// Unrolled, it does just that. Packed, one product with the codes gives the same sums: exact in int32 for int8
// weights (one product per byte of the code), in float64 for float weights, where one rounding at the end leaves
// nothing to tell the two orders of summation apart.
#include "invoke.h"
#include "train.h"

namespace spikec {

namespace {

struct LinearKernel {
  static constexpr const char* name = "SpikeLinear";
  static constexpr std::array inputs{Port{"S", kAnyInteger}, Port{"W", Types::of<float, std::int8_t>()},
                                     Port{"w_scale", Types::of<float>()}};
  static constexpr std::array outputs{Port{"Y", Types::of<float>()}};
  static constexpr std::array attributes{Attribute{"scale", AttrType::Float},
                                         Attribute{"radix", AttrType::Int}};

  explicit LinearKernel(const KernelInfo& info)
      : scale(info.float_attribute("scale")),
        radix(static_cast<double>(info.int_attribute("radix"))),
        product(info, "MatMul", 13, {{"T", ElementType::Double}}, 2),
        product_int8(info, "MatMulInteger", 10,
                     {{"T1", ElementType::Int8}, {"T2", ElementType::Int8}, {"T3", ElementType::Int32}}, 2) {
    const auto weight = info.constant_input(1);
    if (weight && weight->type() == ElementType::Float) widen(*weight, constant);
  }

  static void infer(InferContext& context) {
    TypeShape train = context.input(0), weight = context.input(1);
    if (train.dims.size() < 2 || weight.dims.size() != 2) return;
    train.dims.erase(train.dims.begin());
    train.dims.back() = weight.dims[1];
    context.set_output(0, {ElementType::Float, train.dims});
  }

  struct Job {
    std::size_t steps, rows, fan_in, fan_out;
    std::span<const float> w_scale;
    std::span<float> y;
    double factor(std::size_t n) const { return w_scale[w_scale.size() == 1 ? 0 : n]; }
  };

  void compute(Context& context) const {
    const Tensor train = context.input(0), weight = context.input(1), w_scale = context.input(2);
    const std::size_t steps = step_count(train, "S");
    Shape shape(step_shape(train).begin(), step_shape(train).end());
    if (shape.empty() || weight.shape().size() != 2 || shape.back() != weight.shape()[0])
      throw Error("S " + to_string(train.shape()) + " does not fit W " + to_string(weight.shape()));
    const auto fan_in = static_cast<std::size_t>(shape.back()), fan_out = static_cast<std::size_t>(weight.shape()[1]);
    if (w_scale.size() != 1 && w_scale.size() != weight.shape()[1])
      throw Error("w_scale needs 1 or " + std::to_string(fan_out) + " values");
    shape.back() = weight.shape()[1];
    const auto y = context.output<float>(0, shape);
    const std::size_t rows = fan_out ? y.size() / fan_out : 0;
    const Job job{steps, rows, fan_in, fan_out, w_scale.as<float>(), y};
    if (y.empty()) return;
    visit<std::int8_t, std::int16_t, std::int32_t>(train, [&](auto spikes) {
      if (steps > 1)
        unrolled(context, job, spikes, weight);
      else if (weight.type() == ElementType::Int8)
        packed_int8(context, job, spikes, weight);
      else
        packed_float(context, job, spikes, weight);
    });
  }

 private:
  template <class T>
  void unrolled(Context& context, const Job& job, std::span<const T> spikes, const Tensor& weight) const {
    context.parallel_for(job.rows, [&](std::size_t row) {
      const auto membrane = scratch<double, struct Membrane>(job.fan_out);
      const auto current = scratch<std::int32_t, struct Current>(job.fan_out);
      std::ranges::fill(membrane, 0.0);
      for (std::size_t t = 0; t < job.steps; ++t) {
        const T* events = spikes.data() + (t * job.rows + row) * job.fan_in;
        for (double& v : membrane) v *= radix;
        if (weight.type() == ElementType::Int8) {
          const std::int8_t* w = weight.as<std::int8_t>().data();
          std::ranges::fill(current, 0);
          for (std::size_t k = 0; k < job.fan_in; ++k)
            if (events[k]) kernels().accumulate_i32(current.data(), w + k * job.fan_out, events[k], job.fan_out);
          for (std::size_t n = 0; n < job.fan_out; ++n) membrane[n] += current[n];
        } else {
          const float* w = weight.as<float>().data();
          for (std::size_t k = 0; k < job.fan_in; ++k)
            if (events[k]) kernels().accumulate_f64(membrane.data(), w + k * job.fan_out, events[k], job.fan_out);
        }
      }
      for (std::size_t n = 0; n < job.fan_out; ++n)
        job.y[row * job.fan_out + n] = static_cast<float>(membrane[n] * scale * job.factor(n));
    });
  }

  template <class T>
  void packed_float(Context& context, const Job& job, std::span<const T> codes, const Tensor& weight) const {
    std::vector<double> variable;
    if (constant.empty()) widen(weight, variable);
    const std::vector<double>& wide = constant.empty() ? variable : constant;
    const auto code = scratch<double, struct Code>(job.rows * job.fan_in);
    const auto sum = scratch<double, struct Sum>(job.rows * job.fan_out);
    context.parallel_ranges(code.size(), 1 << 15, [&](std::size_t begin, std::size_t end) {
      std::copy(codes.data() + begin, codes.data() + end, code.data() + begin);
    });
    const Shape left = matrix(job.rows, job.fan_in), right = matrix(job.fan_in, job.fan_out);
    const Borrowed a(code, left), b(std::span<const double>(wide), right), c(sum, matrix(job.rows, job.fan_out));
    product(context, {a.value(), b.value()}, {c.value()});
    finish(context, job, [&](std::size_t i) { return sum[i]; });
  }

  template <class T>
  void packed_int8(Context& context, const Job& job, std::span<const T> codes, const Tensor& weight) const {
    constexpr int planes = sizeof(T);
    const std::size_t in = job.rows * job.fan_in, out = job.rows * job.fan_out;
    const auto bytes = scratch<std::int8_t, struct Planes>(in * static_cast<std::size_t>(planes));
    const auto sums = scratch<std::int32_t, struct Sums>(out * static_cast<std::size_t>(planes));
    context.parallel_ranges(in, 1 << 15, [&](std::size_t begin, std::size_t end) {
      std::array<std::int32_t, kBlock> code;
      for (std::size_t first = begin; first < end; first += kBlock) {
        const std::size_t n = std::min(kBlock, end - first);
        std::copy_n(codes.data() + first, n, code.data());
        kernels().split_planes(code.data(), bytes.data() + first, in, n, planes);
      }
    });
    for (int j = 0; j < planes; ++j) {
      const auto at = static_cast<std::size_t>(j);
      const Borrowed a(bytes.subspan(at * in, in), matrix(job.rows, job.fan_in));
      const Borrowed c(sums.subspan(at * out, out), matrix(job.rows, job.fan_out));
      product_int8(context, {a.value(), weight.value()}, {c.value()});
    }
    finish(context, job, [&](std::size_t i) {
      double sum = sums[i], place = 256;
      for (int j = 1; j < planes; ++j, place *= 256) sum += place * sums[static_cast<std::size_t>(j) * out + i];
      return sum;
    });
  }

  template <class Sum>
  void finish(Context& context, const Job& job, Sum&& sum) const {
    const std::size_t grain = std::max<std::size_t>(1, (1 << 14) / job.fan_out);
    context.parallel_ranges(job.rows, grain, [&](std::size_t begin, std::size_t end) {
      for (std::size_t row = begin; row < end; ++row)
        for (std::size_t n = 0; n < job.fan_out; ++n) {
          const std::size_t i = row * job.fan_out + n;
          job.y[i] = static_cast<float>(sum(i) * scale * job.factor(n));
        }
    });
  }

  static void widen(const Tensor& weight, std::vector<double>& wide) {
    const auto values = weight.as<float>();
    wide.assign(values.begin(), values.end());
  }

  static Shape matrix(std::size_t rows, std::size_t columns) {
    return {static_cast<std::int64_t>(rows), static_cast<std::int64_t>(columns)};
  }

  double scale, radix;
  Builtin product, product_int8;
  std::vector<double> constant;
};

}  // namespace

void add_linear(OpList& list) { list.add<LinearKernel>(); }

}  // namespace spikec
