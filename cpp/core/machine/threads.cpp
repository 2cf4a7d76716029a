#include "npu/threads.h"

#include <atomic>
#include <cstdlib>
#include <string>

#include "core/base/text.h"
#include "npu/cpu_info.h"
#include "npu/error.h"

namespace npu {

namespace {

std::atomic<int> g_num_threads{0};  // 0: not decided yet

const std::string& count_rule() {
  static const std::string rule = "an integer from 1 to " + std::to_string(kMaxThreads);
  return rule;
}

int initial_num_threads() {
  const char* const text = std::getenv("NPU_NUM_THREADS");
  if (text == nullptr || trim(text).empty()) return query_cpu_info().usable_cores;
  const auto count = parse_integer(text);
  if (!count || *count < 1 || *count > kMaxThreads) {
    throw Error(ErrorKind::kInvalidValue,
                {.area = "threads",
                 .what = "the environment variable NPU_NUM_THREADS is not a thread count",
                 .got = quoted(text),
                 .expected = count_rule(),
                 .action = "unsetting it to use all cores"});
  }
  return static_cast<int>(*count);
}

}  // namespace

int num_threads() {
  const int decided = g_num_threads.load();
  if (decided != 0) return decided;
  const int initial = initial_num_threads();
  int expected = 0;
  // set_num_threads may have been called meanwhile; that wins.
  return g_num_threads.compare_exchange_strong(expected, initial) ? initial : expected;
}

void set_num_threads(int count) {
  if (count < 1 || count > kMaxThreads) {
    throw Error(ErrorKind::kInvalidValue, {.area = "threads",
                                           .what = "the number of threads is out of range",
                                           .got = std::to_string(count),
                                           .expected = count_rule(),
                                           .action = "npu_runtime.cpu_info().usable_cores"});
  }
  g_num_threads.store(count);
}

}  // namespace npu
