#include "core/machine/separation.h"

#if defined(__linux__)

#include <pthread.h>
#include <sched.h>

#include <cstddef>

#include "core/machine/cpu_query.h"

namespace npu {

namespace {

constexpr int kJobsUntilMove = 8;  // a caller that keeps changing its CPU is not followed everywhere

// A worker that cannot be moved stays where it is, and is only slower.
void move_off(std::thread& worker, const std::vector<int>& cpus, int avoided) {
  const int capacity = cpus.back() + 1;
  cpu_set_t* const set = CPU_ALLOC(capacity);
  if (set == nullptr) return;
  const std::size_t size = CPU_ALLOC_SIZE(capacity);
  CPU_ZERO_S(size, set);
  for (const int cpu : cpus) {
    if (cpu != avoided) CPU_SET_S(cpu, size, set);
  }
  pthread_setaffinity_np(worker.native_handle(), size, set);
  CPU_FREE(set);
}

}  // namespace

Separation::Separation(int threads) : cpus_(affinity_cpus()) {
  if (static_cast<int>(cpus_.size()) < threads) cpus_.clear();
}

void Separation::lend(std::vector<std::thread>& workers) {
  if (cpus_.empty() || avoided_ == kNone) return;
  for (std::thread& worker : workers) move_off(worker, cpus_, kNone);
  avoided_ = kNone;
}

void Separation::keep(std::vector<std::thread>& workers) {
  if (cpus_.empty()) return;
  const int cpu = sched_getcpu();
  if (cpu == avoided_) {
    jobs_elsewhere_ = 0;
    return;
  }
  if (avoided_ != kNone && ++jobs_elsewhere_ < kJobsUntilMove) return;
  for (std::thread& worker : workers) move_off(worker, cpus_, cpu);
  avoided_ = cpu;
  jobs_elsewhere_ = 0;
}

}  // namespace npu

#else

namespace npu {

Separation::Separation(int) {}

void Separation::keep(std::vector<std::thread>&) {}

void Separation::lend(std::vector<std::thread>&) {}

}  // namespace npu

#endif
