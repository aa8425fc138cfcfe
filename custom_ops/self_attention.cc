// SpikeSelfAttention: two products of 0/1 spikes at each step, event by event (self_attention.py is the definition).
#include "train.h"

namespace spikec {

namespace {

struct SelfAttentionKernel {
  static constexpr const char* name = "SpikeSelfAttention";
  static constexpr std::array inputs{Port{"Q", Types::of<std::int8_t>()}, Port{"K", Types::of<std::int8_t>()},
                                     Port{"V", Types::of<std::int8_t>()}};
  static constexpr std::array outputs{Port{"I", Types::of<float>()}};
  static constexpr std::array attributes{Attribute{"scale", AttrType::Float}, Attribute{"causal", AttrType::Int}};

  explicit SelfAttentionKernel(const KernelInfo& info)
      : scale(info.float_attribute("scale")), causal(info.int_attribute("causal") != 0) {}

  static void infer(InferContext& context) {
    TypeShape out = context.input(0);
    const TypeShape v = context.input(2);
    if (out.dims.size() < 3 || v.dims.size() != out.dims.size()) return;
    out.type = ElementType::Float;
    out.dims.back() = v.dims.back();
    context.set_output(0, out);
  }

  void compute(Context& context) const {
    const Tensor q = context.input(0), k = context.input(1), v = context.input(2);
    const std::size_t rank = q.shape().size();
    const auto fits = [&] {
      if (rank < 3 || k.shape().size() != rank || v.shape().size() != rank) return false;
      for (std::size_t i = 0; i + 2 < rank; ++i)
        if (q.shape()[i] != k.shape()[i] || q.shape()[i] != v.shape()[i]) return false;
      return q.shape()[rank - 1] == k.shape()[rank - 2] && k.shape()[rank - 1] == v.shape()[rank - 2];
    };
    if (!fits())
      throw Error("Q " + to_string(q.shape()) + ", K " + to_string(k.shape()) + " and V " + to_string(v.shape()) +
                  " do not fit");
    Shape shape(q.shape());
    shape.back() = v.shape().back();
    const auto y = context.output<float>(0, shape);
    if (y.empty()) return;
    const auto m = static_cast<std::size_t>(q.shape()[rank - 2]), c = static_cast<std::size_t>(q.shape()[rank - 1]);
    const auto n = static_cast<std::size_t>(k.shape()[rank - 1]), d = static_cast<std::size_t>(shape.back());
    const auto left = q.as<std::int8_t>(), keys = k.as<std::int8_t>(), values = v.as<std::int8_t>();
    context.parallel_for(y.size() / (m * d), [&](std::size_t matrix) {
      std::vector<std::int32_t> counts(n);
      std::vector<std::int64_t> sums(d);
      for (std::size_t row = 0; row < m; ++row) {
        const std::size_t seen = causal ? (row + n + 1 > m ? std::min(n, row + n + 1 - m) : 0) : n;
        std::fill(counts.begin(), counts.end(), 0);
        std::fill(sums.begin(), sums.end(), 0);
        const std::int8_t* query = left.data() + (matrix * m + row) * c;
        for (std::size_t channel = 0; channel < c; ++channel) {
          if (!query[channel]) continue;
          const std::int8_t* key = keys.data() + (matrix * c + channel) * n;
          for (std::size_t i = 0; i < seen; ++i) counts[i] += query[channel] * key[i];
        }
        for (std::size_t i = 0; i < seen; ++i) {
          if (!counts[i]) continue;
          const std::int8_t* value = values.data() + (matrix * n + i) * d;
          for (std::size_t j = 0; j < d; ++j) sums[j] += static_cast<std::int64_t>(counts[i]) * value[j];
        }
        float* out = y.data() + (matrix * m + row) * d;
        for (std::size_t j = 0; j < d; ++j) out[j] = static_cast<float>(static_cast<double>(sums[j]) * scale);
      }
    });
  }

  double scale;
  bool causal;
};

}  // namespace

void add_self_attention(OpList& list) { list.add<SelfAttentionKernel>(); }

}  // namespace spikec
