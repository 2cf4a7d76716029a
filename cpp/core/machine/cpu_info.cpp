#include "npu/cpu_info.h"

#include <algorithm>
#include <cmath>
#include <thread>

#include "core/machine/cpu_query.h"
#include "npu/build_info.h"

namespace npu {

bool CpuInfo::has(const std::string& feature) const {
  return std::any_of(features.begin(), features.end(),
                     [&](const CpuFeature& f) { return f.available && f.name == feature; });
}

std::vector<std::string> CpuInfo::available_features() const {
  std::vector<std::string> names;
  for (const auto& feature : features) {
    if (feature.available) names.push_back(feature.name);
  }
  return names;
}

CpuInfo query_cpu_info() {
  CpuInfo info;
  info.architecture = build_info().architecture;
  const int fallback = std::max(1u, std::thread::hardware_concurrency());
  info.logical_cores = info.physical_cores = fallback;
  info.affinity_logical_cores = info.affinity_physical_cores = fallback;

#if defined(__x86_64__)
  info.features = query_x86_features();
  info.brand = query_x86_brand();
#elif defined(__aarch64__)
  info.features = query_arm_features();
#endif
#if defined(__linux__)
  query_linux_machine(info);
#elif defined(__APPLE__)
  query_macos_machine(info);
#endif

  if (info.brand.empty()) info.brand = "unknown processor";
  info.usable_cores = info.affinity_physical_cores;
  if (info.cpu_quota > 0) {
    // Rounded up: with a quota of 1.5 cores a second thread still helps.
    info.usable_cores =
        std::min(info.usable_cores, static_cast<int>(std::ceil(std::min(info.cpu_quota, 65536.0))));
  }
  info.usable_cores = std::max(1, info.usable_cores);
  return info;
}

}  // namespace npu
