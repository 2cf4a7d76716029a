#include "npu/limits.h"

#include <algorithm>
#include <chrono>
#include <vector>

#include "core/machine/thread_pool.h"
#include "cpu/micro.h"
#include "npu/buffer.h"
#include "npu/threads.h"

namespace npu {

namespace {

using Clock = std::chrono::steady_clock;

template <class F>
double best_rate(double work, F&& f) {
  double best = 0;
  for (int round = 0; round < 5; ++round) {
    const auto start = Clock::now();
    f();
    best = std::max(best, work / std::chrono::duration<double>(Clock::now() - start).count());
  }
  return best;
}

}  // namespace

double measure_fma_gflops(int threads) {
  const auto pool = shared_pool(threads > 0 ? threads : num_threads());
  const cpu::Micro& m = cpu::micro();
  constexpr std::int64_t kRounds = 100'000;
  const double operations = m.burn(1) * static_cast<double>(kRounds) * pool->threads();
  return best_rate(operations,
                   [&] { pool->run(pool->threads(), [&](std::int64_t, int) { m.burn(kRounds); }); }) /
         1e9;
}

MachineLimits measure_limits(int threads) {
  MachineLimits limits;
  limits.threads = threads > 0 ? threads : num_threads();
  const cpu::Micro& m = cpu::micro();
  ThreadPool pool(limits.threads);
  constexpr std::int64_t kRounds = 4'000'000;
  double operations = m.burn(1) * static_cast<double>(kRounds) * limits.threads;
  limits.fma_gflops =
      best_rate(operations, [&] { pool.run(limits.threads, [&](std::int64_t, int) { m.burn(kRounds); }); }) /
      1e9;

  constexpr std::int64_t kFloats = std::int64_t{64} << 20;  // 256 MiB
  const Buffer memory = Buffer::allocate(DType::kFloat32, {kFloats}, true);
  const float* const data = static_cast<const float*>(memory.data());
  std::vector<double> sums(static_cast<std::size_t>(limits.threads));
  limits.read_gbytes = best_rate(static_cast<double>(memory.bytes()),
                                 [&] {
                                   pool.run(limits.threads, [&](std::int64_t piece, int) {
                                     const Range range = split(kFloats, limits.threads, piece);
                                     sums[static_cast<std::size_t>(piece)] =
                                         m.sum(data + range.begin, range.end - range.begin);
                                   });
                                 }) /
                       1e9;
  return limits;
}

}  // namespace npu
