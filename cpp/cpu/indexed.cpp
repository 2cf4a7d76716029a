#include "cpu/indexed.h"

namespace npu::cpu {

Indexed::Indexed(const KernelRequest& r, const IndexedGeometry& geometry, const TensorDesc& dense, bool wrap,
                 int first_index, bool reorder)
    : name_(r.op.name), axes_(geometry.axes), wrap_(wrap), first_index_(first_index) {
  std::vector<Shape> strides = {dense.strides, geometry.offset};
  strides.insert(strides.end(), geometry.indices.begin(), geometry.indices.end());
  nest_ = make_nest(dense.shape, strides, reorder);
  whole_rows_ = moves_whole_rows(nest_);
}

void Indexed::offsets(const KernelArgs& args, const Cursor& cursor, std::int64_t first, std::int64_t n,
                      std::int64_t* result) const {
  const std::int64_t step = nest_.step(1), start = cursor.offset[1] + first * step;
  for (std::int64_t i = 0; i < n; ++i) result[i] = start + i * step;
  std::int64_t indices[kBlock];
  for (std::size_t k = 0; k < axes_.size(); ++k) {
    load_integers(axes_[k].dtype, index_at(args, cursor, k, first), nest_.step(static_cast<int>(k) + 2), n,
                  indices);
    add_offsets(indices, k, n, result);
  }
}

void Indexed::add_offsets(const std::int64_t* indices, std::size_t k, std::int64_t n,
                          std::int64_t* result) const {
  const std::int64_t extent = axes_[k].extent, stride = axes_[k].stride, low = wrap_ ? -extent : 0;
  bool outside = false;
  for (std::int64_t i = 0; i < n; ++i) outside |= (indices[i] < low) | (indices[i] >= extent);
  for (std::int64_t i = 0; outside && i < n; ++i) checked(indices[i], k);
  for (std::int64_t i = 0; i < n; ++i)
    result[i] += (indices[i] < 0 ? indices[i] + extent : indices[i]) * stride;
}

void Indexed::refuse(std::int64_t index, std::size_t k) const {
  const std::int64_t extent = axes_[k].extent;
  throw Error(
      ErrorKind::kInvalidValue,
      {.area = "run",
       .what = "an index of the op " + quoted(name_) + " is out of range in dimension " +
               std::to_string(axes_[k].dimension),
       .got = std::to_string(index),
       .expected = "from " + std::to_string(wrap_ ? -extent : 0) + " to " + std::to_string(extent - 1),
       .action = {}});
}

}  // namespace npu::cpu
