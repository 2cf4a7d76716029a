// Apple's chips: figures that Metal does not report, also for plans without the hardware.
#pragma once

#include <optional>
#include <span>
#include <string_view>

#include "gpu/device/caps.h"

namespace npu::gpu {

struct Chip {
  std::string_view name;     // "m4pro"
  std::string_view product;  // "Apple M4 Pro", as Metal calls it
  int cores;                 // of the largest variant
  double bytes_per_second;   // of memory, at best
  double flops;              // float32 multiply-adds of simdgroup matrices, counted as two
};

std::span<const Chip> all_chips();
std::optional<Chip> find_chip(std::string_view name);  // by either name
Caps caps_of(const Chip& chip);

}  // namespace npu::gpu
