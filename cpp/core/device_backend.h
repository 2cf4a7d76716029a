// What the core asks of a device.
#pragma once

#include <memory>
#include <string>

#include "kernel.h"

namespace npu {

class DeviceBackend {
 public:
  virtual ~DeviceBackend() = default;
  virtual const std::string& kind() const = 0;
  virtual const std::string& name() const = 0;
  virtual std::unique_ptr<Kernel> make_kernel(const KernelRequest& request) const = 0;
  // Whether this op would rather have channels innermost in what it reads first and in what it writes.
  virtual bool wants_channels_last(const Op& op) const = 0;
};

}  // namespace npu
