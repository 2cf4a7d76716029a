#include "core/machine/cpu_query.h"

#if defined(__linux__)

#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <functional>
#include <set>
#include <sstream>

#include "core/base/text.h"

namespace npu {

namespace {

std::optional<std::string> read_file(const std::string& path) {
  std::ifstream file(path);
  if (!file) return std::nullopt;
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

std::vector<int> online_cpus() {
  if (const auto text = read_file("/sys/devices/system/cpu/online")) {
    auto cpus = parse_cpu_list(*text);
    if (!cpus.empty()) return cpus;
  }
  std::vector<int> cpus;
  const long count = std::max(1l, sysconf(_SC_NPROCESSORS_ONLN));
  for (int cpu = 0; cpu < count; ++cpu) cpus.push_back(cpu);
  return cpus;
}

// CPUs that share a core list the same siblings, so distinct lists are distinct cores.
int count_cores(const std::vector<int>& cpus) {
  std::set<std::string> cores;
  for (const int cpu : cpus) {
    const std::string number = std::to_string(cpu);
    const auto siblings =
        read_file("/sys/devices/system/cpu/cpu" + number + "/topology/thread_siblings_list");
    cores.insert(siblings ? std::string(trim(*siblings)) : number);
  }
  return std::max<int>(1, static_cast<int>(cores.size()));
}

// The smallest limit on the way from `path` to the root of the hierarchy, since every level applies.
std::optional<double> tightest(const std::string& root, std::string path,
                               const std::function<std::optional<double>(const std::string&)>& limit_at) {
  std::optional<double> best;
  while (true) {
    const auto limit = limit_at(root + path);
    if (limit && (!best || *limit < *best)) best = limit;
    const std::size_t slash = path.rfind('/');
    if (path.size() <= 1 || slash == std::string::npos) return best;
    path.resize(slash);
  }
}

std::optional<double> cpu_quota_v1_at(const std::string& directory) {
  const auto quota = read_file(directory + "/cpu.cfs_quota_us");
  const auto period = read_file(directory + "/cpu.cfs_period_us");
  return quota && period ? parse_cfs_quota(*quota, *period) : std::nullopt;
}

std::optional<double> memory_limit_in(const std::string& file) {
  const auto text = read_file(file);
  const auto limit = text ? parse_memory_limit(*text) : std::nullopt;
  return limit ? std::optional<double>(static_cast<double>(*limit)) : std::nullopt;
}

void query_cgroup(CpuInfo& info) {
  const auto groups = read_file("/proc/self/cgroup");
  if (!groups) return;
  std::optional<double> cpu, memory;
  if (const auto path = cgroup_path(*groups, "cpu")) {
    cpu = tightest("/sys/fs/cgroup/cpu", *path, cpu_quota_v1_at);
  } else if (const auto unified = cgroup_path(*groups, "")) {
    cpu = tightest("/sys/fs/cgroup", *unified, [](const std::string& directory) {
      const auto text = read_file(directory + "/cpu.max");
      return text ? parse_cpu_max(*text) : std::nullopt;
    });
  }
  if (const auto path = cgroup_path(*groups, "memory")) {
    memory = tightest("/sys/fs/cgroup/memory", *path,
                      [](const std::string& dir) { return memory_limit_in(dir + "/memory.limit_in_bytes"); });
  } else if (const auto unified = cgroup_path(*groups, "")) {
    memory = tightest("/sys/fs/cgroup", *unified,
                      [](const std::string& dir) { return memory_limit_in(dir + "/memory.max"); });
  }
  info.cpu_quota = cpu.value_or(0);
  info.memory_limit_bytes = static_cast<std::uint64_t>(memory.value_or(0));
}

std::string brand_from_cpuinfo() {
  const auto text = read_file("/proc/cpuinfo");
  if (!text) return {};
  if (const auto model = cpuinfo_value(*text, "model name")) return *model;
  const auto implementer = cpuinfo_value(*text, "CPU implementer");
  const auto part = cpuinfo_value(*text, "CPU part");
  return implementer && part ? arm_core_name(*implementer, *part) : std::string();
}

}  // namespace

std::vector<int> affinity_cpus() {
  for (int capacity = 1024; capacity <= (1 << 16); capacity *= 2) {
    cpu_set_t* const set = CPU_ALLOC(capacity);
    if (set == nullptr) return {};
    const std::size_t size = CPU_ALLOC_SIZE(capacity);
    CPU_ZERO_S(size, set);
    std::vector<int> cpus;
    const bool known = sched_getaffinity(0, size, set) == 0;
    for (int cpu = 0; known && cpu < capacity; ++cpu) {
      if (CPU_ISSET_S(cpu, size, set)) cpus.push_back(cpu);
    }
    CPU_FREE(set);
    if (known) return cpus;
  }
  return {};
}

void query_linux_machine(CpuInfo& info) {
  if (info.brand.empty()) info.brand = brand_from_cpuinfo();
  const auto online = online_cpus();
  auto allowed = affinity_cpus();
  if (allowed.empty()) allowed = online;
  info.logical_cores = static_cast<int>(online.size());
  info.physical_cores = count_cores(online);
  info.affinity_logical_cores = static_cast<int>(allowed.size());
  info.affinity_physical_cores = count_cores(allowed);

  const long pages = sysconf(_SC_PHYS_PAGES), page = sysconf(_SC_PAGESIZE);
  if (pages > 0 && page > 0)
    info.memory_bytes = static_cast<std::uint64_t>(pages) * static_cast<std::uint64_t>(page);
  query_cgroup(info);
}

}  // namespace npu

#endif
