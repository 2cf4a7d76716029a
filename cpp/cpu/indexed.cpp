#include "cpu/indexed.h"

namespace npu::cpu {

Indexed::Indexed(const KernelRequest& r, const TensorDesc& dense, const TensorDesc& other,
                 const std::vector<std::int64_t>& axes, const std::vector<std::int64_t>& dims, bool wrap,
                 int first_index, bool reorder)
    : name_(r.op.name), axis_numbers_(axes), wrap_(wrap), first_index_(first_index) {
  Shape place(dense.shape.size(), 0);
  for (std::size_t d = 0; d < dims.size(); ++d) {
    if (dims[d] >= 0) place[static_cast<std::size_t>(dims[d])] += other.strides[d];
  }
  std::vector<Shape> strides = {dense.strides, place};
  for (std::size_t k = 0; k < axes.size(); ++k) {
    const TensorDesc& index = r.inputs[static_cast<std::size_t>(first_index) + k];
    const auto axis = static_cast<std::size_t>(axes[k]);
    axes_.push_back({other.shape[axis], other.strides[axis], index.dtype});
    strides.push_back(index.strides);
  }
  nest_ = make_nest(dense.shape, strides, reorder);
  for (std::size_t k = 0; k < axes.size(); ++k) {
    if (nest_.step(static_cast<int>(k) + 2) != 0 && nest_.inner() > 1) whole_rows_ = false;
  }
}

void Indexed::places(const KernelArgs& args, const Cursor& cursor, std::int64_t first, std::int64_t n,
                     std::int64_t* result) const {
  const std::int64_t step = nest_.step(1), start = cursor.offset[1] + first * step;
  for (std::int64_t i = 0; i < n; ++i) result[i] = start + i * step;
  std::int64_t indices[kBlock];
  for (std::size_t k = 0; k < axes_.size(); ++k) {
    load_integers(axes_[k].dtype, index_at(args, cursor, k, first), nest_.step(static_cast<int>(k) + 2), n,
                  indices);
    for (std::int64_t i = 0; i < n; ++i) result[i] += checked(indices[i], k) * axes_[k].stride;
  }
}

void Indexed::refuse(std::int64_t index, std::size_t k) const {
  const std::int64_t extent = axes_[k].extent;
  throw Error(
      ErrorKind::kInvalidValue,
      {.area = "run",
       .what = "an index of the op " + quoted(name_) + " is out of range in dimension " +
               std::to_string(axis_numbers_[k]),
       .got = std::to_string(index),
       .expected = "from " + std::to_string(wrap_ ? -extent : 0) + " to " + std::to_string(extent - 1),
       .action = {}});
}

}  // namespace npu::cpu
