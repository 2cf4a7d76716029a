// The driver API of CUDA, found when a device is opened: nothing of CUDA is there at build time. Names and
// numbers are those of NVIDIA's cuda.h, of which this declares what is used.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

namespace npu::cuda {

using CuResult = int;
using CuDevice = int;
using CuContext = struct CuContextObject*;
using CuStream = struct CuStreamObject*;
using CuModule = struct CuModuleObject*;
using CuFunction = struct CuFunctionObject*;
using CuEvent = struct CuEventObject*;
using CuGraph = struct CuGraphObject*;
using CuGraphNode = struct CuGraphNodeObject*;
using CuGraphExec = struct CuGraphExecObject*;
using CuAddress = unsigned long long;

inline constexpr CuResult kCuSuccess = 0, kCuOutOfMemory = 2, kCuNoDevice = 100, kCuIllegalAddress = 700;

// CUdevice_attribute
inline constexpr int kCuThreadsPerBlock = 1, kCuSharedBytesPerBlock = 8, kCuWarpSize = 10,
                     kCuMultiprocessors = 16, kCuUnifiedAddressing = 41, kCuMajor = 75, kCuMinor = 76;

// CUfunction_attribute
inline constexpr int kCuDynamicSharedBytes = 8, kCuSharedCarveout = 9;

inline constexpr unsigned kCuNonBlocking = 1;                      // CU_STREAM_NON_BLOCKING
inline constexpr unsigned kCuEventNoTiming = 2;                    // CU_EVENT_DISABLE_TIMING
inline constexpr unsigned kCuHostPortable = 1, kCuHostMapped = 2;  // CU_MEMHOSTALLOC_*

// CUDA_KERNEL_NODE_PARAMS_v2
struct CuKernelNode {
  CuFunction function;
  unsigned grid[3], block[3];
  unsigned shared_bytes;
  void** parameters;
  void** extra;
  void* kernel;
  CuContext context;
};

// CUgraphEdgeData
struct CuGraphEdge {
  unsigned char from_port, to_port, type, reserved[5];
};
// The edge is passed once all blocks of the kernel before have begun: CU_GRAPH_KERNEL_NODE_PORT_PROGRAMMATIC,
// and CU_GRAPH_DEPENDENCY_TYPE_PROGRAMMATIC.
inline constexpr CuGraphEdge kCuOverlapping{1, 0, 1, {}};

struct Api {
  CuResult (*init)(unsigned);
  CuResult (*driver_version)(int*);
  CuResult (*device_count)(int*);
  CuResult (*device)(CuDevice*, int);
  CuResult (*device_name)(char*, int, CuDevice);
  CuResult (*device_attribute)(int*, int, CuDevice);
  CuResult (*device_bytes)(std::size_t*, CuDevice);
  CuResult (*retain_context)(CuContext*, CuDevice);
  CuResult (*push_context)(CuContext);
  CuResult (*pop_context)(CuContext*);
  CuResult (*error_name)(CuResult, const char**);
  CuResult (*error_text)(CuResult, const char**);
  CuResult (*allocate)(CuAddress*, std::size_t);
  CuResult (*free)(CuAddress);
  CuResult (*memory_info)(std::size_t*, std::size_t*);
  CuResult (*allocate_host)(void**, std::size_t, unsigned);
  CuResult (*free_host)(void*);
  CuResult (*copy_to_device)(CuAddress, const void*, std::size_t, CuStream);
  CuResult (*copy_to_host)(void*, CuAddress, std::size_t, CuStream);
  CuResult (*copy_on_device)(CuAddress, CuAddress, std::size_t, CuStream);
  CuResult (*fill)(CuAddress, unsigned char, std::size_t, CuStream);
  CuResult (*create_stream)(CuStream*, unsigned);
  CuResult (*destroy_stream)(CuStream);
  CuResult (*synchronize)(CuStream);
  CuResult (*create_event)(CuEvent*, unsigned);
  CuResult (*destroy_event)(CuEvent);
  CuResult (*record_event)(CuEvent, CuStream);
  CuResult (*elapsed)(float*, CuEvent, CuEvent);  // milliseconds
  CuResult (*wait_event)(CuStream, CuEvent, unsigned);
  CuResult (*wait_for_event)(CuEvent);  // the host
  CuResult (*load_module)(CuModule*, const void*);
  CuResult (*unload_module)(CuModule);
  CuResult (*function)(CuFunction*, CuModule, const char*);
  CuResult (*set_attribute)(CuFunction, int, int);
  CuResult (*launch)(CuFunction, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned,
                     CuStream, void**, void**);
  CuResult (*create_graph)(CuGraph*, unsigned);
  CuResult (*destroy_graph)(CuGraph);
  CuResult (*add_kernel)(CuGraphNode*, CuGraph, const CuGraphNode*, std::size_t, const CuKernelNode*);
  // Null before CUDA 12.3.
  CuResult (*add_edges)(CuGraph, const CuGraphNode*, const CuGraphNode*, const CuGraphEdge*, std::size_t);
  CuResult (*instantiate)(CuGraphExec*, CuGraph, unsigned long long);
  CuResult (*destroy_exec)(CuGraphExec);
  CuResult (*update_kernel)(CuGraphExec, CuGraphNode, const CuKernelNode*);
  CuResult (*launch_graph)(CuGraphExec, CuStream);
};

// Null where there is no driver; `why` then says so in words for people.
const Api* find_api(std::string* why);
const Api& api();  // throws where there is none

int driver_major();  // the version of CUDA that the driver is for: 13

std::string describe(CuResult result);  // "CUDA_ERROR_OUT_OF_MEMORY: out of memory"

// Throws unless it succeeded; `what` failed.
void check(CuResult result, const std::string& what);

}  // namespace npu::cuda
