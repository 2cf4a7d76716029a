// How many threads the library uses for its own work.
#pragma once

namespace npu {

inline constexpr int kMaxThreads = 1024;

// From set_num_threads, else from the environment variable NPU_NUM_THREADS, else CpuInfo::usable_cores.
// Throws Error when the variable holds something that is not a count.
int num_threads();

// Throws Error unless 1 <= count <= kMaxThreads.
void set_num_threads(int count);

}  // namespace npu
