// Elements chosen by index operands: gather and scatter.
#pragma once

#include "core/geometry/nest.h"

namespace npu {

// A dimension of the indexed operand whose coordinate an index operand says.
struct IndexAxis {
  std::int64_t dimension = 0, extent = 0;
  std::int64_t stride = 0;      // of the indexed operand
  DType dtype = DType::kInt64;  // of the index operand
};

// The dense operand is walked from position to position: the result of a gather, the updates of a scatter.
struct IndexedGeometry {
  std::vector<IndexAxis> axes;
  Shape offset;                // strides of the indexed operand along its dimensions that have no index
  std::vector<Shape> indices;  // strides of the index operands
};

IndexedGeometry gather_geometry(const KernelRequest& request, const GatherAttrs& attrs);
IndexedGeometry scatter_geometry(const KernelRequest& request, const ScatterAttrs& attrs);

// Whether the indices are the same throughout an inner row of a nest in which they follow two operands: rows
// are moved as a whole then.
bool moves_whole_rows(const Nest& nest);

}  // namespace npu
