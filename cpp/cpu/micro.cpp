#include "cpu/micro.h"

#include <atomic>
#include <cstdlib>

#include "npu/cpu_info.h"
#include "npu/error.h"

namespace npu::cpu {

// The build says which there are.
namespace avx512_bf16 {
void fill(Micro& micro);
}
namespace avx512 {
void fill(Micro& micro);
}
namespace avx2 {
void fill(Micro& micro);
}
namespace neon {
void fill(Micro& micro);
}
namespace portable {
void fill(Micro& micro);
}

namespace {

std::vector<Micro> runnable() {
  const CpuInfo info = query_cpu_info();
  std::vector<Micro> available;
  [[maybe_unused]] const auto offer = [&](void (*fill)(Micro&), std::initializer_list<const char*> features) {
    for (const char* feature : features) {
      if (!info.has(feature)) return;
    }
    fill(available.emplace_back());
  };
#ifdef NPU_HAS_avx512_bf16
  offer(avx512_bf16::fill,
        {"avx512f", "avx512bw", "avx512dq", "avx512vl", "avx512bf16", "avx2", "fma", "f16c"});
#endif
#ifdef NPU_HAS_avx512
  offer(avx512::fill, {"avx512f", "avx512bw", "avx512dq", "avx512vl", "avx2", "fma", "f16c"});
#endif
#ifdef NPU_HAS_avx2
  offer(avx2::fill, {"avx2", "fma", "f16c"});
#endif
#ifdef NPU_HAS_neon
  offer(neon::fill, {});
#endif
#ifdef NPU_HAS_portable
  offer(portable::fill, {});
#endif
  return available;
}

const std::vector<Micro>& all_micros() {
  static const std::vector<Micro> micros = runnable();
  return micros;
}

const Micro& named(std::string_view name, const char* where) {
  std::string names;
  for (const Micro& candidate : all_micros()) {
    if (name == candidate.name) return candidate;
    names += (names.empty() ? "" : ", ") + std::string(candidate.name);
  }
  throw Error(ErrorKind::kInvalidValue,
              {.area = "cpu",
               .what = std::string(where) + " does not name an instruction set that this machine can run",
               .got = quoted(name),
               .expected = "one of " + names,
               .action = {}});
}

const Micro* preferred() {
  const char* name = std::getenv("NPU_CPU_ISA");
  return name != nullptr && *name != '\0' ? &named(name, "NPU_CPU_ISA") : &all_micros().front();
}

std::atomic<const Micro*>& current() {
  static std::atomic<const Micro*> chosen{preferred()};
  return chosen;
}

}  // namespace

const Micro& micro() { return *current().load(std::memory_order_relaxed); }

std::vector<std::string> available_micros() {
  std::vector<std::string> names;
  for (const Micro& candidate : all_micros()) names.emplace_back(candidate.name);
  return names;
}

void select_micro(std::string_view name) { current() = &named(name, "the choice"); }

}  // namespace npu::cpu
