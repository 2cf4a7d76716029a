#include "cuda/device/context.h"

#include <array>

#include "core/base/text.h"
#include "cuda/device/chips.h"
#include "cuda/device/transfers.h"
#include "npu/error.h"

namespace npu::cuda {

namespace {

// CUDA refuses all further work after these: faults of kernels and of the hardware.
bool is_final(CuResult result) {
  constexpr CuResult kUncorrectable = 214, kUncorrectableLink = 220, kTimeout = 702, kDestroyed = 709,
                     kAssert = 710, kFirstFault = 714, kLastFault = 719, kUnknown = 999;
  return result == kUncorrectable || result == kUncorrectableLink || result == kCuIllegalAddress ||
         result == kTimeout || result == kDestroyed || result == kAssert || result == kUnknown ||
         (result >= kFirstFault && result <= kLastFault);
}

}  // namespace

Context::Context(int ordinal) : ordinal_(ordinal), transfers_(std::make_unique<Transfers>(*this)) {
  check(api().device(&device_, ordinal), "finding GPU " + std::to_string(ordinal));
  std::array<char, 256> name{};
  check(api().device_name(name.data(), static_cast<int>(name.size()), device_), "asking for the GPU's name");
  name_ = name.data();
  architecture_ = "sm_" + std::to_string(attribute(kCuMajor)) + std::to_string(attribute(kCuMinor));
  // The primary context, which PyTorch uses too, so that memory can be shared.
  check(api().retain_context(&context_, device_), "starting the GPU " + name_);
}

Context::~Context() {
  transfers_.reset();
  const Current current(*this, std::nothrow);
  for (const CuStream stream : idle_) api().destroy_stream(stream);
}

bool Context::overlaps() const { return api().add_edges != nullptr && attribute(kCuMajor) >= kHopper; }

int Context::attribute(int which) const {
  int value = 0;
  check(api().device_attribute(&value, which, device_), "asking for an attribute of the GPU");
  return value;
}

Context::Current::Current(const Context& context) : pushed_(true) {
  context.check_work(api().push_context(context.context_), "choosing the GPU " + context.name_);
}

Context::Current::Current(const Context& context, std::nothrow_t)
    : pushed_(api().push_context(context.context_) == kCuSuccess) {}

Context::Current::~Current() {
  CuContext before = nullptr;
  if (pushed_) api().pop_context(&before);
}

void Context::check_alive() const {
  const std::lock_guard lock(mutex_);
  if (lost_.empty()) return;
  throw Error(ErrorKind::kUnavailable, {.area = "cuda",
                                        .what = "the GPU cannot be used any more in this process: " + lost_,
                                        .action = "starting the process again"});
}

void Context::lose(const std::string& why) const {
  const std::lock_guard lock(mutex_);
  if (lost_.empty()) lost_ = why;
}

void Context::note(CuResult result, const std::string& what) const {
  if (is_final(result)) lose(what + ": " + describe(result));
}

void Context::check_work(CuResult result, const std::string& what) const {
  note(result, what + " failed");
  check(result, what);
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

void* allocate_pinned_bytes(Context& context, std::size_t bytes) {
  void* data = nullptr;
  const CuResult result = api().allocate_host(&data, bytes, kCuHostPortable | kCuHostMapped);
  if (result == kCuOutOfMemory) {
    throw Error(ErrorKind::kUnavailable, {.area = "memory",
                                          .what = "not enough memory of the host that the GPU can reach",
                                          .got = "a request for " + bytes_text(bytes)});
  }
  context.check_work(result, "allocating pinned memory");
  return data;
}

BorrowedStream::BorrowedStream(Context& context) : context_(context), stream_(context.take_stream()) {
  try {
    transfers_ = context.transfers().order(stream_);
  } catch (...) {
    context.give_back(stream_);
    throw;
  }
}

BorrowedStream::~BorrowedStream() {
  if (std::uncaught_exceptions() > failures_) {
    api().synchronize(stream_);  // nothing of it may go on when memory that it uses is freed
  } else {
    context_.transfers().completed(transfers_);
  }
  context_.give_back(stream_);
}

}  // namespace npu::cuda
