// Lets the host program end long work, as Ctrl-C does in Python.
#pragma once

namespace npu {

// `check` is called now and then by the thread that asked for the work; it throws to end it.
void set_interrupt_check(void (*check)());
void check_interrupt();

}  // namespace npu
