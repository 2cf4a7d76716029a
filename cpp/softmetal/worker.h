// One host thread's part of the machine: it runs threadgroups one after the other, each thread of the
// threadgroup on a stack of its own once it has to wait for another.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "fiber.h"
#include "machine.h"

namespace softmetal {

class Checker;

class Worker {
 public:
  static Worker& of_this_thread();
  static const Runtime& runtime();

  // Before the threadgroups of a dispatch. `checker` is null in fast mode.
  void begin(const Launch& launch, Checker* checker);
  std::optional<Fault> run_threadgroup(Extent position);
  void end() { checker_ = nullptr; }

  // For the checker: who is running.
  const Thread& thread() const { return *current_; }
  const Group& group() const { return group_; }
  const Launch& launch() const { return *launch_; }
  std::size_t memory_used() const { return memory_used_; }
  [[noreturn]] void fail(Fault fault);  // abandons the threadgroup
  [[noreturn]] void fail(Fault::Kind kind, std::string text);

 private:
  Worker();
  static Thread* current_thread();
  static void wait(Thread* me, Site site);
  static void barrier(unsigned flags, Site site);
  static void simdgroup_barrier(unsigned flags, Site site);
  static void fail_from_kernel(const char* text, Site site);
  static void misaligned(void* address, unsigned long alignment, Site site);
  static void access(void* address, unsigned long bytes, unsigned kind, void* caller);
  static void fiber_main();

  void arrange(Extent threads);
  void assign_memory();
  void start_simdgroups();
  void arrive(Thread* me, Site site);
  void release(Simdgroup& simdgroup);
  void arrive_at_barrier(Thread* me, unsigned flags, Site site);
  void finish(Thread* me);
  Thread* next(const Thread* me);
  void switch_from(Thread* me);
  void run_on_this_stack(Thread* thread);
  [[noreturn]] void fail_stuck();

  Group group_{};
  Thread threads_[kMaxThreadsPerThreadgroup];
  Simdgroup simdgroups_[kMaxThreadsPerThreadgroup / kSimdWidth];
  unsigned simdgroup_count_ = 0;
  unsigned live_ = 0, at_barrier_ = 0;
  unsigned barrier_flags_ = 0;
  Site barrier_site_{};
  Extent arranged_{};
  Thread* current_ = nullptr;
  void* main_stack_pointer_ = nullptr;
  void* stack_ = nullptr;  // the one that runs now
  StackPool stacks_;
  std::unique_ptr<char[]> memory_;
  std::size_t memory_used_ = 0;
  const Launch* launch_ = nullptr;
  EntryPoint entry_ = nullptr;
  Checker* checker_ = nullptr;
  std::optional<Fault> fault_;
};

std::string text_of(Site site);
std::string text_of(Extent extent);

}  // namespace softmetal
