#include "simd_loops.h"

namespace spikec {

const Kernels kGeneric{.name = "generic", SPIKEC_PLAIN_LOOPS};

}  // namespace spikec
