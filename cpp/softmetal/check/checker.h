// What checked mode asks at every access. (The checks themselves follow.)
#pragma once

#include "worker.h"

namespace softmetal {

class Checker {
 public:
  void begin_threadgroup(Worker&) {}
  void threadgroup_barrier(unsigned) {}
  void simdgroup_barrier(unsigned, unsigned, unsigned) {}
  void access(Worker&, void*, unsigned long, unsigned, void*) {}
};

}  // namespace softmetal
