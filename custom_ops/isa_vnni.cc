#include "simd_loops.h"

namespace spikec {

const Kernels kAvx512Vnni{
    .name = "avx512vnni", .accumulate_f64 = accumulate_f64, .accumulate_i32 = accumulate_i32};

}  // namespace spikec
