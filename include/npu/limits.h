// The peaks of this machine, measured now: what timings are compared with.
#pragma once

namespace npu {

struct MachineLimits {
  int threads = 0;
  double fma_gflops = 0;   // float32 multiply-adds in registers
  double read_gbytes = 0;  // per second, from memory that no cache holds
};

// Takes about half a second; 0 threads: num_threads().
MachineLimits measure_limits(int threads = 0);

// The first figure alone, from a few milliseconds: to see whether the machine's speed changes while timings
// run.
double measure_fma_gflops(int threads = 0);

}  // namespace npu
