#include "simd_loops.h"

namespace spikec {

const Kernels kAvx512{.name = "avx512", SPIKEC_LOOPS};

}  // namespace spikec
