// How rows are shared by threads, for metal/rows.h.
#pragma once

#include "gpu/ops/launch.h"

namespace npu::gpu {

struct RowPlan {
  RowShare share = RowShare::kSimdgroup;
  bool in_registers = false;
  std::int32_t vectors = 1;  // of kRowVector elements, that a thread keeps
  std::uint32_t groups = 1, threads = 32;

  void apply(Dispatch& launch) const;  // function constants and the grid
};

// `dense` rows lie one element after the other; in `columns` the neighbours of an element are of other rows.
RowPlan plan_rows(std::int64_t rows, std::int64_t n, bool dense, bool columns, const Caps& caps);

}  // namespace npu::gpu
