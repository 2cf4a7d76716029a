// What ptxas says about the kernels of a program (--ptxas-options=-v).
#pragma once

#include <algorithm>
#include <cstdio>
#include <map>
#include <sstream>
#include <string>

namespace npu::test {

struct KernelResources {
  int registers = -1, stack = -1, spill_stores = -1, spill_loads = -1, shared = 0;
  bool known() const { return registers >= 0 && stack >= 0; }
};

// By the name of the entry. What functions that are called need counts for the entry.
inline std::map<std::string, KernelResources> resources_of(const std::string& log) {
  std::map<std::string, KernelResources> all;
  KernelResources* entry = nullptr;
  std::istringstream lines(log);
  for (std::string line; std::getline(lines, line);) {
    const std::size_t start = line.find("Compiling entry function '");
    if (start != std::string::npos) {
      const std::size_t open = line.find('\'', start) + 1;
      entry = &all[line.substr(open, line.find('\'', open) - open)];
    }
    if (entry == nullptr) continue;
    int stack = 0, stores = 0, loads = 0, registers = 0, shared = 0;
    if (const std::size_t colon = line.find_first_of("0123456789");
        colon != std::string::npos &&
        std::sscanf(line.c_str() + colon, "%d bytes stack frame, %d bytes spill stores, %d bytes spill loads",
                    &stack, &stores, &loads) == 3) {
      entry->stack = std::max(entry->stack, stack);
      entry->spill_stores = std::max(entry->spill_stores, stores);
      entry->spill_loads = std::max(entry->spill_loads, loads);
    }
    if (const std::size_t used = line.find("Used ");
        used != std::string::npos && std::sscanf(line.c_str() + used, "Used %d registers", &registers) == 1)
      entry->registers = registers;
    if (const std::size_t smem = line.find(" bytes smem"); smem != std::string::npos) {
      const std::size_t number = line.find_last_not_of("0123456789", smem - 1) + 1;
      if (std::sscanf(line.c_str() + number, "%d", &shared) == 1) entry->shared = shared;
    }
  }
  return all;
}

}  // namespace npu::test
