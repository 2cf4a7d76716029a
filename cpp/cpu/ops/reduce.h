// What a reduction is made of; the loops are in reduce.cpp and reduce_columns.cpp.
#pragma once

#include "core/geometry/reduce.h"
#include "cpu/element.h"
#include "cpu/ops/ops.h"
#include "cpu/strided.h"

namespace npu::cpu {

std::string kind_name(ReduceAttrs::Kind kind);

struct ReducePlan : ReduceCut {
  using Kind = ReduceAttrs::Kind;

  explicit ReducePlan(const KernelRequest& r);

  const Micro* micro;
  ReduceAttrs attrs;
  DType x_dtype, y_dtype;
  int threads;
  std::string name() const;
};

// Whether neighbours in memory belong to different results, so that rows are combined elementwise.
bool columns_fit(const ReducePlan& plan);
KernelPtr make_column_reduce(const ReducePlan& plan);

// A reduction fused with the map that it reads; null where they are faster, or only possible, apart.
KernelPtr make_map_reduce(const KernelRequest& request);

}  // namespace npu::cpu
