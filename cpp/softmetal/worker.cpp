#include "worker.h"

#include <algorithm>
#include <cstring>

#include "check/checker.h"

namespace softmetal {

namespace {

constexpr std::size_t kGuardBytes = 64;
constexpr unsigned char kUnwritten = 0xfb;  // as a float, a half or an index: nothing a kernel would want

thread_local Worker* this_worker __attribute__((tls_model("initial-exec"))) = nullptr;

bool same_site(Site a, Site b) {
  return a.line == b.line && a.column == b.column && (a.file == b.file || std::strcmp(a.file, b.file) == 0);
}

}  // namespace

std::string text_of(Site site) {
  return std::string(site.file) + ":" + std::to_string(site.line) + ":" + std::to_string(site.column);
}

std::string text_of(Extent e) {
  return "(" + std::to_string(e.x) + ", " + std::to_string(e.y) + ", " + std::to_string(e.z) + ")";
}

Worker::Worker() = default;

Worker& Worker::of_this_thread() {
  static thread_local std::unique_ptr<Worker> worker;
  if (!worker) {
    worker.reset(new Worker);
    this_worker = worker.get();
  }
  return *worker;
}

const Runtime& Worker::runtime() {
  static const Runtime table{current_thread,   wait,       barrier, simdgroup_barrier,
                             fail_from_kernel, misaligned, access};
  return table;
}

// --- a dispatch, and its threadgroups ---

void Worker::begin(const Launch& launch, Checker* checker) {
  launch_ = &launch;
  entry_ = launch.function->entry().entry;
  for (unsigned i = 0; i < kMaxBuffers; ++i) group_.buffers[i] = launch.buffers[i].data;
  Extent t = launch.threads, g = launch.grid;
  group_.nominal_threads = t;
  group_.grid = g;
  group_.groups = {(g.x + t.x - 1) / t.x, (g.y + t.y - 1) / t.y, (g.z + t.z - 1) / t.z};
  assign_memory();
  launch.function->set_constants();
  checker_ = checker;  // from here on: setting the constants is no access of a thread
}

// The kernel's own variables first, then what the encoder gave sizes for, with guards between.
void Worker::assign_memory() {
  constexpr std::size_t kMost = kTensorMemory + (64 + kMaxThreadgroupArguments) * (kGuardBytes + 16);
  // What kernels for tensor cores are given starts at multiples of this.
  const std::size_t aligned = has_tensor_cores() ? 1024 : 128;
  if (!memory_) memory_ = std::make_unique<char[]>(kMost + 2 * aligned);
  auto base = (reinterpret_cast<std::uintptr_t>(memory_.get()) + aligned - 1) & ~(aligned - 1);
  group_.memory = reinterpret_cast<char*>(base);
  std::size_t used = launch_->function->layout().end + kGuardBytes;
  if (has_tensor_cores()) used = (used + aligned - 1) & ~(aligned - 1);
  for (unsigned i = 0; i < kMaxThreadgroupArguments; ++i) {
    std::size_t bytes = launch_->threadgroup_bytes[i];
    group_.arguments[i] = bytes ? group_.memory + used : nullptr;
    if (bytes) used += (bytes + 15) / 16 * 16 + kGuardBytes;
  }
  memory_used_ = used;
}

void Worker::arrange(Extent threads) {
  group_.threads = threads;
  if (std::memcmp(&threads, &arranged_, sizeof threads) == 0) return;
  arranged_ = threads;
  group_.thread_count = threads.x * threads.y * threads.z;
  simdgroup_count_ = (group_.thread_count + kSimdWidth - 1) / kSimdWidth;
  unsigned index = 0;
  for (unsigned z = 0; z < threads.z; ++z)
    for (unsigned y = 0; y < threads.y; ++y)
      for (unsigned x = 0; x < threads.x; ++x, ++index)
        threads_[index] = {
            &simdgroups_[index / kSimdWidth], index % kSimdWidth, index, {x, y, z}, nullptr, nullptr};
}

void Worker::start_simdgroups() {
  for (unsigned i = 0; i < simdgroup_count_; ++i) {
    Simdgroup& s = simdgroups_[i];
    s.live_count = std::min(kSimdWidth, group_.thread_count - i * kSimdWidth);
    s.live = s.ready = s.live_count == kSimdWidth ? ~0u : (1u << s.live_count) - 1;
    s.arrived = s.epoch = 0;
    s.index = i;
  }
  live_ = group_.thread_count;
  at_barrier_ = 0;
}

std::optional<Fault> Worker::run_threadgroup(Extent position) {
  group_.position = position;
  Extent n = group_.nominal_threads, g = group_.grid;
  arrange({std::min(n.x, g.x - position.x * n.x), std::min(n.y, g.y - position.y * n.y),
           std::min(n.z, g.z - position.z * n.z)});
  start_simdgroups();
  std::memset(group_.memory, kUnwritten, memory_used_);
  if (checker_) checker_->begin_threadgroup(*this);

  fault_.reset();
  current_ = &threads_[0];
  stack_ = stacks_.take();
  softmetal_switch(&main_stack_pointer_, StackPool::prepare(stack_, fiber_main));
  stacks_.give(stack_);
  if (fault_)
    for (unsigned i = 0; i < group_.thread_count; ++i) {
      if (threads_[i].stack && threads_[i].stack != stack_) stacks_.give(threads_[i].stack);
      threads_[i].stack = nullptr;
    }
  return std::move(fault_);
}

// --- threads ---

// A stack runs one thread after the other, until one of them has to wait.
void Worker::fiber_main() {
  Worker& worker = *this_worker;
  for (;;) {
    Thread* thread = worker.current_;
    thread->stack = worker.stack_;
    worker.entry_(worker.group_, *thread);
    worker.finish(thread);
  }
}

// Returns if another thread is to begin on this stack.
void Worker::finish(Thread* me) {
  Simdgroup& s = *me->simdgroup;
  s.live &= ~(1u << me->lane);
  s.ready &= ~(1u << me->lane);
  --s.live_count;
  --live_;
  me->stack = nullptr;
  if (s.arrived && s.arrived == s.live_count) release(s);  // the others go on without it
  void* unused;
  if (live_ == 0) softmetal_switch(&unused, main_stack_pointer_);
  current_ = next(me);
  if (!current_->stack) return;
  stacks_.give(stack_);
  stack_ = current_->stack;
  softmetal_switch(&unused, current_->stack_pointer);
}

// The next thread that can run: of the same simdgroup if there is one, since what it waits for comes soonest.
Thread* Worker::next(const Thread* me) {
  unsigned own = me->simdgroup->index;
  for (unsigned i = 0; i <= simdgroup_count_; ++i) {
    unsigned at = own + i < simdgroup_count_ ? own + i : own + i - simdgroup_count_;
    unsigned ready = simdgroups_[at].ready;
    if (!ready) continue;
    unsigned later = i == 0 ? ready & ~((2u << me->lane) - 1) : ready;
    return &threads_[at * kSimdWidth + static_cast<unsigned>(__builtin_ctz(later ? later : ready))];
  }
  fail_stuck();
}

void Worker::switch_from(Thread* me) {
  Thread* to = next(me);
  current_ = to;
  if (!to->stack) {
    to->stack = stacks_.take();
    to->stack_pointer = StackPool::prepare(to->stack, fiber_main);
  }
  stack_ = to->stack;
  softmetal_switch(&me->stack_pointer, to->stack_pointer);
}

// --- waiting ---

Thread* Worker::current_thread() { return this_worker->current_; }

void Worker::wait(Thread* me, Site site) { this_worker->arrive(me, site); }

void Worker::arrive(Thread* me, Site site) {
  Simdgroup& s = *me->simdgroup;
  if (s.arrived == 0)
    s.site = site;
  else if (!same_site(s.site, site))
    fail(Fault::divergence, "simdgroup operations in divergent flow: some lanes of simdgroup " +
                                std::to_string(s.index) + " are at " + text_of(s.site) + ", others at " +
                                text_of(site));
  s.ready &= ~(1u << me->lane);
  if (++s.arrived == s.live_count) return release(s);
  switch_from(me);
}

void Worker::release(Simdgroup& s) {
  s.slot().active = s.live;
  s.slot().combined = false;
  s.arrived = 0;
  s.ready = s.live;
  ++s.epoch;
}

// The last lane to arrive goes on first: what the others still do was before the barrier.
void Worker::simdgroup_barrier(unsigned flags, Site site) {
  Worker& worker = *this_worker;
  Thread* me = worker.current_;
  bool last = me->simdgroup->arrived + 1 == me->simdgroup->live_count;
  if (last && worker.checker_) worker.checker_->simdgroup_barrier(me->simdgroup->index, flags);
  worker.arrive(me, site);
}

void Worker::barrier(unsigned flags, Site site) {
  this_worker->arrive_at_barrier(this_worker->current_, flags, site);
}

void Worker::arrive_at_barrier(Thread* me, unsigned flags, Site site) {
  if (at_barrier_ == 0) {
    barrier_site_ = site;
    barrier_flags_ = flags;
  } else if (!same_site(barrier_site_, site)) {
    fail(Fault::divergence, "threads of one threadgroup wait at different barriers: " +
                                text_of(barrier_site_) + " and " + text_of(site));
  }
  me->simdgroup->ready &= ~(1u << me->lane);
  if (++at_barrier_ < group_.thread_count) return switch_from(me);
  at_barrier_ = 0;
  for (unsigned i = 0; i < simdgroup_count_; ++i) simdgroups_[i].ready = simdgroups_[i].live;
  if (checker_) checker_->threadgroup_barrier(flags & barrier_flags_);
}

// --- failing ---

void Worker::fail_from_kernel(const char* text, Site site) {
  this_worker->fail(Fault::divergence, std::string(text) + ", at " + text_of(site));
}

void Worker::fail(Fault::Kind kind, std::string text) {
  Fault fault;
  fault.kind = kind;
  fault.text = std::move(text);
  fail(std::move(fault));
}

void Worker::fail(Fault fault) {
  fault.kernel = launch_->function->name();
  fault.threadgroup = group_.position;
  fault.thread = current_->position;
  fault.text = "kernel " + fault.kernel + ", threadgroup " + text_of(fault.threadgroup) + ", thread " +
               text_of(fault.thread) + ": " + fault.text;
  fault_ = std::move(fault);
  void* unused;
  softmetal_switch(&unused, main_stack_pointer_);
  __builtin_unreachable();
}

void Worker::fail_stuck() {
  std::string text;
  for (unsigned i = 0; i < simdgroup_count_ && text.empty(); ++i)
    if (simdgroups_[i].arrived)
      text = "a simdgroup operation in divergent flow: " + std::to_string(simdgroups_[i].arrived) + " of " +
             std::to_string(simdgroups_[i].live_count) + " lanes of simdgroup " + std::to_string(i) +
             " wait at " + text_of(simdgroups_[i].site) + " for the others";
  if (at_barrier_) {
    text += text.empty() ? "a barrier in divergent flow: " : ", which wait at a barrier: ";
    text += std::to_string(at_barrier_) + " of " + std::to_string(group_.thread_count) + " threads are at " +
            text_of(barrier_site_);
    if (live_ < group_.thread_count)
      text += ", " + std::to_string(group_.thread_count - live_) + " have ended";
  }
  fail(Fault::divergence, text);
}

void Worker::misaligned(void* address, unsigned long alignment, Site site) {
  if (!this_worker || !this_worker->checker_) return;
  this_worker->checker_->fail_misaligned(*this_worker, address, alignment, site);
}

void Worker::access(void* address, unsigned long bytes, unsigned kind, void* caller) {
  if (!this_worker) return;  // a kernel that is only asked for its layout
  Worker& worker = *this_worker;
  if (worker.checker_) worker.checker_->access(worker, address, bytes, kind, caller);
}

}  // namespace softmetal
