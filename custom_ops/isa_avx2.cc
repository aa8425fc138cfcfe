#include "simd_loops.h"

namespace spikec {

const Kernels kAvx2{.name = "avx2", SPIKEC_LOOPS};

}  // namespace spikec
