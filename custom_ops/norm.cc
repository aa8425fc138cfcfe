// SpikeRMSNorm and SpikeLayerNorm: a squaring neuron and a bit-serial reciprocal square root (norm.py, rms_norm.py
// and layer_norm.py are the definitions).
#include <cmath>

#include "train.h"

namespace spikec {

namespace {

constexpr int kReach = 63;
constexpr std::size_t kGrain = 1 << 13;  // elements per task

struct Settings {
  explicit Settings(const KernelInfo& info)
      : epsilon(info.float_attribute("epsilon")),
        bits(static_cast<int>(info.int_attribute("bits"))),
        digits(info.int_attribute("steps"), info.int_attribute("radix")) {
    if (bits < 1 || bits > 16) throw Error("bits must be 1 to 16");
  }
  double epsilon;
  int bits;
  Digits digits;
};

// Largest e in [-kReach, kReach] with 2**(order·e) ≤ value, or -kReach.
int floor_log(double value, int order) {
  if (!(value > 0)) return -kReach;
  const int e = std::ilogb(value);
  return std::clamp(e >= 0 ? e / order : -((-e + order - 1) / order), -kReach, kReach);
}

// The row's integer code; returns its step.
double row_code(const float* x, std::span<std::int32_t> code, int bits) {
  const double step =
      std::ldexp(1.0, floor_log(kernels().largest_magnitude(x, code.size()), 1) - bits);
  kernels().row_code(x, code.data(), code.size(), static_cast<float>(step));
  return step;
}

// Σ c²: each spike of a code adds the code, shifted by the spike's weight.
double sum_of_squares(std::span<const std::int32_t> code, const Digits& digits) {
  if (digits.steps() == 1) return kernels().sum_of_squares(code.data(), code.size());
  double sum = 0;
  for (const std::int32_t signed_code : code) {
    const std::int64_t c = std::abs(std::int64_t{signed_code});
    double square = 0;
    for (std::size_t t = 0; t < digits.steps(); ++t)
      square = digits.radix() * square + static_cast<double>(digits.digit(c, t) * c);
    sum += square;
  }
  return sum;
}

// y = x / √mean_square, one rounding.
void scale_by_rsqrt(const float* x, float* y, std::size_t n, double mean_square, const float* rsqrt,
                    const Settings& settings) {
  const int shift = floor_log(mean_square, 2);
  const auto m = static_cast<float>(std::ldexp(mean_square, -2 * shift));
  const std::int32_t none = 0;
  std::int32_t passed = 0;
  kernels().bit_serial(&m, &none, &passed, 1, rsqrt, settings.bits);
  const std::int64_t root = (std::int64_t{2} << settings.bits) - passed;
  const double place = std::ldexp(1.0, -settings.bits - 1 - shift);
  const Digits& digits = settings.digits;
  if (digits.steps() == 1) return kernels().scale_narrow(x, static_cast<double>(root), place, y, n);
  for (std::size_t i = 0; i < n; ++i) {
    double membrane = 0;
    for (std::size_t t = 0; t < digits.steps(); ++t)
      membrane = digits.radix() * membrane + static_cast<double>(digits.digit(root, t)) * static_cast<double>(x[i]);
    y[i] = static_cast<float>(membrane * place);
  }
}

double mean_square(std::span<const std::int32_t> code, double step, const Settings& settings) {
  return sum_of_squares(code, settings.digits) * (step * step) / static_cast<double>(code.size()) +
         settings.epsilon;
}

void infer_same(InferContext& context) {
  const TypeShape x = context.input(0);
  if (!x.dims.empty()) context.set_output(0, {ElementType::Float, x.dims});
}

// Runs body(x row, y row) over the rows of the last axis.
template <class Body>
void each_row(Context& context, std::initializer_list<std::size_t> vectors, std::size_t table, int bits, Body&& body) {
  const Tensor input = context.input(0);
  const auto x = input.as<float>();
  if (input.shape().empty()) throw Error("X needs an axis to normalise over, got a scalar");
  const auto n = static_cast<std::size_t>(input.shape().back());
  for (const std::size_t index : vectors)
    if (context.input(index).size() != input.shape().back())
      throw Error("input " + std::to_string(index) + " needs one value a channel");
  if (context.input(table).size() != std::int64_t{1} << bits) throw Error("rsqrt needs 2**bits thresholds");
  const auto y = context.output<float>(0, input.shape());
  if (y.empty()) return;
  context.parallel_ranges(y.size() / n, kGrain / n, [&](std::size_t begin, std::size_t end) {
    for (std::size_t row = begin; row < end; ++row) body(x.subspan(row * n, n), y.subspan(row * n, n));
  });
}

struct RMSNormKernel {
  static constexpr const char* name = "SpikeRMSNorm";
  static constexpr std::array inputs{Port{"X", Types::of<float>()}, Port{"gamma", Types::of<float>()},
                                     Port{"rsqrt", Types::of<float>()}};
  static constexpr std::array outputs{Port{"Y", Types::of<float>()}};
  static constexpr std::array attributes{Attribute{"epsilon", AttrType::Float}, Attribute{"bits", AttrType::Int},
                                         Attribute{"steps", AttrType::Int}, Attribute{"radix", AttrType::Int}};

  explicit RMSNormKernel(const KernelInfo& info) : settings(info) {}
  static void infer(InferContext& context) { infer_same(context); }

  void compute(Context& context) const {
    const Tensor gamma_input = context.input(1), table = context.input(2);
    const auto gamma = gamma_input.as<float>(), rsqrt = table.as<float>();
    each_row(context, {1}, 2, settings.bits, [&](std::span<const float> x, std::span<float> y) {
      const auto code = scratch<std::int32_t, struct Code>(x.size());
      const double step = row_code(x.data(), code, settings.bits);
      scale_by_rsqrt(x.data(), y.data(), x.size(), mean_square(code, step, settings), rsqrt.data(), settings);
      for (std::size_t i = 0; i < y.size(); ++i) y[i] *= gamma[i];
    });
  }

  Settings settings;
};

struct LayerNormKernel {
  static constexpr const char* name = "SpikeLayerNorm";
  static constexpr std::array inputs{Port{"X", Types::of<float>()}, Port{"gamma", Types::of<float>()},
                                     Port{"beta", Types::of<float>()}, Port{"rsqrt", Types::of<float>()}};
  static constexpr std::array outputs{Port{"Y", Types::of<float>()}};
  static constexpr auto attributes = RMSNormKernel::attributes;

  explicit LayerNormKernel(const KernelInfo& info) : settings(info) {}
  static void infer(InferContext& context) { infer_same(context); }

  void compute(Context& context) const {
    const Tensor gamma_input = context.input(1), beta_input = context.input(2), table = context.input(3);
    const auto gamma = gamma_input.as<float>(), beta = beta_input.as<float>(), rsqrt = table.as<float>();
    each_row(context, {1, 2}, 3, settings.bits, [&](std::span<const float> x, std::span<float> y) {
      const auto code = scratch<std::int32_t, struct Code>(x.size());
      const auto centred = scratch<float, struct Centred>(x.size());
      double step = row_code(x.data(), code, settings.bits), sum = 0;
      for (const std::int32_t c : code) sum += c;
      const auto mean = static_cast<float>(sum * step / static_cast<double>(x.size()));
      for (std::size_t i = 0; i < x.size(); ++i) centred[i] = x[i] - mean;
      step = row_code(centred.data(), code, settings.bits);
      const double power = mean_square(code, step, settings);
      scale_by_rsqrt(centred.data(), y.data(), y.size(), power, rsqrt.data(), settings);
      for (std::size_t i = 0; i < y.size(); ++i) y[i] = y[i] * gamma[i] + beta[i];
    });
  }

  Settings settings;
};

}  // namespace

void add_norms(OpList& list) {
  list.add<RMSNormKernel>();
  list.add<LayerNormKernel>();
}

}  // namespace spikec
