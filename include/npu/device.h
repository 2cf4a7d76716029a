// A device that programs run on.
#pragma once

#include <memory>
#include <string>

namespace npu {

class DeviceBackend;

class Device {
 public:
  // "cpu", or "" for the best one present. Throws Error when it is not there.
  static Device open(const std::string& kind = "");

  explicit Device(std::shared_ptr<const DeviceBackend> backend) : backend_(std::move(backend)) {}

  const std::string& kind() const;
  const std::string& name() const;
  const DeviceBackend& backend() const { return *backend_; }  // for the library itself

 private:
  std::shared_ptr<const DeviceBackend> backend_;
};

}  // namespace npu
