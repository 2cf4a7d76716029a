#include "core/machine/cpu_query.h"

#if defined(__x86_64__)

#include <cpuid.h>

#include <cstring>

#if defined(__linux__)
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace npu {

namespace {

struct Registers {
  unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
};

// All zero when the processor lacks the leaf.
Registers cpuid(unsigned leaf, unsigned subleaf = 0) {
  Registers r;
  if (__get_cpuid_count(leaf, subleaf, &r.eax, &r.ebx, &r.ecx, &r.edx) == 0) return {};
  return r;
}

bool bit(unsigned value, int index) { return ((value >> index) & 1u) != 0; }

// The register states that the operating system saves; 0 when it does not use XSAVE at all.
unsigned long long saved_states(const Registers& leaf1) {
  if (!bit(leaf1.ecx, 27)) return 0;
  unsigned low = 0, high = 0;
  // As an instruction and not _xgetbv(), which would need -mxsave for this file.
  __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return (static_cast<unsigned long long>(high) << 32) | low;
}

bool has_states(unsigned long long states, unsigned long long mask) { return (states & mask) == mask; }

// Linux hands out the AMX tile registers to a process only on request.
bool amx_permitted() {
#if defined(__linux__) && defined(SYS_arch_prctl)
  constexpr long kGetSupportedComponents = 0x1021;
  constexpr unsigned kTileData = 18;
  unsigned long long supported = 0;
  if (syscall(SYS_arch_prctl, kGetSupportedComponents, &supported) != 0) return false;
  return ((supported >> kTileData) & 1u) != 0;
#else
  return false;
#endif
}

}  // namespace

std::vector<CpuFeature> query_x86_features() {
  const Registers l1 = cpuid(1);
  const Registers l7 = cpuid(7, 0);
  const Registers l7_1 = l7.eax >= 1 ? cpuid(7, 1) : Registers{};
  const unsigned long long states = saved_states(l1);
  const bool ymm = has_states(states, 0x6);
  const bool zmm = has_states(states, 0xe6);
  const bool tiles = has_states(states, 0x60000) && amx_permitted();
#if defined(NPU_EMULATE_AVX512)
  constexpr bool emulated = true;
#else
  constexpr bool emulated = false;
#endif
  const bool avx512f = emulated || (zmm && bit(l7.ebx, 16));
  return {
      {"sse4.2", bit(l1.ecx, 20)},
      {"avx", ymm && bit(l1.ecx, 28)},
      {"avx2", ymm && bit(l7.ebx, 5)},
      {"fma", ymm && bit(l1.ecx, 12)},
      {"f16c", ymm && bit(l1.ecx, 29)},
      {"avx512f", avx512f},
      {"avx512bw", emulated || (avx512f && bit(l7.ebx, 30))},
      {"avx512dq", emulated || (avx512f && bit(l7.ebx, 17))},
      {"avx512vl", emulated || (avx512f && bit(l7.ebx, 31))},
      {"avx512vnni", avx512f && bit(l7.ecx, 11)},
      {"avx512bf16", emulated || (avx512f && bit(l7_1.eax, 5))},
      {"avx512fp16", avx512f && bit(l7.edx, 23)},
      {"amx-bf16", tiles && bit(l7.edx, 22)},
  };
}

std::string query_x86_brand() {
  if (cpuid(0x80000000u).eax < 0x80000004u) return {};
  char text[49] = {};
  for (unsigned i = 0; i < 3; ++i) {
    const Registers r = cpuid(0x80000002u + i);
    std::memcpy(text + 16 * i, &r, sizeof r);
  }
  const std::string brand(text);
  const std::size_t first = brand.find_first_not_of(' ');
  if (first == std::string::npos) return {};
  return brand.substr(first, brand.find_last_not_of(' ') - first + 1);
}

}  // namespace npu

#endif
