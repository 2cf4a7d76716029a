// What a GPU's programming interface does for us. A driver decides nothing: it compiles what it is given and
// encodes launches as the schedule has them.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "core/base/memory.h"
#include "gpu/device/caps.h"
#include "gpu/plan/dispatch.h"

namespace npu::gpu {

// What tells one compiled kernel from another.
struct PipelineKey {
  std::string library, prologue, function;
  std::vector<FunctionConstant> constants;
  int threads = 0;       // of a threadgroup, at most
  bool as_line = false;  // the grid is longer than the device allows, and launched along x alone
  bool operator==(const PipelineKey&) const = default;
};

class Pipeline {
 public:
  virtual ~Pipeline() = default;
};

struct Binding {
  int slot = 0;
  int resource = 0;         // index of an Address
  std::int64_t offset = 0;  // in bytes, from there
};

struct Launch {
  const Dispatch* dispatch = nullptr;
  int step = 0;               // of the plan
  int pipeline = 0;           // of the schedule
  bool barrier = false;       // what came before must be done
  std::vector<int> after;     // or, where launches run side by side: these must be
  bool copies_state = false;  // left out where the program's input is donated or held: plans count on it
  std::vector<Binding> bindings;
  std::string label;  // for people: kernel and op
};

struct Work {
  const std::string& label;
  std::span<const Launch> launches;
  std::span<const std::shared_ptr<const Pipeline>> pipelines;
};

struct Submission : Work {
  std::span<const Address> resources;  // all in memory of this driver
  std::span<const bool> skipped;       // by launch; may be empty
};

struct GpuTime {
  std::int64_t start = 0, end = 0;  // nanoseconds of the GPU's clock
};

// The launches of a plan, to be run many times. One runner has it, and calls it from one thread at a time.
class Recording {
 public:
  virtual ~Recording() = default;
  // As Driver::run, of all launches.
  virtual void run(std::span<const Address> resources, std::span<const bool> skipped,
                   std::span<GpuTime> times) = 0;
  // Returns when runs are as quick as they will get; what makes them so is otherwise done on the side.
  virtual void settle() {}
};

class Driver {
 public:
  virtual ~Driver() = default;
  virtual const Caps& caps() const = 0;

  // Not initialised unless `zero`. Throws when there is not enough.
  virtual std::shared_ptr<Memory> allocate(std::size_t bytes, bool zero) = 0;
  // Zeros, for the little that kernels seldom write and the host often reads: always where the host reaches
  // it.
  virtual std::shared_ptr<Memory> allocate_visible(std::size_t bytes) { return allocate(bytes, true); }
  // The same pages; null when that cannot be.
  virtual std::shared_ptr<Memory> share(const std::shared_ptr<Memory>& file) = 0;

  // Memory that others allocated, as DeviceBackend has it.
  virtual DlDevice dl_device() const { return {}; }
  virtual std::uintptr_t lender_stream() { return 0; }
  virtual std::shared_ptr<Memory> borrow(void*, std::size_t /*bytes*/, std::shared_ptr<void> /*owner*/) {
    return nullptr;
  }

  // Compiled in parallel, and kept; throws with the compiler's text.
  virtual std::vector<std::shared_ptr<const Pipeline>> compile(std::span<const PipelineKey> keys) = 0;

  // Returns when all is done. `times` is empty, or has an element for each launch, which then run one by one.
  virtual void run(const Submission& submission, std::span<GpuTime> times) = 0;

  // What `work` refers to, and the driver, outlive the recording. This one gives all of it to run() each
  // time.
  virtual std::unique_ptr<Recording> record(const Work& work);
};

}  // namespace npu::gpu
