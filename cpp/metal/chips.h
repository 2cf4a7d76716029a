// Apple's chips.
#pragma once

#include <array>
#include <string>

#include "gpu/device/caps.h"
#include "gpu/device/chip.h"

namespace npu::metal {

// Cores, memory bandwidth as Apple states it, and float32 arithmetic from 128 lanes a core, two operations a
// clock each; halves are not faster.
constexpr gpu::Chip apple(std::string_view name, std::string_view product, int cores, double bytes,
                          double flops) {
  return {name, product, cores, bytes, flops, flops};
}

inline constexpr std::array kChips = {
    apple("m1", "Apple M1", 8, 68e9, 2.6e12),
    apple("m1pro", "Apple M1 Pro", 16, 200e9, 5.3e12),
    apple("m1max", "Apple M1 Max", 32, 400e9, 10.6e12),
    apple("m1ultra", "Apple M1 Ultra", 64, 800e9, 21.2e12),
    apple("m2", "Apple M2", 10, 100e9, 3.6e12),
    apple("m2pro", "Apple M2 Pro", 19, 200e9, 6.8e12),
    apple("m2max", "Apple M2 Max", 38, 400e9, 13.6e12),
    apple("m2ultra", "Apple M2 Ultra", 76, 800e9, 27.2e12),
    apple("m3", "Apple M3", 10, 100e9, 3.5e12),
    apple("m3pro", "Apple M3 Pro", 18, 150e9, 6.4e12),
    apple("m3max", "Apple M3 Max", 40, 400e9, 14.1e12),
    apple("m3ultra", "Apple M3 Ultra", 80, 819e9, 28.2e12),
    apple("m4", "Apple M4", 10, 120e9, 4.3e12),
    apple("m4pro", "Apple M4 Pro", 20, 273e9, 8.6e12),
    apple("m4max", "Apple M4 Max", 40, 546e9, 17.2e12),
    apple("m5", "Apple M5", 10, 153e9, 4.2e12),
};

inline gpu::Caps caps_of(const gpu::Chip& chip) {
  gpu::Caps caps;
  caps.name = chip.product;
  caps.chip = &chip;
  caps.cores = chip.cores;
  return caps;
}

}  // namespace npu::metal
