// Switching between stacks of one host thread.
#pragma once

#include <cstddef>
#include <vector>

namespace softmetal {

// Saves what a callee must keep, stores the stack pointer in *save and goes on where `load` was saved.
extern "C" void softmetal_switch(void** save, void* load);

// The stacks of one host thread, kept for reuse. A page that cannot be touched lies below each.
class StackPool {
 public:
  StackPool() = default;
  StackPool(const StackPool&) = delete;
  StackPool& operator=(const StackPool&) = delete;
  ~StackPool();

  void* take();
  void give(void* stack) { free_.push_back(stack); }

  // A stack pointer which, loaded, calls `entry` on the stack; it must not return.
  static void* prepare(void* stack, void (*entry)());
  static constexpr std::size_t kStackBytes = 128 * 1024;

 private:
  void grow();

  std::vector<void*> free_;
  std::vector<void*> blocks_;
};

}  // namespace softmetal
