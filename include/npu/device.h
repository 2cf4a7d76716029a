// A device that programs run on.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "npu/buffer.h"

namespace npu {

class DeviceBackend;

class Device {
 public:
  // "cpu", "metal", "cuda", "cuda:1", or "" for the best one present; "metal:emulated" where the build has
  // that. Throws Error when it is not there.
  static Device open(const std::string& kind = "");

  explicit Device(std::shared_ptr<const DeviceBackend> backend) : backend_(std::move(backend)) {}

  const std::string& kind() const;
  const std::string& name() const;

  // In memory that its kernels can reach, so that runs need not copy it; not initialised unless `zero`.
  Buffer allocate(DType dtype, std::vector<std::int64_t> shape, bool zero = false) const;
  const DeviceBackend& backend() const { return *backend_; }  // for the library itself

 private:
  std::shared_ptr<const DeviceBackend> backend_;
};

// Where libraries of devices may be beside the system's own folders, as pip installs them: site-packages.
void set_library_folders(std::vector<std::string> folders);

}  // namespace npu
