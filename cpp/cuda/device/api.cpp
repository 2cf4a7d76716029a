#include "cuda/device/api.h"

#include <dlfcn.h>

#include <cstdlib>
#include <type_traits>
#include <utility>

#include "npu/error.h"

namespace npu::cuda {

namespace {

constexpr int kOldestDriver = 12000;  // of CUDA 12.0, as the driver counts

struct Loaded {
  Api api{};
  bool usable = false;
  std::string why;
};

bool find_functions(void* library, Api& api, std::string& missing) {
  const auto find_newer = [&](const char* name, auto& function) {
    function = reinterpret_cast<std::remove_reference_t<decltype(function)>>(dlsym(library, name));
  };
  const auto find = [&](const char* name, auto& function) {
    find_newer(name, function);
    if (function == nullptr && missing.empty()) missing = name;
  };
  find("cuInit", api.init);
  find("cuDriverGetVersion", api.driver_version);
  find("cuDeviceGetCount", api.device_count);
  find("cuDeviceGet", api.device);
  find("cuDeviceGetName", api.device_name);
  find("cuDeviceGetAttribute", api.device_attribute);
  find("cuDeviceTotalMem_v2", api.device_bytes);
  find("cuDevicePrimaryCtxRetain", api.retain_context);
  find("cuCtxPushCurrent_v2", api.push_context);
  find("cuCtxPopCurrent_v2", api.pop_context);
  find("cuGetErrorName", api.error_name);
  find("cuGetErrorString", api.error_text);
  find("cuMemAlloc_v2", api.allocate);
  find("cuMemFree_v2", api.free);
  find("cuMemGetInfo_v2", api.memory_info);
  find("cuMemHostAlloc", api.allocate_host);
  find("cuMemFreeHost", api.free_host);
  find("cuMemcpyHtoDAsync_v2", api.copy_to_device);
  find("cuMemcpyDtoHAsync_v2", api.copy_to_host);
  find("cuMemcpyDtoDAsync_v2", api.copy_on_device);
  find("cuMemsetD8Async", api.fill);
  find("cuStreamCreate", api.create_stream);
  find("cuStreamDestroy_v2", api.destroy_stream);
  find("cuStreamSynchronize", api.synchronize);
  find("cuEventCreate", api.create_event);
  find("cuEventDestroy_v2", api.destroy_event);
  find("cuEventRecord", api.record_event);
  find("cuEventElapsedTime", api.elapsed);
  find("cuStreamWaitEvent", api.wait_event);
  find("cuEventSynchronize", api.wait_for_event);
  find("cuModuleLoadData", api.load_module);
  find("cuModuleUnload", api.unload_module);
  find("cuModuleGetFunction", api.function);
  find("cuFuncSetAttribute", api.set_attribute);
  find("cuLaunchKernel", api.launch);
  find("cuGraphCreate", api.create_graph);
  find("cuGraphDestroy", api.destroy_graph);
  find("cuGraphAddKernelNode_v2", api.add_kernel);
  find_newer("cuGraphAddDependencies_v2", api.add_edges);
  find("cuGraphInstantiateWithFlags", api.instantiate);
  find("cuGraphExecDestroy", api.destroy_exec);
  find("cuGraphExecKernelNodeSetParams_v2", api.update_kernel);
  find("cuGraphLaunch", api.launch_graph);
  return missing.empty();
}

std::string version_text(int version) {
  return std::to_string(version / 1000) + "." + std::to_string(version % 1000 / 10);
}

Loaded load() {
  Loaded loaded;
  const char* const named = std::getenv("NPU_CUDA_DRIVER");
  const std::string path = named == nullptr || *named == '\0' ? "libcuda.so.1" : named;
  void* const library = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) {
    loaded.why = "no NVIDIA driver was found (" + path + ")";
    return loaded;
  }
  std::string missing;
  if (!find_functions(library, loaded.api, missing)) {
    loaded.why = "the NVIDIA driver is too old: it has no " + missing;
    return loaded;
  }
  int version = 0;
  if (loaded.api.driver_version(&version) != kCuSuccess || version < kOldestDriver) {
    loaded.why = "the NVIDIA driver is for CUDA " + version_text(version) + "; expected one for CUDA " +
                 version_text(kOldestDriver) + " or newer (525 or newer)";
    return loaded;
  }
  const CuResult result = loaded.api.init(0);
  if (result != kCuSuccess) {
    const char* text = "";
    loaded.api.error_text(result, &text);
    loaded.why = result == kCuNoDevice
                     ? "the NVIDIA driver finds no GPU"
                     : std::string("the NVIDIA driver does not start: ") + (text ? text : "");
    return loaded;
  }
  loaded.usable = true;
  return loaded;
}

// Never destroyed: memory may be freed while the process ends.
const Loaded& loaded() {
  static const auto* const once = new Loaded(load());
  return *once;
}

}  // namespace

const Api* find_api(std::string* why) {
  if (why != nullptr) *why = loaded().why;
  return loaded().usable ? &loaded().api : nullptr;
}

const Api& api() {
  if (!loaded().usable) {
    throw Error(ErrorKind::kUnavailable, {.area = "cuda", .what = loaded().why});
  }
  return loaded().api;
}

int driver_major() {
  int version = 0;
  check(api().driver_version(&version), "asking for the driver's version");
  return version / 1000;
}

std::string describe(CuResult result) {
  const char *name = nullptr, *text = nullptr;
  api().error_name(result, &name);
  api().error_text(result, &text);
  if (name == nullptr) return "error " + std::to_string(result);
  return std::string(name) + (text != nullptr ? std::string(": ") + text : "");
}

void check(CuResult result, const std::string& what) {
  if (result == kCuSuccess) return;
  throw Error(ErrorKind::kInternal, {.area = "cuda", .what = what + " failed", .got = describe(result)});
}

}  // namespace npu::cuda
