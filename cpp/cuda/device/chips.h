// NVIDIA's chips.
#pragma once

#include <array>
#include <string>

#include "core/base/text.h"
#include "gpu/device/caps.h"
#include "gpu/device/chip.h"

namespace npu::cuda {

// Multiprocessors, memory bandwidth, float32 without tensor cores, and float16 or bfloat16 on tensor cores,
// dense and adding up in float32, all as NVIDIA's data sheets state them. Products are named as the driver
// does.
inline constexpr std::array kChips = {
    gpu::Chip{"a100", "NVIDIA A100-SXM4-80GB", 108, 2039e9, 19.5e12, 312e12, 8},
    gpu::Chip{"a100-40gb", "NVIDIA A100-SXM4-40GB", 108, 1555e9, 19.5e12, 312e12, 8},
    gpu::Chip{"a100-pcie", "NVIDIA A100 80GB PCIe", 108, 1935e9, 19.5e12, 312e12, 8},
    gpu::Chip{"a10", "NVIDIA A10", 72, 600e9, 31.2e12, 125e12, 8},
    gpu::Chip{"h100", "NVIDIA H100 80GB HBM3", 132, 3350e9, 67e12, 989e12, 9},
    gpu::Chip{"h100-pcie", "NVIDIA H100 PCIe", 114, 2000e9, 51e12, 756e12, 9},
    gpu::Chip{"h200", "NVIDIA H200", 132, 4800e9, 67e12, 989e12, 9},
    gpu::Chip{"b200", "NVIDIA B200", 148, 8000e9, 75e12, 2250e12, 10},
    gpu::Chip{"l4", "NVIDIA L4", 58, 300e9, 30.3e12, 121e12, 8},
    gpu::Chip{"l40s", "NVIDIA L40S", 142, 864e9, 91.6e12, 362e12, 8},
    gpu::Chip{"rtx3080", "NVIDIA GeForce RTX 3080", 68, 760e9, 29.8e12, 59.5e12, 8},
    gpu::Chip{"rtx3090", "NVIDIA GeForce RTX 3090", 82, 936e9, 35.6e12, 71e12, 8},
    gpu::Chip{"rtx4080", "NVIDIA GeForce RTX 4080", 76, 717e9, 48.7e12, 97.5e12, 8},
    gpu::Chip{"rtx4090", "NVIDIA GeForce RTX 4090", 128, 1008e9, 82.6e12, 165.2e12, 8},
    gpu::Chip{"rtx5090", "NVIDIA GeForce RTX 5090", 170, 1792e9, 104.8e12, 209.5e12, 12},
    gpu::Chip{"rtxa6000", "NVIDIA RTX A6000", 84, 768e9, 38.7e12, 154.8e12, 8},
};

// Of shared memory, that a block may ask for on every GPU since Ampere, beside what kernels declare.
inline constexpr int kTensorBytes = 97 << 10;

// The same on Hopper, the first generation with bulk copies and launches that overlap.
inline constexpr int kHopper = 9, kHopperBytes = 224 << 10;

// What kernels may count on with a GPU of NVIDIA.
inline gpu::Caps caps_of(std::string name, int cores, int generation) {
  gpu::Caps caps;
  caps.chip = gpu::find_chip(kChips, name);
  caps.name = std::move(name);
  caps.cores = cores;
  caps.threads = {1024, 1024, 64};
  caps.groups = {0x7fffffff, 65535, 65535};
  caps.unified = false;
  caps.rereads = true;
  // No other generation has these instructions.
  caps.tensor_groups =
      generation == kHopper && environment_choice("NPU_CUDA_TENSOR_GROUPS", {"0", "1"}) != "0";
  if (environment_choice("NPU_CUDA_TENSOR_BLOCKS", {"0", "1"}) != "0")
    caps.tensor_bytes = caps.tensor_groups ? kHopperBytes : kTensorBytes;
  const bool streams = environment_choice("NPU_CUDA_STREAM", {"0", "1"}) != "0";
  if (streams && generation >= kHopper) caps.stream_bytes = kTensorBytes;
  return caps;
}
inline gpu::Caps caps_of(const gpu::Chip& chip) {
  return caps_of(std::string(chip.product), chip.cores, chip.generation);
}

}  // namespace npu::cuda
