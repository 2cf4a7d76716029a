// What stands behind the Objective-C objects, in C++: they hold it, and command buffers share it.
#pragma once

#include <atomic>
#include <condition_variable>
#include <deque>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "check/hazards.h"
#include "check/shadow.h"
#include "control.h"
#include "machine.h"

namespace softmetal {

void count(Kind kind, int change);
[[noreturn]] void refuse(const std::string& call, const std::string& why);

class Buffer {
 public:
  // Null where there is not so much memory. `bytes` are copied if given; pages of others' stay theirs.
  static std::shared_ptr<Buffer> allocate(std::size_t length, const void* bytes);
  static std::shared_ptr<Buffer> wrap(void* pages, std::size_t length);
  ~Buffer();

  void* data() const { return data_; }
  std::size_t length() const { return length_; }
  Shadow* shadow() const { return shadow_.get(); }
  static std::size_t allocated();  // bytes of all of them

 private:
  Buffer() = default;
  void* data_ = nullptr;
  std::size_t length_ = 0, mapped_ = 0;
  std::unique_ptr<Shadow> shadow_;
};

struct Pipeline {
  Pipeline(Function f, std::size_t threads) : function(std::move(f)), max_threads(threads) {}
  Function function;
  std::size_t max_threads;
};

// One argument as a dispatch finds it. Without retained references only `seen` knows of the buffer.
struct BoundArgument {
  unsigned index = 0;
  std::shared_ptr<Buffer> kept;
  std::weak_ptr<Buffer> seen;
  std::size_t offset = 0;
  std::vector<unsigned char> bytes;  // of setBytes
  bool bound = false;
};

struct Command {
  enum Kind { dispatch, barrier } kind = dispatch;
  std::shared_ptr<const Pipeline> pipeline;
  std::vector<BoundArgument> arguments;
  std::size_t threadgroup_bytes[kMaxThreadgroupArguments] = {};
  Extent grid{}, threads{};
  std::vector<std::weak_ptr<Buffer>> resources;  // of a barrier; none: of all
};

struct Pass {
  bool concurrent = false;
  bool ended = false;
  std::vector<Command> commands;
};

struct Failure {
  std::string text;
  int code = 1;  // an MTLCommandBufferError
};

class Queue;

class CommandBuffer : public std::enable_shared_from_this<CommandBuffer> {
 public:
  enum Status { not_enqueued, enqueued, committed, scheduled, completed, failed };

  CommandBuffer(std::shared_ptr<Queue> queue, bool retained);
  ~CommandBuffer();
  std::shared_ptr<Pass> begin_pass(bool concurrent);
  void enqueue();
  void commit();
  void wait_until(Status least);
  void execute();  // on the queue's thread

  Status status() const { return status_; }
  bool retained() const { return retained_; }
  Failure failure() const;
  double start_time() const { return start_; }
  double end_time() const { return end_; }

 private:
  friend class Queue;
  void set_status(Status status);
  bool run_pass(const Pass& pass, Failure& failure);
  bool run_dispatch(const Command& command, Hazards& hazards, Failure& failure);

  std::shared_ptr<Queue> queue_;
  const bool retained_;
  std::vector<std::shared_ptr<Pass>> passes_;
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::atomic<Status> status_{not_enqueued};
  Failure failure_;
  double start_ = 0, end_ = 0;
};

// Command buffers in the order in which they were enqueued, and the thread that runs them.
class Queue : public std::enable_shared_from_this<Queue> {
 public:
  explicit Queue(std::size_t most) : most_(most) {}
  void close();

  void reserve();  // room for one more command buffer; waits for it
  void release();
  void enqueue(std::shared_ptr<CommandBuffer> commands);
  void wake();

 private:
  void serve();
  std::shared_ptr<CommandBuffer> next();

  const std::size_t most_;
  std::size_t alive_ = 0;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<std::shared_ptr<CommandBuffer>> order_;
  bool started_ = false, closed_ = false, running_ = false;
};

}  // namespace softmetal
