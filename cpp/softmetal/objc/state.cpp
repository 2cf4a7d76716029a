#include "objc/state.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <thread>

namespace softmetal {

namespace {

std::array<std::atomic<long>, kKinds> live{};
std::atomic<long> command_buffers_run{0}, dispatches_run{0};
std::atomic<std::size_t> bytes_allocated{0};

std::atomic<Mode>& current_mode() {
  static std::atomic<Mode> mode = [] {
    const char* asked = std::getenv("SOFTMETAL_MODE");
    return asked && std::strcmp(asked, "fast") == 0 ? Mode::fast : Mode::checked;
  }();
  return mode;
}

std::atomic<std::size_t>& current_page_size() {
  static std::atomic<std::size_t> bytes{static_cast<std::size_t>(sysconf(_SC_PAGESIZE))};
  return bytes;
}

std::mutex failure_mutex;
std::deque<std::string> asked_failures;

double now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

}  // namespace

Mode mode() { return current_mode(); }
void set_mode(Mode mode) { current_mode() = mode; }
std::size_t page_size() { return current_page_size(); }
void set_page_size(std::size_t bytes) { current_page_size() = bytes; }

void fail_next_command_buffer(std::string text) {
  std::lock_guard lock(failure_mutex);
  asked_failures.push_back(std::move(text));
}

void count(Kind kind, int change) { live[static_cast<std::size_t>(kind)] += change; }
long live_objects(Kind kind) { return live[static_cast<std::size_t>(kind)]; }
long live_objects() {
  long sum = 0;
  for (const auto& each : live) sum += each;
  return sum;
}
long completed_command_buffers() { return command_buffers_run; }
long completed_dispatches() { return dispatches_run; }

void refuse(const std::string& call, const std::string& why) {
  throw Refusal("Metal refuses " + call + ": " + why);
}

// --- buffers ---

std::shared_ptr<Buffer> Buffer::allocate(std::size_t length, const void* bytes) {
  std::size_t page = static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
  std::size_t mapped = (length + page - 1) / page * page;
  void* data = mmap(nullptr, mapped, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (data == MAP_FAILED) return nullptr;
  std::shared_ptr<Buffer> buffer(new Buffer);
  buffer->data_ = data;
  buffer->length_ = length;
  buffer->mapped_ = mapped;
  bytes_allocated += mapped;
  if (bytes) std::memcpy(data, bytes, length);
  if (mode() == Mode::checked) buffer->shadow_ = std::make_unique<Shadow>(data, length, bytes != nullptr);
  return buffer;
}

std::shared_ptr<Buffer> Buffer::wrap(void* pages, std::size_t length) {
  std::shared_ptr<Buffer> buffer(new Buffer);
  buffer->data_ = pages;
  buffer->length_ = length;
  if (mode() == Mode::checked) buffer->shadow_ = std::make_unique<Shadow>(pages, length, true);
  return buffer;
}

Buffer::~Buffer() {
  if (mapped_) munmap(data_, mapped_);
  bytes_allocated -= mapped_;
}

std::size_t Buffer::allocated() { return bytes_allocated; }

// --- command buffers ---

CommandBuffer::CommandBuffer(std::shared_ptr<Queue> queue, bool retained)
    : queue_(std::move(queue)), retained_(retained) {
  queue_->reserve();
}

CommandBuffer::~CommandBuffer() {
  if (status_ < completed) queue_->release();
}

void CommandBuffer::set_status(Status status) {
  std::lock_guard lock(mutex_);
  status_ = status;
  changed_.notify_all();
}

Failure CommandBuffer::failure() const {
  std::lock_guard lock(mutex_);
  return failure_;
}

std::shared_ptr<Pass> CommandBuffer::begin_pass(bool concurrent) {
  if (status_ >= committed) refuse("computeCommandEncoder", "the command buffer was committed");
  if (!passes_.empty() && !passes_.back()->ended)
    refuse("computeCommandEncoder", "another encoder of the command buffer has not ended");
  passes_.push_back(std::make_shared<Pass>());
  passes_.back()->concurrent = concurrent;
  return passes_.back();
}

void CommandBuffer::enqueue() {
  if (status_ != not_enqueued) refuse("enqueue", "the command buffer is enqueued already");
  set_status(enqueued);
  queue_->enqueue(shared_from_this());
}

void CommandBuffer::commit() {
  if (status_ >= committed) refuse("commit", "the command buffer was committed before");
  if (!passes_.empty() && !passes_.back()->ended) refuse("commit", "an encoder has not ended");
  bool waits = status_ == enqueued;
  set_status(committed);
  waits ? queue_->wake() : queue_->enqueue(shared_from_this());
}

void CommandBuffer::wait_until(Status least) {
  if (status_ < committed) refuse("waitUntilCompleted", "the command buffer was not committed");
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [&] { return status_ >= least; });
}

void CommandBuffer::execute() {
  set_status(scheduled);
  start_ = now();
  Failure failure;
  {
    std::lock_guard lock(failure_mutex);
    if (!asked_failures.empty()) {
      failure.text = asked_failures.front();
      asked_failures.pop_front();
    }
  }
  try {
    for (std::size_t i = 0; i < passes_.size() && failure.text.empty(); ++i)
      if (!run_pass(*passes_[i], failure)) break;
  } catch (const std::exception& error) {
    failure.text = error.what();
  }
  end_ = now();
  passes_.clear();  // what the commands kept alive goes before anybody who waits goes on
  ++command_buffers_run;
  queue_->release();
  std::lock_guard lock(mutex_);
  failure_ = failure;
  status_ = failure.text.empty() ? completed : failed;
  changed_.notify_all();
}

bool CommandBuffer::run_pass(const Pass& pass, Failure& failure) {
  Hazards hazards;
  for (const Command& command : pass.commands) {
    if (command.kind == Command::barrier) {
      if (command.resources.empty()) hazards.barrier();
      for (const auto& resource : command.resources)
        if (auto buffer = resource.lock(); buffer && buffer->shadow()) order_after_now(*buffer->shadow());
      continue;
    }
    if (!pass.concurrent) hazards.barrier();
    if (!run_dispatch(command, hazards, failure)) return false;
    ++dispatches_run;
  }
  return true;
}

bool CommandBuffer::run_dispatch(const Command& command, Hazards& hazards, Failure& failure) {
  const Function& function = command.pipeline->function;
  Launch launch;
  launch.function = &function;
  launch.grid = command.grid;
  launch.threads = command.threads;
  std::copy(std::begin(command.threadgroup_bytes), std::end(command.threadgroup_bytes),
            launch.threadgroup_bytes);
  std::vector<std::shared_ptr<Buffer>> used;
  for (const BoundArgument& argument : command.arguments) {
    Binding& binding = launch.buffers[argument.index];
    if (!argument.bytes.empty()) {
      binding = {const_cast<unsigned char*>(argument.bytes.data()), argument.bytes.size()};
      continue;
    }
    auto buffer = argument.seen.lock();
    if (!buffer) {
      failure = {"kernel " + function.name() + ": buffer " + std::to_string(argument.index) +
                     " was released before a command buffer without retained references ran",
                 9};
      return false;
    }
    binding = {static_cast<char*>(buffer->data()) + argument.offset, buffer->length() - argument.offset,
               function.mode() == Mode::checked ? buffer->shadow() : nullptr, argument.offset};
    used.push_back(std::move(buffer));
  }
  if (auto fault = run(launch, &hazards)) {
    failure = {std::string(name_of(fault->kind)) + ": " + fault->text,
               fault->kind == Fault::out_of_bounds ? 3 : 1};
    return false;
  }
  for (const auto& buffer : used)
    if (buffer.use_count() == 1) {
      failure = {"kernel " + function.name() + ": a buffer was released while it ran", 9};
      return false;
    }
  return true;
}

// --- queues ---

void Queue::reserve() {
  std::unique_lock lock(mutex_);
  const auto moving = [&] {
    return running_ || std::any_of(order_.begin(), order_.end(), [](const auto& commands) {
             return commands->status() >= CommandBuffer::committed;
           });
  };
  changed_.wait(lock, [&] { return alive_ < most_ || !moving(); });
  if (alive_ >= most_)
    refuse("commandBuffer",
           "all " + std::to_string(most_) + " command buffers of the queue exist and none was committed");
  ++alive_;
}

void Queue::release() {
  std::lock_guard lock(mutex_);
  --alive_;
  changed_.notify_all();
}

void Queue::enqueue(std::shared_ptr<CommandBuffer> commands) {
  std::lock_guard lock(mutex_);
  order_.push_back(std::move(commands));
  if (!started_) std::thread([self = shared_from_this()] { self->serve(); }).detach();
  started_ = true;
  changed_.notify_all();
}

void Queue::wake() {
  std::lock_guard lock(mutex_);
  changed_.notify_all();
}

void Queue::close() {
  std::lock_guard lock(mutex_);
  closed_ = true;
  changed_.notify_all();
}

// The first in order, once it is committed; null when the queue is closed and nothing more can come.
std::shared_ptr<CommandBuffer> Queue::next() {
  std::deque<std::shared_ptr<CommandBuffer>> never;  // freed when the lock is not held any more
  std::unique_lock lock(mutex_);
  auto ready = [&] { return !order_.empty() && order_.front()->status() >= CommandBuffer::committed; };
  running_ = false;
  changed_.notify_all();  // who waits for room may wait in vain
  changed_.wait(lock, [&] { return ready() || closed_; });
  if (!ready()) {
    never.swap(order_);
    return nullptr;
  }
  auto commands = std::move(order_.front());
  order_.pop_front();
  running_ = true;
  return commands;
}

void Queue::serve() {
  while (auto commands = next()) commands->execute();
}

}  // namespace softmetal
