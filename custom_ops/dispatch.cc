// Which version of the inner loops runs: decided once, from the CPU or from SPIKEC_ISA.
#include <cstdlib>
#include <string>
#include <string_view>
#include <vector>

#include "simd.h"

namespace spikec {

namespace {

// The versions that this CPU and its operating system can run, best first.
std::vector<const Kernels*> usable() {
  std::vector<const Kernels*> found;
#ifdef SPIKEC_X86
  __builtin_cpu_init();
  const bool avx512 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
  if (avx512 && __builtin_cpu_supports("avx512vnni")) found.push_back(&kAvx512Vnni);
  if (avx512) found.push_back(&kAvx512);
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) found.push_back(&kAvx2);
#endif
  found.push_back(&kGeneric);
  return found;
}

struct Choice {
  const Kernels* kernels;
  std::string problem;
};

Choice choose() {
  const std::vector<const Kernels*> versions = usable();
  const char* wanted = std::getenv("SPIKEC_ISA");
  if (!wanted || !*wanted) return {versions.front(), ""};

  std::string names;
  for (const Kernels* version : versions) {
    if (std::string_view(version->name) == wanted) return {version, ""};
    names += (names.empty() ? "" : ", ") + std::string(version->name);
  }
  return {versions.front(), "SPIKEC_ISA=" + std::string(wanted) + ": this CPU runs " + names};
}

const Choice& choice() {
  static const Choice made = choose();
  return made;
}

}  // namespace

const Kernels& kernels() { return *choice().kernels; }

const char* isa_problem() { return choice().problem.c_str(); }

}  // namespace spikec
