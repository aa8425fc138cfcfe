#include "simd_loops.h"

namespace spikec {

const Kernels kGeneric{.name = "generic", .accumulate_f64 = accumulate_f64, .accumulate_i32 = accumulate_i32};

}  // namespace spikec
