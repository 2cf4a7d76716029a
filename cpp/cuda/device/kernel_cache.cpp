#include "cuda/device/kernel_cache.h"

#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <string_view>
#include <vector>

#include "core/base/mixer.h"

namespace npu::cuda {

namespace fs = std::filesystem;

namespace {

constexpr const char *kEnding = ".cubin", *kTemporary = ".tmp";

std::string environment(const char* name) {
  const char* const value = std::getenv(name);
  return value == nullptr ? "" : value;
}

fs::path user_folder() {
  if (const std::string named = environment("NPU_CUDA_CACHE"); !named.empty()) return named;
  if (const std::string caches = environment("XDG_CACHE_HOME"); !caches.empty())
    return fs::path(caches) / "npu-simulation" / "cuda";
  if (const std::string home = environment("HOME"); !home.empty())
    return fs::path(home) / ".cache" / "npu-simulation" / "cuda";
  return {};
}

std::string checksum(std::string_view bytes) {
  Mixer mixer;
  mixer.bytes(bytes.data(), bytes.size());
  return mixer.hex();
}

// Left by a process that was killed while it wrote.
bool is_abandoned(const fs::directory_entry& file) {
  std::error_code error;
  const auto written = file.last_write_time(error);
  return !error && file.path().extension() == kTemporary &&
         fs::file_time_type::clock::now() - written > std::chrono::hours(1);
}

}  // namespace

KernelCache::KernelCache() : folder_(user_folder()) {}

std::optional<std::string> KernelCache::find(const std::string& key) const {
  if (folder_.empty()) return std::nullopt;
  const fs::path path = folder_ / (key + kEnding);
  std::ifstream file(path, std::ios::binary);
  if (!file) return std::nullopt;
  std::string cubin(std::istreambuf_iterator<char>(file), {});
  const std::size_t end = cubin.find('\n');
  if (end == std::string::npos || cubin.substr(0, end) != checksum(std::string_view(cubin).substr(end + 1)))
    return std::nullopt;  // it is damaged, and will be written again
  cubin.erase(0, end + 1);
  if (cubin.empty()) return std::nullopt;
  std::error_code ignored;
  fs::last_write_time(path, fs::file_time_type::clock::now(), ignored);  // when it was last used
  return cubin;
}

void KernelCache::keep(const std::string& key, const std::string& cubin) const {
  if (folder_.empty()) return;
  static std::atomic<unsigned> serial{0};
  std::error_code error;
  fs::create_directories(folder_, error);
  const fs::path temporary =
      folder_ / (key + "." + std::to_string(::getpid()) + "." + std::to_string(serial++) + kTemporary);
  bool written = false;
  {
    std::ofstream file(temporary, std::ios::binary);
    file << checksum(cubin) << '\n';
    file.write(cubin.data(), static_cast<std::streamsize>(cubin.size()));
    written = static_cast<bool>(file.flush());
  }
  if (written) fs::rename(temporary, folder_ / (key + kEnding), error);
  if (!written || error) fs::remove(temporary, error);
}

void KernelCache::shrink(std::uintmax_t most_bytes) const {
  struct Entry {
    fs::file_time_type used;
    std::uintmax_t bytes;
    fs::path path;
  };
  std::vector<Entry> entries;
  std::uintmax_t total = 0;
  std::error_code error;
  for (const auto& file : fs::directory_iterator(folder_, error)) {
    if (is_abandoned(file)) fs::remove(file.path(), error);
    if (file.path().extension() != kEnding) continue;
    const std::uintmax_t bytes = file.file_size(error);
    if (error) continue;
    const fs::file_time_type used = file.last_write_time(error);
    if (error) continue;
    entries.push_back({used, bytes, file.path()});
    total += bytes;
  }
  std::sort(entries.begin(), entries.end(), [](const Entry& a, const Entry& b) { return a.used < b.used; });
  for (const Entry& entry : entries) {
    if (total <= most_bytes) break;
    if (fs::remove(entry.path, error)) total -= entry.bytes;
  }
}

}  // namespace npu::cuda
