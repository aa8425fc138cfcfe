#include "simd_loops.h"

namespace spikec {

const Kernels kGeneric{.name = "generic", SPIKEC_LOOPS};

}  // namespace spikec
