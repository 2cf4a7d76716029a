// Writes what a library of kernels is compiled from, as the driver has it: npu-kernel-source STEM FILE.
#include <filesystem>
#include <fstream>

#include "gpu/device/kernel_sources.h"

int main(int argc, char** argv) {
  if (argc != 3) return 2;
  const std::filesystem::path path = argv[2];
  std::filesystem::create_directories(path.parent_path());
  std::ofstream(path) << npu::gpu::kernel_source(argv[1]);
  return std::filesystem::exists(path) ? 0 : 1;
}
