#include "core/base/interrupt.h"

#include <atomic>

namespace npu {

namespace {
std::atomic<void (*)()> interrupt_check{nullptr};
}  // namespace

void set_interrupt_check(void (*check)()) { interrupt_check = check; }

void check_interrupt() {
  if (void (*const check)() = interrupt_check) check();
}

}  // namespace npu
