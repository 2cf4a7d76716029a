#include "gpu/ops/rows.h"

namespace npu::gpu {

namespace {

constexpr std::int64_t kRowsOfGroup = 4;  // when simdgroups have one each

void by_simdgroups(RowPlan& plan, std::int64_t rows) {
  plan.share = RowShare::kSimdgroup;
  plan.groups = ceil_div(rows, kRowsOfGroup);
  plan.threads = kSimd * static_cast<std::uint32_t>(kRowsOfGroup);
}

void by_threadgroups(RowPlan& plan, std::int64_t rows, std::int64_t threads, const Caps& caps) {
  threads = std::min<std::int64_t>((threads + kSimd - 1) / kSimd * kSimd, caps.threads_per_group);
  plan.share = RowShare::kThreadgroup;
  plan.groups = static_cast<std::uint32_t>(rows);
  plan.threads = static_cast<std::uint32_t>(threads);
}

}  // namespace

void RowPlan::apply(Dispatch& launch) const {
  launch.constant(kFcRowsShare, static_cast<std::int32_t>(share)).constant(kFcRowsVectors, vectors);
  launch.grid({groups, 1, 1}, {threads, 1, 1});
}

RowPlan plan_rows(std::int64_t rows, std::int64_t n, bool dense, bool columns, const Caps& caps) {
  constexpr std::int64_t kThreads = 256;
  constexpr std::int64_t kShort = 64, kSimdRow = 1024,
                         kSimdgroupsOfCore = 8;  // an estimate: docs/metal.md, Thresholds
  RowPlan plan;
  const bool fill = rows >= kSimdgroupsOfCore * caps.cores;  // simdgroups alone keep the device busy
  plan.in_registers = dense && n <= std::int64_t{kMostRowVectors} * kRowVector * caps.threads_per_group;
  if (plan.in_registers) {
    const std::int64_t vectors = ceil_div(n, kRowVector);
    if (vectors <= kSimd || (vectors <= kSimd * kMostRowVectors && fill)) {
      plan.vectors = static_cast<std::int32_t>(ceil_div(vectors, kSimd));
      by_simdgroups(plan, rows);
      return plan;
    }
    while (plan.vectors < kMostRowVectors && vectors > plan.vectors * kThreads) plan.vectors *= 2;
    by_threadgroups(plan, rows, ceil_div(vectors, plan.vectors), caps);
  } else if (n <= 8 || (columns && (n <= kShort || rows >= kThreads * caps.cores))) {
    plan.share = RowShare::kThread;
    plan.groups = ceil_div(rows, kShort);
    plan.threads = kShort;
  } else if (n <= kSimdRow) {
    by_simdgroups(plan, rows);
  } else {
    by_threadgroups(plan, rows, n > 4 * kSimdRow ? 4 * kThreads : kThreads, caps);
  }
  return plan;
}

}  // namespace npu::gpu
