#include "npu/cpu_info.h"
#include "npu/error.h"
#include "npu/threads.h"
#include "support/check.h"

TEST(threads, default_then_set) {
  CHECK_EQ(npu::num_threads(), npu::query_cpu_info().usable_cores);
  npu::set_num_threads(7);
  CHECK_EQ(npu::num_threads(), 7);
}

TEST(threads, out_of_range) {
  npu::set_num_threads(2);
  CHECK_THROWS(npu::set_num_threads(0), "[threads] the number of threads is out of range; got 0; expected");
  CHECK_THROWS(npu::set_num_threads(-1), "got -1");
  CHECK_THROWS(npu::set_num_threads(npu::kMaxThreads + 1), "from 1 to 1024");
  CHECK_EQ(npu::num_threads(), 2);
  npu::set_num_threads(npu::kMaxThreads);
  CHECK_EQ(npu::num_threads(), npu::kMaxThreads);
}

TEST(threads_environment, is_read) { CHECK_EQ(npu::num_threads(), 3); }

TEST(threads_bad_environment, is_refused_each_time_and_set_wins) {
  for (int i = 0; i < 2; ++i)
    CHECK_THROWS(npu::num_threads(), "NPU_NUM_THREADS is not a thread count; got \"3 of");
  npu::set_num_threads(4);
  CHECK_EQ(npu::num_threads(), 4);
}
