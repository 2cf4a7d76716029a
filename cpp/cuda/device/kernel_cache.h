// Compiled kernels on disk: a second start compiles nothing.
#pragma once

#include <cstddef>
#include <filesystem>
#include <optional>
#include <string>

namespace npu::cuda {

// A folder that cannot be written or read is as good as none, and so is a damaged file: kernels are then
// compiled again.
class KernelCache {
 public:
  // That of the user: NPU_CUDA_CACHE, or npu-simulation/cuda in the folder for caches.
  KernelCache();
  explicit KernelCache(std::filesystem::path folder) : folder_(std::move(folder)) {}

  std::optional<std::string> find(const std::string& key) const;
  void keep(const std::string& key, const std::string& cubin) const;

  // Removes what was used longest ago until the rest is no more than so many bytes.
  void shrink(std::uintmax_t most_bytes = std::uintmax_t{1} << 30) const;

 private:
  std::filesystem::path folder_;  // empty: none
};

}  // namespace npu::cuda
