#include "simd_loops.h"

namespace spikec {

const Kernels kAvx512Vnni{.name = "avx512vnni", SPIKEC_LOOPS};

}  // namespace spikec
