// A chip as its vendor describes it: what drivers do not report, also for plans without the hardware.
#pragma once

#include <span>
#include <string_view>

namespace npu::gpu {

struct Chip {
  std::string_view name;     // "m4pro"
  std::string_view product;  // "Apple M4 Pro", as its driver calls it
  int cores;                 // that run threadgroups, of the largest variant
  double bytes_per_second;   // of memory, at best
  double flops;              // float32 multiply-adds, counted as two
  double half_flops;         // those of products in half precision that add up in float32
  int generation = 0;        // of NVIDIA's: the first number of its compute capability
};

// By either name; null if there is none.
constexpr const Chip* find_chip(std::span<const Chip> chips, std::string_view name) {
  for (const Chip& chip : chips) {
    if (chip.name == name || chip.product == name) return &chip;
  }
  return nullptr;
}

}  // namespace npu::gpu
