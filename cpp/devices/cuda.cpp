#include "devices/cuda.h"

#include <cctype>
#include <charconv>
#include <fstream>
#include <map>
#include <mutex>

#include "cpu/cpu_device.h"
#include "cuda/device/api.h"
#include "cuda/device/cuda_device.h"
#include "cuda/nvrtc.h"
#include "gpu/device/gpu_device.h"
#include "npu/device.h"
#include "npu/error.h"

namespace npu {

namespace {

constexpr std::string_view kKind = "cuda";

struct Folders {
  std::mutex mutex;
  std::vector<std::string> all;
};

Folders& folders() {
  static auto* const one = new Folders;
  return *one;
}

std::vector<std::string> library_folders() {
  const std::lock_guard lock(folders().mutex);
  return folders().all;
}

std::string kind_of(std::size_t ordinal) {
  return std::string(kKind) + (ordinal == 0 ? "" : ":" + std::to_string(ordinal));
}

// Why no kernels can be compiled for it; empty if they can.
std::string compiler_problem(const cuda::GpuInfo& gpu) {
  try {
    const auto nvrtc = cuda::Nvrtc::open(library_folders(), cuda::driver_major());
    if (nvrtc->supports(gpu.architecture)) return {};
    return "NVRTC " + std::to_string(nvrtc->major()) + "." + std::to_string(nvrtc->minor()) +
           " does not compile for " + gpu.architecture + "; try pip install -U 'npu-simulation[cuda]'";
  } catch (const Error& error) {
    return error.what();
  }
}

// "580.159.04", or for which CUDA the driver is where the system does not say.
std::string driver_version() {
  std::ifstream file("/proc/driver/nvidia/version");
  for (std::string word; file >> word;) {
    if (std::isdigit(static_cast<unsigned char>(word.front())) && word.find('.') != std::string::npos)
      return word;
  }
  return "CUDA " + std::to_string(cuda::driver_major());
}

}  // namespace

void set_library_folders(std::vector<std::string> paths) {
  const std::lock_guard lock(folders().mutex);
  folders().all = std::move(paths);
}

std::vector<DeviceInfo> cuda_infos() {
  std::string why;
  const std::vector<cuda::GpuInfo> gpus = cuda::find_devices(&why);
  std::vector<DeviceInfo> infos;
  if (gpus.empty()) {
    infos.emplace_back().kind = kKind;
    infos.back().reason = why;
  }
  for (std::size_t i = 0; i < gpus.size(); ++i) {
    DeviceInfo& info = infos.emplace_back();
    info.kind = kind_of(i);
    info.reason = cuda::too_old(gpus[i]);
    if (info.reason.empty()) info.reason = compiler_problem(gpus[i]);
    if (info.reason.empty()) {
      info.available = true;
      info.name = gpus[i].name;
      info.cores = gpus[i].cores;
      info.memory_bytes = gpus[i].memory_bytes;
      info.driver = driver_version();
      info.features = {gpus[i].architecture};
    }
  }
  return infos;
}

std::optional<int> cuda_ordinal(std::string_view kind) {
  if (kind == kKind) return 0;
  if (kind.rfind("cuda:", 0) != 0) return std::nullopt;
  const std::string_view number = kind.substr(kKind.size() + 1);
  int ordinal = 0;
  const auto [end, error] = std::from_chars(number.data(), number.data() + number.size(), ordinal);
  if (error != std::errc() || end != number.data() + number.size() || ordinal < 0) return std::nullopt;
  return ordinal;
}

std::shared_ptr<const DeviceBackend> open_cuda(int ordinal) {
  // Never destroyed: the driver may be gone before them at exit.
  static std::mutex mutex;
  static auto* const devices = new std::map<int, std::shared_ptr<const DeviceBackend>>;
  const std::lock_guard lock(mutex);
  auto& device = (*devices)[ordinal];
  if (!device) {
    device = gpu::make_device(kind_of(static_cast<std::size_t>(ordinal)),
                              cuda::open_driver(ordinal, library_folders()), cpu::open_device());
  }
  return device;
}

}  // namespace npu
