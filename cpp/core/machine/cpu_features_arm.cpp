#include "core/machine/cpu_query.h"

#if defined(__aarch64__)

#if defined(__linux__)
#include <sys/auxv.h>
#endif

namespace npu {

std::vector<CpuFeature> query_arm_features() {
#if defined(__linux__)
  // Bit numbers of the kernel's AArch64 ELF hwcaps, written out because older headers lack the newer ones.
  const unsigned long caps = getauxval(AT_HWCAP);
  const unsigned long caps2 = getauxval(26 /* AT_HWCAP2 */);
  const auto bit = [](unsigned long value, int index) { return ((value >> index) & 1ul) != 0; };
  return {
      {"neon", bit(caps, 1)},     {"fp16", bit(caps, 9) && bit(caps, 10)},
      {"dotprod", bit(caps, 20)}, {"bf16", bit(caps2, 14)},
      {"i8mm", bit(caps2, 13)},   {"sve", bit(caps, 22)},
  };
#elif defined(__APPLE__)
  return {
      {"neon", true},
      {"fp16", macos_sysctl_flag("hw.optional.arm.FEAT_FP16")},
      {"dotprod", macos_sysctl_flag("hw.optional.arm.FEAT_DotProd")},
      {"bf16", macos_sysctl_flag("hw.optional.arm.FEAT_BF16")},
      {"i8mm", macos_sysctl_flag("hw.optional.arm.FEAT_I8MM")},
      {"sve", false},
  };
#else
  return {};
#endif
}

}  // namespace npu

#endif
