// The stand-in itself: it sees what it is there to see, and nothing where all is well.
#include <array>
#include <cstring>
#include <vector>

#include "cuda/device/context.h"
#include "cuda/nvrtc.h"
#include "cuda/on_stand_in/machine.h"
#include "npu/error.h"

using namespace npu::cuda;
using npu::test::says;
using npu::test::StandIn;

namespace {

constexpr std::size_t kBytes = 1000;

// A context and memory of the first GPU, current in this thread.
struct Gpu {
  Gpu() : context(0), current(context) { CHECK_EQ(api().allocate(&memory, kBytes), kCuSuccess); }
  ~Gpu() { api().free(memory); }
  CuStream stream() {
    CuStream made = nullptr;
    CHECK_EQ(api().create_stream(&made, kCuNonBlocking), kCuSuccess);
    return made;
  }

  Context context;
  Context::Current current;
  CuAddress memory = 0;
};

struct Pinned {
  explicit Pinned(std::size_t bytes) { CHECK_EQ(api().allocate_host(&data, bytes, 0), kCuSuccess); }
  ~Pinned() { api().free_host(data); }
  void* data = nullptr;
};

// An entry that takes a value and a pointer, as NVRTC gives it to the driver.
CuFunction kernel() {
  const auto nvrtc = Nvrtc::open({});
  const std::string text =
      "extern \"C\" __global__ void __launch_bounds__(256) npu_touch(const __grid_constant__ Args npu_0, "
      "void* npu_1) {\n}\n";
  const Nvrtc::Result result = nvrtc->compile(text, "touch", {});
  CHECK(result.compiled);
  CuModule module = nullptr;
  CuFunction function = nullptr;
  CHECK_EQ(api().load_module(&module, result.cubin.c_str()), kCuSuccess);
  CHECK_EQ(api().function(&function, module, "npu_touch"), kCuSuccess);
  CHECK(api().function(&function, module, "npu_none") != kCuSuccess);
  CHECK_EQ(api().function(&function, module, "npu_touch"), kCuSuccess);
  return function;
}

CuResult launch(CuFunction function, CuAddress address, CuStream stream, unsigned rows = 1) {
  int value = 0;
  std::array<void*, 2> parameters{&value, &address};
  return api().launch(function, 1, rows, 1, 32, 1, 1, 0, stream, parameters.data(), nullptr);
}

}  // namespace

TEST(stand_in, copies_bytes_when_somebody_waits) {
  const StandIn& machine = StandIn::get();
  Gpu gpu;
  const CuStream stream = gpu.stream();
  const Pinned from(kBytes), to(kBytes);
  std::memset(from.data, 7, kBytes);
  CHECK_EQ(api().copy_to_device(gpu.memory, from.data, kBytes, stream), kCuSuccess);
  CHECK_EQ(api().copy_to_host(to.data, gpu.memory, kBytes, stream), kCuSuccess);
  CHECK(static_cast<char*>(to.data)[3] != 7);  // nobody has waited
  CHECK_EQ(api().synchronize(stream), kCuSuccess);
  CHECK_EQ(std::memcmp(from.data, to.data, kBytes), 0);
  std::vector<char> plain(kBytes);
  CHECK_EQ(api().copy_to_host(plain.data(), gpu.memory, kBytes, stream), kCuSuccess);
  CHECK_EQ(plain[kBytes - 1], 7);  // a copy to memory that is not pinned has waited
  CHECK_EQ(machine.findings(), "");
  api().destroy_stream(stream);
}

TEST(stand_in, sees_wrong_addresses) {
  const StandIn& machine = StandIn::get();
  Gpu gpu;
  const CuStream stream = gpu.stream();
  const std::vector<char> data(2 * kBytes);
  CHECK(api().copy_to_device(gpu.memory + 1, data.data(), kBytes, stream) != kCuSuccess);
  CHECK(says(machine.findings(), "reaches 1 bytes beyond the end of 1000 bytes of GPU 0"));
  CHECK(launch(kernel(), 12345, stream) != kCuSuccess);
  CHECK(says(machine.findings(), "npu_touch uses memory that was not allocated"));
  CuAddress gone = 0;
  api().allocate(&gone, kBytes);
  api().free(gone);
  CHECK(api().fill(gone, 0, kBytes, stream) != kCuSuccess);
  CHECK(says(machine.findings(), "a fill uses 1000 bytes of GPU 0 that were freed"));
  CHECK(api().free(gone) != kCuSuccess);
  CHECK(says(machine.findings(), "freed twice"));
  CHECK(launch(kernel(), gpu.memory, stream, 65536) != kCuSuccess);
  CHECK(says(machine.findings(), "more blocks"));
  CHECK(launch(kernel(), gpu.memory, nullptr) != kCuSuccess);
  CHECK(says(machine.findings(), "the default stream"));
}

TEST(stand_in, sees_missing_order_between_streams) {
  const StandIn& machine = StandIn::get();
  Gpu gpu;
  const CuStream one = gpu.stream(), two = gpu.stream();
  CuEvent event = nullptr;
  api().create_event(&event, 0);
  const CuFunction function = kernel();
  // Waited for by the host, then in one stream, then by an event.
  CHECK_EQ(api().fill(gpu.memory, 1, kBytes, one), kCuSuccess);
  api().synchronize(one);
  CHECK_EQ(launch(function, gpu.memory, two), kCuSuccess);
  CHECK_EQ(api().fill(gpu.memory, 2, kBytes, two), kCuSuccess);
  api().record_event(event, two);
  CHECK_EQ(api().wait_event(one, event, 0), kCuSuccess);
  CHECK_EQ(launch(function, gpu.memory, one), kCuSuccess);
  CHECK_EQ(machine.findings(), "");
  CHECK_EQ(api().fill(gpu.memory, 3, kBytes, two), kCuSuccess);
  CHECK(says(machine.findings(), "a fill in stream"));
  CHECK(says(machine.findings(), "may still use: npu_touch"));
  api().synchronize(one);
  api().synchronize(two);
  unsigned char byte = 0;
  CHECK(machine.peek(&byte, gpu.memory, 1));
  CHECK_EQ(int{byte}, 3);
  for (const CuStream stream : {one, two}) api().destroy_stream(stream);
  api().destroy_event(event);
}

TEST(stand_in, sees_memory_freed_in_use) {
  const StandIn& machine = StandIn::get();
  Gpu gpu;
  const CuStream stream = gpu.stream();
  CuAddress used = 0;
  api().allocate(&used, kBytes);
  api().fill(used, 0, kBytes, stream);
  CHECK_EQ(api().free(used), kCuSuccess);
  CHECK(says(machine.findings(), "are freed while stream"));
  CHECK(says(machine.leaks(), "1000 bytes of GPU 0"));  // the other one
  CHECK_EQ(machine.count("live"), 1);
}

TEST(stand_in, has_bad_luck_on_request) {
  const StandIn& machine = StandIn::get();
  Gpu gpu;
  const CuStream stream = gpu.stream();
  CuAddress address = 0;
  machine.set("memory", 4096);
  CHECK_EQ(api().allocate(&address, 8192), kCuOutOfMemory);
  std::size_t free = 0, total = 0;
  api().memory_info(&free, &total);
  CHECK_EQ(total, 4096U);
  CHECK_EQ(free, 4096U - 1024U);
  const CuFunction function = kernel();
  machine.set("refuse_launch", 1);
  CHECK(launch(function, gpu.memory, stream) != kCuSuccess);
  CHECK_EQ(api().synchronize(stream), kCuSuccess);
  machine.set("fault_at_launch", 2);
  CHECK_EQ(launch(function, gpu.memory, stream), kCuSuccess);
  CHECK_EQ(api().synchronize(stream), kCuSuccess);
  CHECK_EQ(launch(function, gpu.memory, stream), kCuSuccess);
  CHECK(says(describe(api().synchronize(stream)), "CUDA_ERROR_ILLEGAL_ADDRESS"));
  CHECK(says(describe(api().allocate(&address, 8)), "CUDA_ERROR_ILLEGAL_ADDRESS"));
  machine.clear();
  machine.set("refuse_kernel", "touch");
  const Nvrtc::Result result = Nvrtc::open({})->compile("", "touch", {});
  CHECK(!result.compiled);
  CHECK(says(result.log, "touch(1): error"));
  CHECK_EQ(machine.findings(), "");
}

TEST(stand_in, keeps_gpus_apart) {
  const StandIn& machine = StandIn::get();
  Gpu gpu;
  Context second(1);
  const Context::Current current(second);
  const CuStream stream = gpu.stream();  // of the context that is current now
  CHECK(launch(kernel(), gpu.memory, stream) != kCuSuccess);
  CHECK(says(machine.findings(), "npu_touch on GPU 1 reaches memory of GPU 0"));
}
