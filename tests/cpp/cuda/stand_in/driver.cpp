// cu* but for modules and launches: devices, contexts, memory, copies, streams and events.
#include <cstdio>
#include <cstring>

#include "cuda/stand_in/entry_point.h"

namespace stand_in {

namespace {
thread_local std::vector<int> contexts;  // by GPU

struct Context {
  int gpu = 0;
};
}  // namespace

int current_gpu() { return contexts.empty() ? -1 : contexts.back(); }

}  // namespace stand_in

using namespace stand_in;

namespace {

// CUdevice_attribute
constexpr int kThreadsPerBlock = 1, kSharedBytes = 8, kWarpSize = 10, kMultiprocessors = 16, kUnified = 41,
              kMajor = 75, kMinor = 76;
constexpr int kUnfinished = 0xee;  // what a copy to pinned memory leaves until it is done

Context* context_of(int gpu) {
  static std::vector<Context> all = [] {
    std::vector<Context> made(64);
    for (std::size_t i = 0; i < made.size(); ++i) made[i].gpu = static_cast<int>(i);
    return made;
  }();
  return &all[static_cast<std::size_t>(gpu)];
}

bool pinned(World& world, const void* data) {
  const Allocation* const allocation = world.containing(reinterpret_cast<Address>(data));
  return allocation != nullptr && allocation->host;
}

Touch touch_of(const void* data, std::size_t bytes, Use use) {
  return {reinterpret_cast<Address>(data), bytes, use};
}

}  // namespace

extern "C" {

int cuInit(unsigned) { return static_cast<int>(World::get().settings.init); }

int cuDriverGetVersion(int* version) {
  *version = static_cast<int>(World::get().settings.driver);
  return kSuccess;
}

int cuDeviceGetCount(int* count) {
  *count = static_cast<int>(World::get().settings.gpus);
  return kSuccess;
}

int cuDeviceGet(int* device, int ordinal) {
  if (ordinal < 0 || ordinal >= World::get().settings.gpus) return kInvalidDevice;
  *device = ordinal;
  return kSuccess;
}

int cuDeviceGetName(char* name, int bytes, int device) {
  std::snprintf(name, static_cast<std::size_t>(bytes), "Stand-in %d", device);
  return kSuccess;
}

int cuDeviceGetAttribute(int* value, int which, int) {
  const long capability = World::get().settings.capability;
  switch (which) {
    case kThreadsPerBlock:
      *value = 1024;
      return kSuccess;
    case kSharedBytes:
      *value = 48 << 10;
      return kSuccess;
    case kWarpSize:
      *value = 32;
      return kSuccess;
    case kMultiprocessors:
      *value = 132;
      return kSuccess;
    case kUnified:
      *value = 1;
      return kSuccess;
    case kMajor:
      *value = static_cast<int>(capability / 10);
      return kSuccess;
    case kMinor:
      *value = static_cast<int>(capability % 10);
      return kSuccess;
    default:
      return kInvalidValue;
  }
}

int cuDeviceTotalMem_v2(std::size_t* bytes, int) {
  *bytes = static_cast<std::size_t>(World::get().settings.memory);
  return kSuccess;
}

int cuDevicePrimaryCtxRetain(void** context, int device) {
  return call([&](World&) -> int {
    *context = context_of(device);
    return kSuccess;
  });
}

int cuCtxPushCurrent_v2(void* context) {
  return call([&](World&) -> int {
    contexts.push_back(static_cast<Context*>(context)->gpu);
    return kSuccess;
  });
}

int cuCtxPopCurrent_v2(void** context) {
  if (contexts.empty()) return kInvalidContext;
  *context = context_of(contexts.back());
  contexts.pop_back();
  return kSuccess;
}

int cuGetErrorName(int result, const char** name) {
  struct Name {
    int result;
    const char* name;
  };
  static constexpr Name kNames[] = {{kSuccess, "CUDA_SUCCESS"},
                                    {kInvalidValue, "CUDA_ERROR_INVALID_VALUE"},
                                    {kOutOfMemory, "CUDA_ERROR_OUT_OF_MEMORY"},
                                    {kNoDevice, "CUDA_ERROR_NO_DEVICE"},
                                    {kInvalidDevice, "CUDA_ERROR_INVALID_DEVICE"},
                                    {kInvalidImage, "CUDA_ERROR_INVALID_IMAGE"},
                                    {kInvalidContext, "CUDA_ERROR_INVALID_CONTEXT"},
                                    {kInvalidHandle, "CUDA_ERROR_INVALID_HANDLE"},
                                    {kNotFound, "CUDA_ERROR_NOT_FOUND"},
                                    {kNotReady, "CUDA_ERROR_NOT_READY"},
                                    {kIllegalAddress, "CUDA_ERROR_ILLEGAL_ADDRESS"},
                                    {kLaunchOutOfResources, "CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES"}};
  *name = nullptr;
  for (const Name& one : kNames) {
    if (one.result == result) *name = one.name;
  }
  return *name == nullptr ? kInvalidValue : kSuccess;
}

int cuGetErrorString(int, const char** text) {
  *text = "as the stand-in was told";
  return kSuccess;
}

int cuMemAlloc_v2(Address* address, std::size_t bytes) {
  return call_on_gpu([&](World& world, int gpu) -> int { return world.allocate(gpu, bytes, address); });
}

// Also after a fault, so that what is still allocated then is no leak.
int cuMemFree_v2(Address address) {
  World& world = World::get();
  const std::lock_guard lock(world.mutex);
  const int result = world.free(address, false);
  return world.lost != kSuccess ? world.lost : result;
}

int cuMemGetInfo_v2(std::size_t* free, std::size_t* total) {
  return call_on_gpu([&](World& world, int gpu) -> int {
    *total = static_cast<std::size_t>(world.settings.memory);
    *free = *total - std::min(*total, world.used(gpu));
    return kSuccess;
  });
}

int cuMemHostAlloc(void** data, std::size_t bytes, unsigned) {
  return call_on_gpu([&](World& world, int) -> int { return world.allocate_host(bytes, data); });
}

int cuMemFreeHost(void* data) {
  World& world = World::get();
  const std::lock_guard lock(world.mutex);
  const int result = world.free(reinterpret_cast<Address>(data), true);
  return world.lost != kSuccess ? world.lost : result;
}

// From pinned memory the bytes are read when the copy's turn comes, from other memory now.
int cuMemcpyHtoDAsync_v2(Address to, const void* from, std::size_t bytes, void* handle) {
  return call_in_stream(handle, [&](World& world, Stream& stream) -> int {
    ++world.counters.copies;
    Operation operation{
        .name = "a copy to the GPU", .gpu = stream.gpu, .touches = {{to, bytes, Use::kWrite}}, .work = {}};
    if (pinned(world, from)) {
      operation.touches.push_back(touch_of(from, bytes, Use::kRead));
      operation.work = [&world, to, from, bytes] { std::memcpy(world.bytes_at(to), from, bytes); };
    } else {
      const auto* const begin = static_cast<const std::byte*>(from);
      operation.work = [&world, to, staged = std::vector<std::byte>(begin, begin + bytes)] {
        std::memcpy(world.bytes_at(to), staged.data(), staged.size());
      };
    }
    return world.enqueue(stream, std::move(operation));
  });
}

// To pinned memory the bytes come when the copy's turn comes; for other memory the driver waits.
int cuMemcpyDtoHAsync_v2(void* to, Address from, std::size_t bytes, void* handle) {
  return call_in_stream(handle, [&](World& world, Stream& stream) -> int {
    ++world.counters.copies;
    Operation operation{.name = "a copy to the host",
                        .gpu = stream.gpu,
                        .touches = {{from, bytes, Use::kRead}},
                        .work = [&world, to, from, bytes] { std::memcpy(to, world.bytes_at(from), bytes); }};
    const bool waits = !pinned(world, to);
    if (!waits) operation.touches.push_back(touch_of(to, bytes, Use::kWrite));
    if (const int refusal = world.enqueue(stream, std::move(operation))) return refusal;
    if (waits) return world.synchronize(stream);
    std::memset(to, kUnfinished, bytes);
    return kSuccess;
  });
}

int cuMemcpyDtoDAsync_v2(Address to, Address from, std::size_t bytes, void* handle) {
  return call_in_stream(handle, [&](World& world, Stream& stream) -> int {
    ++world.counters.copies;
    return world.enqueue(stream, {.name = "a copy on the GPU",
                                  .gpu = stream.gpu,
                                  .touches = {{to, bytes, Use::kWrite}, {from, bytes, Use::kRead}},
                                  .work = [&world, to, from, bytes] {
                                    std::memmove(world.bytes_at(to), world.bytes_at(from), bytes);
                                  }});
  });
}

int cuMemsetD8Async(Address to, unsigned char value, std::size_t bytes, void* handle) {
  return call_in_stream(handle, [&](World& world, Stream& stream) -> int {
    ++world.counters.fills;
    return world.enqueue(
        stream, {.name = "a fill",
                 .gpu = stream.gpu,
                 .touches = {{to, bytes, Use::kWrite}},
                 .work = [&world, to, value, bytes] { std::memset(world.bytes_at(to), value, bytes); }});
  });
}

int cuStreamCreate(void** stream, unsigned) {
  return call_on_gpu([&](World& world, int gpu) -> int {
    *stream = world.create_stream(gpu);
    return kSuccess;
  });
}

int cuStreamDestroy_v2(void* handle) {
  return call_in_stream(handle, [&](World& world, Stream& stream) -> int {
    world.destroy_stream(&stream);
    return kSuccess;
  });
}

int cuStreamSynchronize(void* handle) {
  return call_in_stream(handle,
                        [](World& world, Stream& stream) -> int { return world.synchronize(stream); });
}

int cuStreamWaitEvent(void* handle, void* event, unsigned) {
  return call_in_stream(handle, [&](World& world, Stream& stream) -> int {
    const Event* const recorded = world.event(event);
    if (recorded == nullptr) return kInvalidHandle;
    world.wait(stream, *recorded);
    return kSuccess;
  });
}

int cuEventCreate(void** event, unsigned) {
  return call_on_gpu([&](World& world, int) -> int {
    *event = world.create_event();
    return kSuccess;
  });
}

int cuEventDestroy_v2(void* handle) {
  return call([&](World& world) -> int {
    Event* const event = world.event(handle);
    if (event == nullptr) {
      world.find("an event is destroyed that there is not");
      return kInvalidHandle;
    }
    world.destroy_event(event);
    return kSuccess;
  });
}

int cuEventRecord(void* handle, void* stream_handle) {
  return call_in_stream(stream_handle, [&](World& world, Stream& stream) -> int {
    Event* const event = world.event(handle);
    if (event == nullptr) return kInvalidHandle;
    world.record(*event, stream);
    return kSuccess;
  });
}

int cuEventSynchronize(void* handle) {
  return call([&](World& world) -> int {
    Event* const event = world.event(handle);
    return event == nullptr ? kInvalidHandle : world.synchronize(*event);
  });
}

// A microsecond for each operation of the stream between them.
int cuEventElapsedTime(float* milliseconds, void* first, void* second) {
  return call([&](World& world) -> int {
    const Event *const begin = world.event(first), *const end = world.event(second);
    if (begin == nullptr || end == nullptr || !begin->recorded || !end->recorded) return kInvalidHandle;
    if (tick_of(world.host_clock, end->stream) < end->tick) return kNotReady;
    *milliseconds = 1e-3F * static_cast<float>(end->tick - begin->tick);
    return kSuccess;
  });
}

}  // extern "C"
