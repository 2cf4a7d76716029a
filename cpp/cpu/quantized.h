// Quantised rows as kernels read them.
#pragma once

#include <cstdint>

#include "core/plan/kernel.h"
#include "core/program/quantization.h"
#include "cpu/element.h"
#include "cpu/micro.h"

namespace npu::cpu {

// Where the parts of a quantised operand are.
struct QuantizedParts {
  const void *q, *scales, *offsets, *units;
};

// How a quantised operand lies in memory, and what its integers are as numbers.
class QuantizedRows {
 public:
  // The last dimension of each is that of a row. `offsets` and `units` may be absent.
  QuantizedRows(const Quantization& how, std::int64_t depth, const TensorDesc& q, const TensorDesc& scales,
                const TensorDesc& offsets, const TensorDesc& units);

  // Where a row begins in each part, in elements.
  struct Row {
    std::int64_t q = 0, scales = 0, offsets = 0, units = 0;
  };

  const Quantization& how() const { return how_; }
  std::int64_t depth() const { return depth_; }
  std::int64_t group() const { return group_; }  // at least 1
  std::int64_t groups() const { return groups_; }
  DType scale_dtype() const { return scale_dtype_; }
  DType offset_dtype() const { return offset_dtype_; }
  DType unit_dtype() const { return unit_dtype_; }
  std::int64_t unit_groups() const { return how_.unit / group_; }  // 0: there are no units
  // The bytes, scales, offsets and units of a row each follow each other.
  bool dense() const { return q_step_ == 1 && scale_step_ == 1 && offset_step_ == 1 && unit_step_ == 1; }

  // Elements [k, k + n) of a row as float32, or as bfloat16.
  void numbers(const QuantizedParts& parts, const Row& row, std::int64_t k, std::int64_t n, float* to) const;
  void numbers(const QuantizedParts& parts, const Row& row, std::int64_t k, std::int64_t n,
               std::uint16_t* to) const;

  // Columns of a panel, of which `count` are there and `width` are written, `nr` apart.
  struct Panel {
    std::int64_t count, width;
    float* to;
    std::int64_t nr;
  };
  // Elements [k, k + n) of rows from `first` on, `step` apart, as columns of float32 or of pairs of bfloat16.
  void unpack(const QuantizedParts& parts, const Row& first, const Row& step, bool pairs, std::int64_t k,
              std::int64_t n, const Panel& panel) const;
  // Whether that is possible: whole words of 4 or 8 bits that follow each other, in groups of whole ones.
  bool unpacks(bool pairs, std::int64_t k, std::int64_t n) const;

 private:
  template <class T>
  void block(const QuantizedParts& parts, const Row& row, std::int64_t k, std::int64_t n, T* to) const;

  const Micro* micro_;
  Quantization how_;
  std::int64_t depth_, group_, groups_;
  std::int64_t q_step_, scale_step_, offset_step_, unit_step_;
  DType scale_dtype_, offset_dtype_, unit_dtype_;
};

}  // namespace npu::cpu
