// The devices this library knows, present or not.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace npu {

struct DeviceInfo {
  std::string kind;  // "cpu", "metal", "cuda", "cuda:1", ...
  bool available = false;
  std::string name;    // the product's name; empty when not available
  std::string reason;  // why it is not available; empty when it is
  std::string driver;  // its version, where the driver is no part of the system
  int cores = 0;       // that may be used
  std::uint64_t memory_bytes = 0;
  std::vector<std::string> features;
};

// One entry per kind of device, and for each GPU of NVIDIA; one that is missing says why.
std::vector<DeviceInfo> query_devices();

}  // namespace npu
