// Memory of a GPU: what is written is there for whoever comes later, without a wait for each tensor.
#include <cstring>
#include <numeric>
#include <vector>

#include "core/base/memory.h"
#include "cuda/device/cuda_device.h"
#include "cuda/on_stand_in/machine.h"
#include "npu/error.h"

using namespace npu;
using npu::test::says;
using npu::test::StandIn;

namespace {

std::shared_ptr<gpu::Driver> open() { return cuda::open_driver(0, {}); }

std::vector<std::byte> counting(std::size_t bytes) {
  std::vector<std::byte> data(bytes);
  for (std::size_t i = 0; i < bytes; ++i) data[i] = static_cast<std::byte>(i * 0x9e3779b97f4a7c15U >> 56);
  return data;
}

void run_nothing(gpu::Driver& driver) { driver.run({"nothing", {}, {}, {}, {}}, {}); }

}  // namespace

TEST(cuda_memory, moves_bytes_of_every_size) {
  const StandIn& machine = StandIn::get();
  const auto driver = open();
  for (const std::size_t bytes :
       {std::size_t{1}, std::size_t{1000}, std::size_t{1} << 20, (std::size_t{9} << 20) + 3}) {
    const auto memory = driver->allocate(bytes, false);
    const auto other = driver->allocate(bytes, false);
    auto data = counting(bytes);
    memory->write(memory->data(), data.data(), bytes);
    const auto expected = data;
    std::fill(data.begin(), data.end(), std::byte{1});  // as a caller may
    other->copy(other->data(), *memory, memory->data(), bytes);
    std::vector<std::byte> read(bytes);
    other->read(read.data(), other->data(), bytes);
    CHECK(read == expected);
  }
  const auto zeros = driver->allocate(100, true);
  std::vector<std::byte> read(100);
  zeros->read(read.data(), zeros->data(), 100);
  CHECK(read == std::vector<std::byte>(100));
  CHECK_EQ(machine.findings(), "");
}

TEST(cuda_memory, waits_once_for_many_tensors) {
  const StandIn& machine = StandIn::get();
  const auto driver = open();
  constexpr std::size_t kTensors = 10, kBytes = 5000;
  std::vector<std::shared_ptr<Memory>> tensors;
  for (std::size_t i = 0; i < kTensors; ++i) tensors.push_back(driver->allocate(kBytes, false));
  const auto data = counting(kBytes);
  const auto round = [&] {
    for (const auto& tensor : tensors) tensor->write(tensor->data(), data.data(), kBytes);
    run_nothing(*driver);
    std::vector<std::vector<std::byte>> outputs(kTensors, std::vector<std::byte>(kBytes));
    std::vector<MemoryRead> reads;
    for (std::size_t i = 0; i < kTensors; ++i)
      reads.push_back({outputs[i].data(), tensors[i]->data(), kBytes});
    tensors[0]->read_all(reads);
    for (const auto& output : outputs) CHECK(output == data);
  };
  round();
  const long waits = machine.count("synchronizes"), pinned = machine.count("host_allocations");
  const long allocations = machine.count("allocations"), streams = machine.count("streams");
  for (int i = 0; i < 100; ++i) round();
  CHECK_EQ(machine.count("synchronizes") - waits, 2 * 100);  // for the run, and for all outputs
  CHECK_EQ(machine.count("host_allocations"), pinned);
  CHECK_EQ(machine.count("allocations"), allocations);
  CHECK_EQ(machine.count("streams"), streams);
  CHECK_EQ(machine.findings(), "");
}

TEST(cuda_memory, stages_what_is_large_in_bounded_memory) {
  const StandIn& machine = StandIn::get();
  const auto driver = open();
  constexpr std::size_t kBytes = std::size_t{40} << 20;
  const auto memory = driver->allocate(kBytes, false);
  const auto data = counting(kBytes);
  const long pinned = machine.count("live_host");
  memory->write(memory->data(), data.data(), kBytes);
  std::vector<std::byte> read(kBytes);
  memory->read(read.data(), memory->data(), kBytes);
  CHECK(read == data);
  CHECK(machine.count("live_host") - pinned <= 6);
  CHECK_EQ(machine.findings(), "");
}

TEST(cuda_memory, is_freed_after_what_is_queued) {
  const StandIn& machine = StandIn::get();
  const auto driver = open();
  const auto data = counting(1000);
  {
    const auto memory = driver->allocate(1000, true);
    memory->write(memory->data(), data.data(), 1000);
  }
  CHECK_EQ(machine.findings(), "");
}

TEST(cuda_memory, says_what_was_wanted_when_it_runs_out) {
  const StandIn& machine = StandIn::get();
  const auto driver = open();
  machine.set("memory", 100L << 20);
  const auto some = driver->allocate(std::size_t{30} << 20, true);
  const long live = machine.count("live");
  try {
    driver->allocate(std::size_t{80} << 20, true);
    CHECK(false);
  } catch (const Error& error) {
    const std::string text = error.what();
    CHECK(error.kind() == ErrorKind::kUnavailable);
    CHECK(says(text,
               "not enough memory on the GPU Stand-in 0; got a request for 80.0 MiB; buffers of this process "
               "have 30.0 MiB, and 70.0 MiB of 100 MiB are free"));
  }
  CHECK_EQ(machine.count("live"), live);
  CHECK(driver->allocate(std::size_t{60} << 20, true) != nullptr);  // it goes on
  CHECK_EQ(machine.findings(), "");
}

TEST(cuda_memory, leaves_nothing_behind) {
  const StandIn& machine = StandIn::get();
  {
    const auto driver = open();
    const auto memory = driver->allocate(1000, true);
    const auto visible = driver->allocate_visible(64);
    const auto data = counting(1000);
    memory->write(memory->data(), data.data(), 1000);
    std::vector<std::byte> read(1000);
    memory->read(read.data(), memory->data(), 1000);
  }
  CHECK_EQ(machine.leaks(), "");
  CHECK_EQ(machine.findings(), "");
}

TEST(cuda_memory, is_lost_with_the_gpu) {
  const StandIn& machine = StandIn::get();
  {
    const auto driver = open();
    const auto memory = driver->allocate(1000, true);
    const auto data = counting(1000);
    std::vector<std::byte> read(1000);
    memory->read(read.data(), memory->data(), 1000);
    machine.set("lost", 700);
    CHECK_THROWS(memory->write(memory->data(), data.data(), 1000), "CUDA_ERROR_ILLEGAL_ADDRESS");
    CHECK_THROWS(driver->allocate(8, true), "cannot be used any more in this process");
    CHECK_THROWS(memory->read(read.data(), memory->data(), 1000), "starting the process again");
  }
  CHECK_EQ(machine.leaks(), "");
  machine.clear();
}
