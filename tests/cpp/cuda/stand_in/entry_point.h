// What the functions of the driver API have in common.
#pragma once

#include <mutex>

#include "cuda/stand_in/world.h"

namespace stand_in {

int current_gpu();  // of this thread's context; negative without one

// `body` is given the World, which is locked meanwhile. After a fault everything fails.
template <class Body>
int call(Body&& body) {
  World& world = World::get();
  const std::lock_guard lock(world.mutex);
  if (world.lost != kSuccess) return world.lost;
  return body(world);
}

// `body` is given the GPU of the thread's context too.
template <class Body>
int call_on_gpu(Body&& body) {
  return call([&](World& world) -> int {
    const int gpu = current_gpu();
    return gpu < 0 ? kInvalidContext : body(world, gpu);
  });
}

// `body` is given the stream that a handle names, which must be of the current context.
template <class Body>
int call_in_stream(void* handle, Body&& body) {
  return call_on_gpu([&](World& world, int gpu) -> int {
    Stream* const stream = world.stream(handle);
    if (stream == nullptr) {
      world.find("a stream is used that there is not, or the default stream");
      return kInvalidHandle;
    }
    if (stream->gpu != gpu) {
      world.find("a stream of GPU " + std::to_string(stream->gpu) + " is used in the context of GPU " +
                 std::to_string(gpu));
      return kInvalidHandle;
    }
    return body(world, *stream);
  });
}

struct Kernel {
  std::string name, parameters;      // letters of kernel_format.h
  unsigned shared_bytes = 48 << 10;  // that launches may ask for
};
struct LaunchShape {
  unsigned grid[3], block[3], shared_bytes;
};

// What a launch does, for a stream or a graph; a refusal where CUDA would refuse it.
Result describe_launch(World& world, const Kernel& kernel, const LaunchShape& shape, int gpu,
                       void** parameters, Operation& operation);

}  // namespace stand_in
