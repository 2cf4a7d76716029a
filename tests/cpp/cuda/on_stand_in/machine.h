// The stand-in for NVIDIA's libraries as the product loads it, and what tests ask of it.
#pragma once

#include <dlfcn.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <string>

#include "cuda/device/api.h"
#include "support/check.h"

namespace npu::test {

class StandIn {
 public:
  // One for the process: the product loads a driver once. Each test begins with it as new.
  static StandIn& get() {
    static StandIn machine;
    machine.clear_();
    for (const char* const name : {"fault_at_launch", "refuse_launch", "refuse_allocation", "refuse_update"})
      machine.set(name, 0);
    machine.set("refuse_kernel", "");
    machine.set("memory", 1L << 30);
    return machine;
  }
  StandIn(const StandIn&) = delete;
  StandIn& operator=(const StandIn&) = delete;
  ~StandIn() { std::filesystem::remove_all(cache_); }

  std::string findings() const { return findings_(); }
  std::string leaks() const { return leaks_(); }
  long count(const char* name) const { return count_(name); }
  void set(const char* name, const std::string& value) const { CHECK(set_(name, value.c_str()) == 1); }
  void set(const char* name, long value) const { set(name, std::to_string(value)); }
  void clear() const { clear_(); }
  std::string graph() const { return graph_(); }
  bool peek(void* to, cuda::CuAddress from, std::size_t bytes) const { return peek_(to, from, bytes) == 1; }

 private:
  StandIn() : cache_("stand-in-cache-" + std::to_string(::getpid())) {
    ::setenv("NPU_CUDA_DRIVER", NPU_STAND_IN, 1);
    ::setenv("NPU_NVRTC", NPU_STAND_IN, 1);
    ::setenv("NPU_CUDA_CACHE", cache_.c_str(), 1);
    ::setenv("NPU_STAND_IN_GPUS", "2", 1);
    void* const library = dlopen(NPU_STAND_IN, RTLD_NOW | RTLD_LOCAL);
    const auto find = [&](const char* name, auto& function) {
      function = reinterpret_cast<std::remove_reference_t<decltype(function)>>(dlsym(library, name));
      CHECK(function != nullptr);
    };
    find("stand_in_findings", findings_);
    find("stand_in_clear", clear_);
    find("stand_in_leaks", leaks_);
    find("stand_in_count", count_);
    find("stand_in_set", set_);
    find("stand_in_peek", peek_);
    find("stand_in_graph", graph_);
  }

  std::filesystem::path cache_;
  const char* (*findings_)() = nullptr;
  const char* (*leaks_)() = nullptr;
  const char* (*graph_)() = nullptr;
  void (*clear_)() = nullptr;
  long (*count_)(const char*) = nullptr;
  int (*set_)(const char*, const char*) = nullptr;
  int (*peek_)(void*, unsigned long long, unsigned long) = nullptr;
};

// `text` has it.
inline bool says(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

}  // namespace npu::test
