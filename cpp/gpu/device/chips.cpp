#include "gpu/device/chips.h"

#include <array>

namespace npu::gpu {

namespace {

// Cores, memory bandwidth as Apple states it, and float32 arithmetic from 128 lanes a core, two operations a
// clock each.
constexpr std::array kChips = {
    Chip{"m1", "Apple M1", 8, 68e9, 2.6e12},           Chip{"m1pro", "Apple M1 Pro", 16, 200e9, 5.3e12},
    Chip{"m1max", "Apple M1 Max", 32, 400e9, 10.6e12}, Chip{"m1ultra", "Apple M1 Ultra", 64, 800e9, 21.2e12},
    Chip{"m2", "Apple M2", 10, 100e9, 3.6e12},         Chip{"m2pro", "Apple M2 Pro", 19, 200e9, 6.8e12},
    Chip{"m2max", "Apple M2 Max", 38, 400e9, 13.6e12}, Chip{"m2ultra", "Apple M2 Ultra", 76, 800e9, 27.2e12},
    Chip{"m3", "Apple M3", 10, 100e9, 3.5e12},         Chip{"m3pro", "Apple M3 Pro", 18, 150e9, 6.4e12},
    Chip{"m3max", "Apple M3 Max", 40, 400e9, 14.1e12}, Chip{"m3ultra", "Apple M3 Ultra", 80, 819e9, 28.2e12},
    Chip{"m4", "Apple M4", 10, 120e9, 4.3e12},         Chip{"m4pro", "Apple M4 Pro", 20, 273e9, 8.6e12},
    Chip{"m4max", "Apple M4 Max", 40, 546e9, 17.2e12}, Chip{"m5", "Apple M5", 10, 153e9, 4.2e12},
};

}  // namespace

std::span<const Chip> all_chips() { return kChips; }

std::optional<Chip> find_chip(std::string_view name) {
  for (const Chip& chip : kChips) {
    if (chip.name == name || chip.product == name) return chip;
  }
  return std::nullopt;
}

Caps caps_of(const Chip& chip) {
  Caps caps;
  caps.name = caps.chip = std::string(chip.product);
  caps.cores = chip.cores;
  return caps;
}

}  // namespace npu::gpu
