// Elements chosen by index operands: what gather and scatter share.
#pragma once

#include "core/geometry/indexed.h"
#include "cpu/element.h"
#include "cpu/ops/ops.h"
#include "cpu/strided.h"

namespace npu::cpu {

// A nest over the dense operand of a gather or scatter (its result or updates), the offset in the other
// tensor that the dimensions without indices give, and the index operands.
class Indexed {
 public:
  static constexpr std::int64_t kBlock = 256;  // elements whose offsets are computed at a time

  Indexed(const KernelRequest& r, const IndexedGeometry& geometry, const TensorDesc& dense, bool wrap,
          int first_index, bool reorder);

  const Nest& nest() const { return nest_; }
  bool whole_rows() const { return whole_rows_; }  // one offset for all of an inner row

  // The offset of a row, when whole_rows().
  std::int64_t row_offset(const KernelArgs& args, const Cursor& cursor) const {
    std::int64_t offset = cursor.offset[1];
    for (std::size_t k = 0; k < axes_.size(); ++k) {
      const std::int64_t index = value_of(axes_[k].dtype, index_at(args, cursor, k, 0));
      offset += checked(index, k) * axes_[k].stride;
    }
    return offset;
  }

  // The offsets of n <= kBlock elements from element `first` of the row.
  void offsets(const KernelArgs& args, const Cursor& cursor, std::int64_t first, std::int64_t n,
               std::int64_t* result) const;

 private:
  static std::int64_t value_of(DType dtype, const std::byte* x) {
    if (dtype == DType::kInt64) return *reinterpret_cast<const std::int64_t*>(x);
    if (dtype == DType::kInt32) return *reinterpret_cast<const std::int32_t*>(x);
    std::int64_t index;
    load_integers(dtype, x, 1, 1, &index);
    return index;
  }
  const std::byte* index_at(const KernelArgs& args, const Cursor& cursor, std::size_t k,
                            std::int64_t skip) const {
    const auto operand = static_cast<int>(k) + 2;
    return at(args.inputs[first_index_ + static_cast<int>(k)],
              cursor.offset[operand] + skip * nest_.step(operand), size_of(axes_[k].dtype));
  }
  std::int64_t checked(std::int64_t index, std::size_t k) const {
    const std::int64_t extent = axes_[k].extent, wrapped = wrap_ && index < 0 ? index + extent : index;
    if (wrapped < 0 || wrapped >= extent) refuse(index, k);
    return wrapped;
  }
  void add_offsets(const std::int64_t* indices, std::size_t k, std::int64_t n, std::int64_t* result) const;
  [[noreturn]] void refuse(std::int64_t index, std::size_t k) const;

  std::string name_;
  std::vector<IndexAxis> axes_;
  bool wrap_, whole_rows_ = true;
  int first_index_;
  Nest nest_;  // of the dense operand, the offset, the indices
};

}  // namespace npu::cpu
