// SpikeMatMul: telescoping product of two spike trains (matmul.py is the definition).
//
// Packed, both operands are one step and the telescope is a single product of codes: in int32 when the codes fit
// int16 and no partial sum can pass 2**31, else in float64; both exact.
#include <cmath>

#include "invoke.h"
#include "product.h"

namespace spikec {

namespace {

constexpr double kExactInInt32 = 2147483647.0;
constexpr double kInt16 = 32767;

struct MatMulKernel {
  static constexpr const char* name = "SpikeMatMul";
  static constexpr std::array inputs{Port{"A", kAnyInteger}, Port{"B", kAnyInteger}};
  static constexpr std::array outputs{Port{"Y", Types::of<float>()}};
  static constexpr std::array attributes{Attribute{"scale", AttrType::Float},
                                         Attribute{"radix", AttrType::Int}};

  explicit MatMulKernel(const KernelInfo& info)
      : scale(info.float_attribute("scale")),
        radix(static_cast<double>(info.int_attribute("radix"))),
        wide_product(info, "MatMul", 13, {{"T", ElementType::Double}}, 2) {}

  static void infer(InferContext& context) {
    TypeShape a = context.input(0), b = context.input(1);
    if (a.dims.size() < 3 || a.dims.size() != b.dims.size()) return;
    Dims dims(a.dims.begin() + 1, a.dims.end());
    for (std::size_t i = 0; i + 2 < dims.size(); ++i)
      if (dims[i] != b.dims[i + 1]) {
        if (dims[i].size == 1) dims[i] = b.dims[i + 1];
        else if (b.dims[i + 1].size != 1) return;
      }
    dims.back() = b.dims.back();
    context.set_output(0, {ElementType::Float, dims});
  }

  // Matrices of one step and how batches of the operands map to batches of the result.
  struct Plan {
    Shape a, b, y;
    std::size_t m, k, n, batches = 1;
    std::vector<std::size_t> batch_a, batch_b;
  };

  static Plan plan(const Tensor& a, const Tensor& b) {
    Plan p{Shape(step_shape(a).begin(), step_shape(a).end()), Shape(step_shape(b).begin(), step_shape(b).end()),
           {}, 0, 0, 0, 1, {}, {}};
    const std::string sizes = "A " + to_string(a.shape()) + " does not fit B " + to_string(b.shape());
    if (p.a.size() < 2 || p.b.size() < 2 || p.a.back() != p.b[p.b.size() - 2]) throw Error(sizes);
    p.m = static_cast<std::size_t>(p.a[p.a.size() - 2]);
    p.k = static_cast<std::size_t>(p.a.back());
    p.n = static_cast<std::size_t>(p.b.back());
    const std::size_t lead = std::max(p.a.size(), p.b.size()) - 2;
    Shape da(lead, 1), db(lead, 1);
    std::copy(p.a.begin(), p.a.end() - 2, da.end() - static_cast<std::ptrdiff_t>(p.a.size() - 2));
    std::copy(p.b.begin(), p.b.end() - 2, db.end() - static_cast<std::ptrdiff_t>(p.b.size() - 2));
    p.y.resize(lead);
    for (std::size_t i = 0; i < lead; ++i) {
      if (da[i] != db[i] && da[i] != 1 && db[i] != 1) throw Error(sizes);
      p.y[i] = da[i] == 1 ? db[i] : da[i];
      p.batches *= static_cast<std::size_t>(p.y[i]);
    }
    for (std::size_t batch = 0; batch < p.batches; ++batch) {
      std::size_t rest = batch, at_a = 0, at_b = 0, stride_a = 1, stride_b = 1;
      for (std::size_t i = lead; i-- > 0;) {
        const std::size_t index = rest % static_cast<std::size_t>(p.y[i]);
        rest /= static_cast<std::size_t>(p.y[i]);
        if (da[i] != 1) at_a += index * stride_a;
        if (db[i] != 1) at_b += index * stride_b;
        stride_a *= static_cast<std::size_t>(da[i]);
        stride_b *= static_cast<std::size_t>(db[i]);
      }
      p.batch_a.push_back(at_a);
      p.batch_b.push_back(at_b);
    }
    p.y.insert(p.y.end(), {static_cast<std::int64_t>(p.m), static_cast<std::int64_t>(p.n)});
    return p;
  }

  void compute(Context& context) const {
    const Tensor a = context.input(0), b = context.input(1);
    const std::size_t steps_a = step_count(a, "A"), steps_b = step_count(b, "B");
    const Plan p = plan(a, b);
    const auto y = context.output<float>(0, p.y);
    if (y.empty()) return;
    visit<std::int8_t, std::int16_t, std::int32_t>(a, [&](auto left) {
      visit<std::int8_t, std::int16_t, std::int32_t>(b, [&](auto right) {
        if (steps_a == 1 && steps_b == 1) {
          const double top_a = largest(left), top_b = largest(right);
          if (std::max(top_a, top_b) <= kInt16 && top_a * top_b * static_cast<double>(p.k) <= kExactInInt32)
            packed_narrow(context, p, left, right, y);
          else
            packed_wide(context, p, left, right, y);
        } else {
          unrolled(context, p, left, steps_a, right, steps_b, y);
        }
      });
    });
  }

 private:
  template <class A, class B>
  void packed_narrow(Context& context, const Plan& p, std::span<const A> left, std::span<const B> right,
                     std::span<float> y) const {
    context.parallel_for(p.batches, [&](std::size_t batch) {
      float* out = y.data() + batch * p.m * p.n;
      Serial serial;
      product<Narrow>(serial, {p.m, p.k, p.n}, left.data() + p.batch_a[batch] * p.m * p.k,
                      right.data() + p.batch_b[batch] * p.k * p.n,
                      [&](std::size_t row, std::size_t column, const std::int32_t* sums, std::size_t n) {
                        for (std::size_t i = 0; i < n; ++i)
                          out[row * p.n + column + i] = static_cast<float>(static_cast<double>(sums[i]) * scale);
                      });
    });
  }

  template <class A, class B>
  void packed_wide(Context& context, const Plan& p, std::span<const A> left, std::span<const B> right,
                   std::span<float> y) const {
    const auto a = scratch<double, struct Left>(left.size()), b = scratch<double, struct Right>(right.size());
    const auto o = scratch<double, struct Out>(y.size());
    context.parallel_ranges(left.size(), 1 << 15, [&](std::size_t begin, std::size_t end) {
      std::copy(left.data() + begin, left.data() + end, a.data() + begin);
    });
    context.parallel_ranges(right.size(), 1 << 15, [&](std::size_t begin, std::size_t end) {
      std::copy(right.data() + begin, right.data() + end, b.data() + begin);
    });
    const Borrowed va(a, p.a), vb(b, p.b), vo(o, p.y);
    wide_product(context, {va.value(), vb.value()}, {vo.value()});
    context.parallel_ranges(y.size(), 1 << 15, [&](std::size_t begin, std::size_t end) {
      for (std::size_t i = begin; i < end; ++i) y[i] = static_cast<float>(o[i] * scale);
    });
  }

  // Each spike of one operand adds a row of the other's running sum, shifted by the spike's weight.
  template <class A, class B>
  void unrolled(Context& context, const Plan& p, std::span<const A> left, std::size_t steps_a,
                std::span<const B> right, std::size_t steps_b, std::span<float> y) const {
    const std::size_t step_a = left.size() / steps_a, step_b = right.size() / steps_b;
    context.parallel_for(p.batches, [&](std::size_t batch) {
      std::vector<double> sum_a(p.m * p.k), sum_b(p.k * p.n), spikes_b(p.k * p.n), out(p.m * p.n);
      for (std::size_t t = 0; t < std::max(steps_a, steps_b); ++t) {
        const double weight_a = t < steps_a ? std::pow(radix, static_cast<double>(steps_a - 1 - t)) : 0;
        const double weight_b = t < steps_b ? std::pow(radix, static_cast<double>(steps_b - 1 - t)) : 0;
        const A* a = left.data() + std::min(t, steps_a - 1) * step_a + p.batch_a[batch] * p.m * p.k;
        const B* b = right.data() + std::min(t, steps_b - 1) * step_b + p.batch_b[batch] * p.k * p.n;
        for (std::size_t i = 0; i < p.k * p.n; ++i) {
          spikes_b[i] = weight_b * b[i];
          sum_b[i] += spikes_b[i];
        }
        for (std::size_t m = 0; m < p.m; ++m)
          for (std::size_t k = 0; k < p.k; ++k) {
            double* row = out.data() + m * p.n;
            double& state = sum_a[m * p.k + k];
            if (state != 0) kernels().accumulate_wide(row, spikes_b.data() + k * p.n, state, p.n);
            const double spike = weight_a * a[m * p.k + k];
            if (spike != 0) kernels().accumulate_wide(row, sum_b.data() + k * p.n, spike, p.n);
            state += spike;
          }
      }
      for (std::size_t i = 0; i < out.size(); ++i) y[batch * out.size() + i] = static_cast<float>(out[i] * scale);
    });
  }

  double scale, radix;
  Builtin wide_product;
};

}  // namespace

void add_matmul(OpList& list) { list.add<MatMulKernel>(); }

}  // namespace spikec
