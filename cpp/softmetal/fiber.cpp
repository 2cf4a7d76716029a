#include "fiber.h"

#include <sys/mman.h>

#include <cstdint>
#include <new>

#if defined(__x86_64__)
// The saved registers, then the address to go on at. A jump instead of a return, since the processor predicts
// returns from calls that it has seen, and this is never one of them.
asm(R"(
.text
.globl softmetal_switch
.hidden softmetal_switch
.type softmetal_switch, @function
softmetal_switch:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  popq %rcx
  jmpq *%rcx
.size softmetal_switch, .-softmetal_switch
)");
#elif defined(__aarch64__)
asm(R"(
.text
.globl softmetal_switch
.hidden softmetal_switch
.type softmetal_switch, %function
softmetal_switch:
  sub sp, sp, #160
  stp x19, x20, [sp, #0]
  stp x21, x22, [sp, #16]
  stp x23, x24, [sp, #32]
  stp x25, x26, [sp, #48]
  stp x27, x28, [sp, #64]
  stp x29, x30, [sp, #80]
  stp d8, d9, [sp, #96]
  stp d10, d11, [sp, #112]
  stp d12, d13, [sp, #128]
  stp d14, d15, [sp, #144]
  mov x9, sp
  str x9, [x0]
  mov sp, x1
  ldp x19, x20, [sp, #0]
  ldp x21, x22, [sp, #16]
  ldp x23, x24, [sp, #32]
  ldp x25, x26, [sp, #48]
  ldp x27, x28, [sp, #64]
  ldp x29, x30, [sp, #80]
  ldp d8, d9, [sp, #96]
  ldp d10, d11, [sp, #112]
  ldp d12, d13, [sp, #128]
  ldp d14, d15, [sp, #144]
  add sp, sp, #160
  br x30
.size softmetal_switch, .-softmetal_switch
)");
#else
#error "no stack switch for this processor"
#endif

namespace softmetal {

namespace {
constexpr std::size_t kGuard = 4096;
constexpr std::size_t kStacksPerBlock = 32;
constexpr std::size_t kBlockBytes = kStacksPerBlock * (StackPool::kStackBytes + kGuard);
}  // namespace

void StackPool::grow() {
  void* block =
      mmap(nullptr, kBlockBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (block == MAP_FAILED) throw std::bad_alloc();
  blocks_.push_back(block);
  for (std::size_t i = kStacksPerBlock; i-- > 0;) {
    char* guard = static_cast<char*>(block) + i * (kStackBytes + kGuard);
    mprotect(guard, kGuard, PROT_NONE);
    free_.push_back(guard + kGuard);
  }
}

void* StackPool::take() {
  if (free_.empty()) grow();
  void* stack = free_.back();
  free_.pop_back();
  return stack;
}

StackPool::~StackPool() {
  for (void* block : blocks_) munmap(block, kBlockBytes);
}

void* StackPool::prepare(void* stack, void (*entry)()) {
  // Stacks start at different offsets in their pages: else the 32 lanes of a simdgroup fight for the same
  // lines of the first-level cache.
  auto number = reinterpret_cast<std::uintptr_t>(stack) / (kStackBytes + kGuard);
  auto top = reinterpret_cast<std::uintptr_t>(stack) + kStackBytes - (number % 31) * 192 - 64;
  top &= ~std::uintptr_t{15};
  auto* words = reinterpret_cast<void**>(top);
#if defined(__x86_64__)
  words -= 2;  // so that `entry` finds the stack as after a call
  words[0] = reinterpret_cast<void*>(entry);
  words[1] = nullptr;
  words -= 6;
  for (int i = 0; i < 6; ++i) words[i] = nullptr;
#else
  words -= 20;
  for (int i = 0; i < 20; ++i) words[i] = nullptr;
  words[11] = reinterpret_cast<void*>(entry);
#endif
  return words;
}

}  // namespace softmetal
