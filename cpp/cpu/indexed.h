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

  static constexpr std::int64_t kWorthACall = 4;  // offsets of rows, computed together

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
               std::int64_t* result) const {
    offsets_along(nest_.rank - 1, args, cursor, first, n, result);
  }

  // Calls move(offset in the dense operand, offset in the other) for each of the rows, when whole_rows().
  template <class Move>
  void each_row(const KernelArgs& args, Cursor& cursor, std::int64_t rows, Move move) const {
    std::int64_t offsets[kBlock];
    const std::int64_t step = nest_.rank < 2 ? 0 : nest_.strides[0][nest_.rank - 2];
    for (std::int64_t row = 0; row < rows;) {
      const std::int64_t n = std::min({kBlock, cursor.left(), rows - row});
      if (n < kWorthACall) {
        move(cursor.offset[0], row_offset(args, cursor));
        ++row;
        cursor.advance();
        continue;
      }
      offsets_along(nest_.rank - 2, args, cursor, 0, n, offsets);
      for (std::int64_t i = 0; i < n; ++i) move(cursor.offset[0] + i * step, offsets[i]);
      row += n;
      cursor.advance(n);
    }
  }

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
    return at(args.inputs[first_index_ + static_cast<int>(k)], cursor.offset[k + 2] + skip,
              size_of(axes_[k].dtype));
  }
  std::int64_t checked(std::int64_t index, std::size_t k) const {
    const std::int64_t extent = axes_[k].extent, wrapped = wrap_ && index < 0 ? index + extent : index;
    if (wrapped < 0 || wrapped >= extent) refuse(index, k);
    return wrapped;
  }
  // Of n <= kBlock elements along a dimension of the nest, from `first` on.
  void offsets_along(int d, const KernelArgs& args, const Cursor& cursor, std::int64_t first, std::int64_t n,
                     std::int64_t* result) const;
  [[noreturn]] void refuse(std::int64_t index, std::size_t k) const;

  const Micro* micro_;
  std::string name_;
  std::vector<IndexAxis> axes_;
  bool wrap_, whole_rows_ = true;
  int first_index_;
  Nest nest_;  // of the dense operand, the offset, the indices
};

}  // namespace npu::cpu
