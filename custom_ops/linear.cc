// SpikeLinear: every spike adds its row of weights to the membrane (linear.py is the definition).
//
// Unrolled, it does just that. Packed, one product with the codes gives the same sums: exact in int32 or float64 for
// int8 weights; in float64 for float weights, where one rounding at the end leaves nothing to tell the two orders of
// summation apart. One or two rows (decoding) stream the weights once, skipping the rows of silent inputs.
#include <cmath>

#include "product.h"

namespace spikec {

namespace {

constexpr std::size_t kStreamedRows = 2;
constexpr std::size_t kStreamedColumns = 256;
constexpr double kExactInInt32 = 2147483647.0;

struct LinearKernel {
  static constexpr const char* name = "SpikeLinear";
  static constexpr std::array inputs{Port{"S", kAnyInteger}, Port{"W", Types::of<float, std::int8_t>()},
                                     Port{"w_scale", Types::of<float>()}};
  static constexpr std::array outputs{Port{"Y", Types::of<float>()}};
  static constexpr std::array attributes{Attribute{"scale", AttrType::Float},
                                         Attribute{"radix", AttrType::Int}};

  explicit LinearKernel(const KernelInfo& info)
      : scale(info.float_attribute("scale")), radix(static_cast<double>(info.int_attribute("radix"))) {
    if (const auto weight = info.constant_input(1); weight && weight->type() == ElementType::Int8)
      heaviest_column = column_sum(*weight);
  }

  static void infer(InferContext& context) {
    TypeShape train = context.input(0), weight = context.input(1);
    if (train.dims.size() < 2 || weight.dims.size() != 2) return;
    train.dims.erase(train.dims.begin());
    train.dims.back() = weight.dims[1];
    context.set_output(0, {ElementType::Float, train.dims});
  }

  void compute(Context& context) const {
    const Tensor train = context.input(0), weight = context.input(1), w_scale = context.input(2);
    const std::size_t steps = step_count(train, "S");
    Shape shape(step_shape(train).begin(), step_shape(train).end());
    if (shape.empty() || weight.shape().size() != 2 || shape.back() != weight.shape()[0])
      throw Error("S " + to_string(train.shape()) + " does not fit W " + to_string(weight.shape()));
    Sizes size{0, static_cast<std::size_t>(shape.back()), static_cast<std::size_t>(weight.shape()[1])};
    if (w_scale.size() != 1 && w_scale.size() != weight.shape()[1])
      throw Error("w_scale needs 1 or " + std::to_string(size.fan_out) + " values");
    shape.back() = weight.shape()[1];
    const auto y = context.output<float>(0, shape);
    if (y.empty()) return;
    size.rows = y.size() / size.fan_out;
    const float* factors = w_scale.as<float>().data();
    const std::size_t stride = w_scale.size() == 1 ? 0 : 1;
    const auto emit = [&, out = y.data()](std::size_t row, std::size_t column, const auto* membrane, std::size_t n) {
      float* to = out + row * size.fan_out + column;
      for (std::size_t i = 0; i < n; ++i)
        to[i] = static_cast<float>(static_cast<double>(membrane[i]) * scale * factors[(column + i) * stride]);
    };
    visit<std::int8_t, std::int16_t, std::int32_t>(train, [&](auto spikes) {
      visit<float, std::int8_t>(weight, [&](auto w) {
        if (steps > 1)
          unrolled(context, size, steps, spikes.data(), w.data(), emit);
        else
          packed(context, size, spikes, w.data(), emit);
      });
    });
  }

 private:
  template <class Code, class Weight, class Emit>
  void packed(Context& context, const Sizes& size, std::span<const Code> codes, const Weight* w, Emit&& emit) const {
    if (size.rows <= kStreamedRows) return streamed(context, size, codes.data(), w, emit);
    if constexpr (std::is_same_v<Weight, std::int8_t>)
      if (const double loudest = largest(codes); loudest <= 32767 && loudest * heaviest_column < kExactInInt32)
        return product<Narrow>(context, size, codes.data(), w, emit);
    product<Wide>(context, size, codes.data(), w, emit);
  }

  template <class Code, class Weight, class Emit>
  void streamed(Context& context, const Sizes& size, const Code* codes, const Weight* w, Emit&& emit) const {
    context.parallel_ranges(size.fan_out, kStreamedColumns, [&](std::size_t begin, std::size_t end) {
      std::array<double, kStreamedColumns> membrane;
      for (std::size_t row = 0; row < size.rows; ++row) {
        membrane.fill(0);
        for (std::size_t k = 0; k < size.fan_in; ++k)
          if (const Code code = codes[row * size.fan_in + k])
            accumulate(membrane.data(), w + k * size.fan_out + begin, code, end - begin);
        emit(row, begin, membrane.data(), end - begin);
      }
    });
  }

  template <class Spike, class Weight, class Emit>
  void unrolled(Context& context, const Sizes& size, std::size_t steps, const Spike* spikes, const Weight* w,
                Emit&& emit) const {
    context.parallel_for(size.rows, [&](std::size_t row) {
      const auto membrane = scratch<double, struct Membrane>(size.fan_out);
      std::ranges::fill(membrane, 0.0);
      for (std::size_t t = 0; t < steps; ++t) {
        const Spike* events = spikes + (t * size.rows + row) * size.fan_in;
        for (double& v : membrane) v *= radix;
        for (std::size_t k = 0; k < size.fan_in; ++k)
          if (events[k]) accumulate(membrane.data(), w + k * size.fan_out, events[k], size.fan_out);
      }
      emit(row, 0, membrane.data(), size.fan_out);
    });
  }

  static void accumulate(double* membrane, const float* row, double spike, std::size_t n) {
    kernels().accumulate_f64(membrane, row, spike, n);
  }
  static void accumulate(double* membrane, const std::int8_t* row, double spike, std::size_t n) {
    kernels().accumulate_i8(membrane, row, spike, n);
  }

  // The largest Σ_k |W[k, n]|: times the largest code it bounds every partial sum.
  static double column_sum(const Tensor& weight) {
    if (weight.shape().size() != 2) return INFINITY;
    const auto values = weight.as<std::int8_t>();
    std::vector<double> sums(static_cast<std::size_t>(weight.shape()[1]));
    for (std::size_t i = 0; i < values.size(); ++i) sums[i % sums.size()] += std::abs(static_cast<double>(values[i]));
    return sums.empty() ? 0 : *std::ranges::max_element(sums);
  }

  double scale, radix;
  double heaviest_column = INFINITY;
};

}  // namespace

void add_linear(OpList& list) { list.add<LinearKernel>(); }

}  // namespace spikec
