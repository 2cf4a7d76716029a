#include "cuda/device/context.h"

#include <array>

#include "npu/error.h"

namespace npu::cuda {

Context::Context(int ordinal) : ordinal_(ordinal) {
  check(api().device(&device_, ordinal), "finding GPU " + std::to_string(ordinal));
  std::array<char, 256> name{};
  check(api().device_name(name.data(), static_cast<int>(name.size()), device_), "asking for the GPU's name");
  name_ = name.data();
  architecture_ = "sm_" + std::to_string(attribute(kCuMajor)) + std::to_string(attribute(kCuMinor));
  // The primary context, which PyTorch uses too, so that memory can be shared.
  check(api().retain_context(&context_, device_), "starting the GPU " + name_);
}

int Context::attribute(int which) const {
  int value = 0;
  check(api().device_attribute(&value, which, device_), "asking for an attribute of the GPU");
  return value;
}

Context::Current::Current(const Context& context) {
  check(api().push_context(context.context_), "choosing the GPU " + context.name_);
}

Context::Current::~Current() {
  CuContext before = nullptr;
  api().pop_context(&before);
}

void Context::check_alive() const {
  const std::lock_guard lock(mutex_);
  if (lost_.empty()) return;
  throw Error(ErrorKind::kUnavailable, {.area = "cuda",
                                        .what = "the GPU cannot be used any more in this process: " + lost_,
                                        .action = "starting the process again"});
}

void Context::lose(const std::string& why) {
  const std::lock_guard lock(mutex_);
  if (lost_.empty()) lost_ = why;
}

CuStream Context::take_stream() {
  {
    const std::lock_guard lock(mutex_);
    if (!idle_.empty()) {
      const CuStream stream = idle_.back();
      idle_.pop_back();
      return stream;
    }
  }
  CuStream stream = nullptr;
  check(api().create_stream(&stream, kCuNonBlocking), "making a stream");
  return stream;
}

void Context::give_back(CuStream stream) {
  const std::lock_guard lock(mutex_);
  idle_.push_back(stream);
}

}  // namespace npu::cuda
