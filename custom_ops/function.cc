// SpikeFunction: a hierarchically gated bit-serial neuron (function.py is the definition).
#include "train.h"

namespace spikec {

namespace {

constexpr std::size_t kGrain = 16 * kBlock;

struct FunctionKernel {
  static constexpr const char* name = "SpikeFunction";
  static constexpr std::array inputs{Port{"X", Types::of<float>()}, Port{"edges", Types::of<float>()},
                                     Port{"thresholds", Types::of<float>()},
                                     Port{"base", Types::of<std::int32_t>()},
                                     Port{"stride", Types::of<std::int32_t>()}};
  static constexpr std::array outputs{Port{"S", Types::of<std::int32_t>()}};
  static constexpr std::array attributes{Attribute{"bits", AttrType::Int}, Attribute{"steps", AttrType::Int}};

  explicit FunctionKernel(const KernelInfo& info)
      : bits(static_cast<int>(info.int_attribute("bits"))), steps(info.int_attribute("steps")) {
    if (bits < 1 || bits > 16) throw Error("bits must be 1 to 16");
    if (steps != 1 && steps != bits + 1) throw Error("steps must be 1 or bits + 1");
  }

  static void infer(InferContext& context) {
    TypeShape x = context.input(0);
    if (x.dims.empty()) return;
    x.dims.insert(x.dims.begin(), Dim{context.int_attribute("steps")});
    context.set_output(0, {ElementType::Int32, x.dims});
  }

  void compute(Context& context) const {
    const Tensor input = context.input(0), gates = context.input(1), table = context.input(2);
    const auto x = input.as<float>(), edges = gates.as<float>(), thresholds = table.as<float>();
    const Tensor base_input = context.input(3), stride_input = context.input(4);
    const auto base = base_input.as<std::int32_t>(), stride = stride_input.as<std::int32_t>();
    if (edges.empty() || base.size() != edges.size() || stride.size() != edges.size() ||
        thresholds.size() != edges.size() << bits)
      throw Error("edges, base and stride need one value a segment, thresholds 2**bits");
    Shape shape = input.shape();
    shape.insert(shape.begin(), steps);
    const auto train = context.output<std::int32_t>(0, shape);
    context.parallel_ranges(x.size(), kGrain, [&](std::size_t begin, std::size_t end) {
      std::array<std::int32_t, kBlock> segment, offset, code;
      for (std::size_t first = begin; first < end; first += kBlock) {
        const std::size_t n = std::min(kBlock, end - first);
        kernels().segment(x.data() + first, segment.data(), n, edges.data(), edges.size());
        for (std::size_t i = 0; i < n; ++i) offset[i] = segment[i] << bits;
        kernels().bit_serial(x.data() + first, offset.data(), code.data(), n, thresholds.data(), bits);
        std::int32_t* spikes = train.data() + first;
        if (steps == 1) {
          for (std::size_t i = 0; i < n; ++i) {
            const auto g = static_cast<std::size_t>(segment[i]);
            spikes[i] = base[g] + code[i] * stride[g];
          }
          continue;
        }
        for (std::size_t i = 0; i < n; ++i) spikes[i] = base[static_cast<std::size_t>(segment[i])];
        for (int bit = bits - 1; bit >= 0; --bit) {
          spikes += x.size();
          for (std::size_t i = 0; i < n; ++i)
            spikes[i] = (code[i] & (1 << bit)) * stride[static_cast<std::size_t>(segment[i])];
        }
      }
    });
  }

  int bits;
  std::int64_t steps;
};

}  // namespace

void add_function(OpList& list) { list.add<FunctionKernel>(); }

}  // namespace spikec
