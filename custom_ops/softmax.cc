// SpikeSoftmax: bit-serial exponentials and one bit-serial reciprocal a row (softmax.py is the definition).
#include <cmath>

#include "train.h"

namespace spikec {

namespace {

constexpr float kReach = -24;
constexpr float kLog2e = 1.4426950408889634f;
constexpr int kLongest = 24;
constexpr std::size_t kGrain = 1 << 13;  // elements per task

// Where the thresholds of E lie on [0, 1), so that few need comparing; the codes are bit_serial's.
class Hints {
 public:
  Hints() = default;
  explicit Hints(std::span<const float> thresholds)
      : padded_(thresholds.begin(), thresholds.end()), start_(thresholds.size()) {
    const auto below = [&](std::size_t bucket) {
      const float edge = static_cast<float>(bucket) / static_cast<float>(start_.size());
      return static_cast<std::int32_t>(std::lower_bound(thresholds.begin() + 1, thresholds.end(), edge) -
                                       thresholds.begin() - 1);
    };
    for (std::size_t b = 0; b < start_.size(); ++b) {
      start_[b] = below(b);
      const bool last = b + 1 == start_.size();
      const auto above = last ? static_cast<std::int32_t>(thresholds.size()) - 1 : below(b + 1);
      most_ = std::max(most_, above - start_[b]);
    }
    padded_.insert(padded_.end(), static_cast<std::size_t>(most_), INFINITY);
  }
  bool empty() const { return start_.empty(); }
  void code(const float* x, std::int32_t* code, std::size_t n) const {
    kernels().bit_serial_hinted(x, code, n, padded_.data(), start_.data(), static_cast<float>(start_.size()), most_);
  }

 private:
  std::vector<float> padded_;
  std::vector<std::int32_t> start_;
  int most_ = 0;
};

struct SoftmaxKernel {
  static constexpr const char* name = "SpikeSoftmax";
  static constexpr std::array inputs{Port{"X", Types::of<float>()}, Port{"exp2", Types::of<float>()},
                                     Port{"reciprocal", Types::of<float>()}};
  static constexpr std::array outputs{Port{"Y", Types::of<float>()}};
  static constexpr std::array attributes{Attribute{"bits", AttrType::Int}, Attribute{"steps", AttrType::Int},
                                         Attribute{"radix", AttrType::Int}};

  explicit SoftmaxKernel(const KernelInfo& info)
      : bits(static_cast<int>(info.int_attribute("bits"))),
        digits(info.int_attribute("steps"), info.int_attribute("radix")) {
    if (bits < 1 || bits > 16) throw Error("bits must be 1 to 16");
    const auto exp2 = info.constant_input(1);
    if (exp2 && exp2->size() == std::int64_t{1} << bits) hints = Hints(exp2->as<float>());
  }

  static void infer(InferContext& context) {
    const TypeShape x = context.input(0);
    if (!x.dims.empty()) context.set_output(0, {ElementType::Float, x.dims});
  }

  void compute(Context& context) const {
    const Tensor input = context.input(0), exp2_input = context.input(1), reciprocal_input = context.input(2);
    const auto x = input.as<float>(), exp2 = exp2_input.as<float>(), reciprocal = reciprocal_input.as<float>();
    if (input.shape().empty()) throw Error("X needs an axis to normalise over, got a scalar");
    if (exp2.size() != std::size_t{1} << bits || reciprocal.size() != exp2.size())
      throw Error("exp2 and reciprocal need 2**bits thresholds");
    const auto y = context.output<float>(0, input.shape());
    if (y.empty()) return;
    const auto length = static_cast<std::size_t>(input.shape().back()), rows = y.size() / length;
    context.parallel_ranges(rows, kGrain / length, [&](std::size_t begin, std::size_t end) {
      const auto p = scratch<double, struct Powers>(length);
      for (std::size_t row = begin; row < end; ++row)
        normalise(x.data() + row * length, y.data() + row * length, p, exp2.data(), reciprocal.data());
    });
  }

 private:
  void normalise(const float* x, float* y, std::span<double> p, const float* exp2,
                 const float* reciprocal) const {
    const float most = kernels().largest(x, p.size());
    std::size_t length = p.size();  // a causal mask silences the end of the row
    while (length && !((x[length - 1] - most) * kLog2e > kReach)) y[--length] = 0;
    std::array<float, kBlock> fraction;
    std::array<std::int32_t, kBlock> exponent, code;
    double sum = 0;
    for (std::size_t first = 0; first < length; first += kBlock) {
      const std::size_t n = std::min(kBlock, length - first);
      kernels().exp2_split(x + first, most, kReach, fraction.data(), exponent.data(), n);
      if (hints.empty())
        kernels().bit_serial(fraction.data(), kNoOffset.data(), code.data(), n, exp2, bits);
      else
        hints.code(fraction.data(), code.data(), n);
      kernels().exp2_join(code.data(), exponent.data(), p.data() + first, n, bits);
      for (std::size_t i = 0; i < n; ++i) sum += p[first + i];
    }
    int shift = 0;
    while (shift < kLongest && sum >= std::ldexp(1.0, shift + 1)) ++shift;
    const auto m = static_cast<float>(std::ldexp(sum, -shift));
    std::int32_t passed = 0;
    kernels().bit_serial(&m, kNoOffset.data(), &passed, 1, reciprocal, bits);
    const std::int64_t inverse = (std::int64_t{2} << bits) - passed;
    const double place = std::ldexp(1.0, -bits - 1 - shift);
    if (digits.steps() == 1) return kernels().scale_wide(p.data(), static_cast<double>(inverse), place, y, length);
    for (std::size_t i = 0; i < length; ++i) {
      double membrane = 0;
      for (std::size_t t = 0; t < digits.steps(); ++t)
        membrane = digits.radix() * membrane + static_cast<double>(digits.digit(inverse, t)) * p[i];
      y[i] = static_cast<float>(membrane * place);
    }
  }

  static constexpr std::array<std::int32_t, kBlock> kNoOffset{};

  int bits;
  Digits digits;
  Hints hints;
};

}  // namespace

void add_softmax(OpList& list) { list.add<SoftmaxKernel>(); }

}  // namespace spikec
