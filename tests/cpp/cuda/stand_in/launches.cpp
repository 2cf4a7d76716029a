// cuModule*, cuLaunchKernel.
#include <cstring>
#include <memory>
#include <sstream>

#include "cuda/stand_in/entry_point.h"
#include "cuda/stand_in/kernel_format.h"

namespace stand_in {

namespace {

constexpr unsigned kMostBlocks = 65535, kMostThreads = 1024, kMostThreadsZ = 64, kMostShared = 227 << 10;
constexpr int kDynamicSharedBytes = 8, kSharedCarveout = 9;  // CU_FUNC_ATTRIBUTE_*

bool fits(const LaunchShape& shape, const Kernel& kernel) {
  const auto& [grid, block, shared_bytes] = shape;
  for (int d = 0; d < 3; ++d) {
    if (grid[d] == 0 || block[d] == 0) return false;
  }
  return grid[0] < 1U << 31 && grid[1] <= kMostBlocks && grid[2] <= kMostBlocks &&
         std::uint64_t{block[0]} * block[1] * block[2] <= kMostThreads && block[2] <= kMostThreadsZ &&
         shared_bytes <= kernel.shared_bytes;
}

}  // namespace

Result describe_launch(World& world, const Kernel& kernel, const LaunchShape& shape, int gpu,
                       void** parameters, Operation& operation) {
  operation = {.name = kernel.name, .launch = true, .gpu = gpu, .touches = {}, .work = {}};
  if (!fits(shape, kernel)) {
    world.find(kernel.name + " is launched with more blocks, threads or shared memory than there can be");
    return kInvalidValue;
  }
  for (std::size_t i = 0; i < kernel.parameters.size(); ++i) {
    if (kernel.parameters[i] != kPointer) continue;
    Address address = 0;
    std::memcpy(&address, parameters[i], sizeof(address));
    // How far it reaches is not known, and a buffer that a kernel does not look at is null.
    if (address != 0) operation.touches.push_back({.address = address, .bytes = 1, .use = Use::kUnknown});
  }
  return kSuccess;
}

}  // namespace stand_in

using stand_in::Kernel;
using stand_in::World;

namespace {

struct Module {
  std::vector<Kernel> kernels;
};

std::vector<std::unique_ptr<Module>>& modules() {
  static auto* const all = new std::vector<std::unique_ptr<Module>>;
  return *all;
}

}  // namespace

extern "C" {

int cuModuleLoadData(void** module, const void* image) {
  return stand_in::call_on_gpu([&](World& world, int) -> int {
    const std::string text = static_cast<const char*>(image);
    if (text.rfind(stand_in::kMagic, 0) != 0) return stand_in::kInvalidImage;
    ++world.counters.modules;
    Module* const loaded = modules().emplace_back(std::make_unique<Module>()).get();
    std::istringstream lines(text.substr(std::strlen(stand_in::kMagic)));
    for (Kernel kernel; lines >> kernel.name >> kernel.parameters;) loaded->kernels.push_back(kernel);
    *module = loaded;
    return stand_in::kSuccess;
  });
}

int cuModuleUnload(void* module) {
  return stand_in::call([&](World&) -> int {
    std::erase_if(modules(), [&](const auto& one) { return one.get() == module; });
    return stand_in::kSuccess;
  });
}

int cuModuleGetFunction(void** function, void* module, const char* name) {
  return stand_in::call_on_gpu([&](World&, int) -> int {
    for (Kernel& kernel : static_cast<Module*>(module)->kernels) {
      if (kernel.name != name) continue;
      *function = &kernel;
      return stand_in::kSuccess;
    }
    return stand_in::kNotFound;
  });
}

int cuFuncSetAttribute(void* function, int attribute, int value) {
  return stand_in::call_on_gpu([&](World&, int) -> int {
    if (attribute == stand_in::kSharedCarveout) return stand_in::kSuccess;
    const auto bytes = static_cast<unsigned>(value);
    if (attribute != stand_in::kDynamicSharedBytes || bytes > stand_in::kMostShared)
      return stand_in::kInvalidValue;
    static_cast<Kernel*>(function)->shared_bytes = bytes;
    return stand_in::kSuccess;
  });
}

int cuLaunchKernel(void* function, unsigned grid_x, unsigned grid_y, unsigned grid_z, unsigned block_x,
                   unsigned block_y, unsigned block_z, unsigned shared_bytes, void* handle, void** parameters,
                   void**) {
  return stand_in::call_in_stream(handle, [&](World& world, stand_in::Stream& stream) -> int {
    if (const int refusal = try_launch(world)) return refusal;
    ++world.counters.launches;
    stand_in::Operation operation;
    const stand_in::LaunchShape shape{{grid_x, grid_y, grid_z}, {block_x, block_y, block_z}, shared_bytes};
    if (const int refusal = stand_in::describe_launch(world, *static_cast<Kernel*>(function), shape,
                                                      stream.gpu, parameters, operation))
      return refusal;
    const stand_in::Result result = world.enqueue(stream, std::move(operation));
    if (result != stand_in::kSuccess || !world.settings.blocking) return result;
    return world.synchronize(stream);
  });
}

}  // extern "C"
