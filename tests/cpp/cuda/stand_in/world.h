// A machine with GPUs that are not there: what the stand-in for NVIDIA's libraries keeps and judges. Kernels
// do not run; memory, order and lifetimes are as on a GPU. All of it is for callers that hold World::mutex.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

namespace stand_in {

using Address = std::uint64_t;

// CUresult
enum Result : int {
  kSuccess = 0,
  kInvalidValue = 1,
  kOutOfMemory = 2,
  kNoDevice = 100,
  kInvalidDevice = 101,
  kInvalidImage = 200,
  kInvalidContext = 201,
  kInvalidHandle = 400,
  kNotFound = 500,
  kNotReady = 600,
  kIllegalAddress = 700,
  kLaunchOutOfResources = 701,
};

// From NPU_STAND_IN_<NAME IN CAPITALS> when the library is loaded, and from stand_in_set(name, value).
struct Settings {
  long gpus = 1;
  long memory = 1L << 30;  // bytes of each GPU
  long driver = 13000;     // as cuDriverGetVersion says it
  long capability = 90;
  long init = 0;               // what cuInit returns
  long fault_at_launch = 0;    // counted from 1: that launch breaks the GPU; 0: none
  long refuse_launch = 0;      // counted from 1: that launch is refused
  long refuse_allocation = 0;  // counted from 1: there is no memory for that one
  bool blocking = false;       // CUDA_LAUNCH_BLOCKING, which the driver reads too
  long refuse_update = 0;      // counted from 1: that update of a graph is refused
  long compile_ms = 0;         // what a kernel takes to compile
  std::string refuse_kernel;   // kernels with this in their name do not compile
};

// What a launch does with memory is not known here.
enum class Use { kRead, kWrite, kUnknown };

struct Touch {
  Address address = 0;
  std::size_t bytes = 0;
  Use use = Use::kUnknown;
};

// A launch, a copy or a fill, in a stream or as the node of a graph.
struct Operation {
  std::string name;  // for findings
  bool launch = false;
  int gpu = 0;
  std::vector<Touch> touches;
  std::function<void()> work;  // on the true bytes, when its turn comes
};

using Clock = std::vector<std::uint64_t>;  // by stream: how many of its operations are known to be done

void join(Clock& into, const Clock& other);
std::uint64_t tick_of(const Clock& clock, int stream);

struct Access {
  Address begin = 0, end = 0;
  int stream = 0;
  std::uint64_t tick = 0;
  Use use = Use::kUnknown;
  std::string name;
};

struct Allocation {
  Address address = 0;
  std::size_t bytes = 0;
  int gpu = 0;
  bool host = false;  // pinned: its address is that of its bytes
  std::byte* shadow = nullptr;
  std::vector<Access> accesses = {};  // those that the host does not know to be done

  Address end() const { return address + bytes; }
};

struct Event {
  bool recorded = false;
  int stream = -1;
  std::uint64_t tick = 0;
  Clock clock;
};

struct Pending {
  std::uint64_t tick = 0;
  std::function<void()> work = {};
  bool launch = false;
  int waits_for = -1;  // a stream, until its tick
  std::uint64_t until = 0;
};

struct Stream {
  int id = 0, gpu = 0;
  Clock clock;
  std::deque<Pending> pending;
};

struct Counters {
  long allocations = 0, host_allocations = 0, frees = 0;
  long launches = 0, copies = 0, fills = 0, synchronizes = 0;
  long streams = 0, events = 0, modules = 0, compilations = 0;
  long graphs = 0, graph_updates = 0, graph_launches = 0;
  long peak_bytes = 0;
};

class World {
 public:
  static World& get();

  std::recursive_mutex mutex;
  Settings settings;
  Counters counters;
  Clock host_clock;  // what the host knows to be done
  std::string findings;
  int lost = kSuccess;  // what every call returns once a kernel has faulted

  void find(const std::string& text);  // says what is wrong
  bool set(const std::string& name, const std::string& value);

  // Memory.
  Result allocate(int gpu, std::size_t bytes, Address* address);
  Result allocate_host(std::size_t bytes, void** data);
  Result free(Address address, bool host);
  std::size_t used(int gpu) const;
  std::size_t live(bool host) const;
  // The allocation that holds all of it; null, and a finding, where none does.
  Allocation* check(const std::string& name, Address address, std::size_t bytes);
  Allocation* containing(Address address);
  std::byte* bytes_at(Address address);  // the true ones
  std::string leaks() const;

  // Order.
  Stream* create_stream(int gpu);
  Stream* stream(void* handle);
  void destroy_stream(Stream* stream);
  Event* create_event();
  Event* event(void* handle);
  void destroy_event(Event* event);
  Result enqueue(Stream& stream, Operation operation);
  void record(Event& event, Stream& stream);
  void wait(Stream& stream, const Event& event);
  void drain(int stream, std::uint64_t until);
  Result synchronize(Stream& stream);
  Result synchronize(Event& event);
  void drain_all();

 private:
  World();
  void judge(Allocation& allocation, const Touch& touch, const Stream& stream, const std::string& name);
  void forget_done(Allocation& allocation) const;
  const Allocation* freed_at(Address address) const;

  std::map<Address, Allocation> allocations_;
  std::map<Address, Allocation> freed_;
  Address next_ = 0, end_ = 0;
  std::vector<std::unique_ptr<Stream>> streams_;  // by id; null once destroyed
  std::vector<std::unique_ptr<Event>> events_;
  long launched_ = 0, asked_ = 0, tried_ = 0;  // launches that ran, allocations, launches made
  friend Result try_launch(World& world);
};

}  // namespace stand_in
