#include "cpu/indexed.h"

namespace npu::cpu {

Indexed::Indexed(const KernelRequest& r, const IndexedGeometry& geometry, const TensorDesc& dense, bool wrap,
                 int first_index, bool reorder)
    : micro_(&micro()), name_(r.op.name), axes_(geometry.axes), wrap_(wrap), first_index_(first_index) {
  std::vector<Shape> strides = {dense.strides, geometry.offset};
  strides.insert(strides.end(), geometry.indices.begin(), geometry.indices.end());
  nest_ = make_nest(dense.shape, strides, reorder);
  whole_rows_ = moves_whole_rows(nest_);
}

void Indexed::offsets_along(int d, const KernelArgs& args, const Cursor& cursor, std::int64_t first,
                            std::int64_t n, std::int64_t* result) const {
  const std::int64_t step = nest_.strides[1][d];
  for (std::size_t k = 0; k < axes_.size(); ++k) {
    const std::int64_t index_step = nest_.strides[k + 2][d];
    const IndexOffsets call{.dtype = axes_[k].dtype,
                            .indices = index_at(args, cursor, k, first * index_step),
                            .index_step = index_step,
                            .extent = axes_[k].extent,
                            .wrap = wrap_,
                            .stride = axes_[k].stride,
                            .start = cursor.offset[1] + first * step,
                            .step = step,
                            .n = n,
                            .offsets = result};
    if (k == 0 ? micro_->start_offsets(call) : micro_->add_offsets(call)) continue;
    for (std::int64_t i = 0; i < n; ++i)
      checked(value_of(axes_[k].dtype, index_at(args, cursor, k, (first + i) * index_step)), k);
  }
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
