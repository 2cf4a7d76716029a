// Helpers for kernel makers: nests as kernels read them, copies in words, grids over rows.
#pragma once

#include <algorithm>
#include <cstdlib>
#include <limits>
#include <string>
#include <string_view>

#include "core/geometry/nest.h"
#include "gpu/plan/gpu_kernel.h"
#include "metal/args.h"
#include "metal/constants.h"

namespace npu::gpu {

// A count as kernels hold it. Throws for tensors with more elements than that.
inline std::int32_t count32(const Op& op, std::int64_t count) {
  if (count > std::numeric_limits<std::int32_t>::max())
    unavailable(op, std::to_string(count) + " elements along what one launch covers");
  return static_cast<std::int32_t>(count);
}

// Where the first element of a view lies in what is bound, in elements.
inline std::int64_t first_element(const TensorDesc& desc) {
  return bytes_before(desc) / static_cast<std::int64_t>(size_of(desc.dtype));
}

// The first kOperands operands of a nest; those that it lacks do not move.
template <int kOperands>
NestOf<kOperands> nest_of(const Op& op, const Nest& nest) {
  NestOf<kOperands> args{};
  args.rank = nest.rank;
  args.rows = count32(op, nest.rows);
  for (std::size_t d = 0; d < static_cast<std::size_t>(nest.rank); ++d) {
    args.extent[d] = count32(op, nest.extent[d]);
    for (std::size_t k = 0; k < std::min<std::size_t>(kOperands, nest.strides.size()); ++k)
      args.step[k][d] = nest.strides[k][d];
  }
  return args;
}

// The nest without one of its dimensions.
Nest without_dim(const Nest& nest, int dim);

// Whether neighbours in memory belong to different rows, and enough of them to read together; `rows` are
// those of y and x, whose elements lie `step` apart in x.
inline bool in_columns(const Nest& rows, std::int64_t step) {
  constexpr std::int64_t kFewest = 8;  // an estimate: docs/metal.md, Thresholds
  return rows.inner() >= kFewest && std::abs(rows.step(1)) < std::abs(step);
}

inline bool dense(const Nest& nest, int operand) { return nest.step(operand) == 1 || nest.inner() == 1; }

// The ParameterKind that metal/norm.h expects for a weight or bias.
inline std::int32_t parameter_kind(const TensorDesc& parameter, DType x) {
  const ParameterKind kind = !parameter.present()   ? ParameterKind::kNone
                             : parameter.dtype == x ? ParameterKind::kOwn
                                                    : ParameterKind::kFloat;
  return static_cast<std::int32_t>(kind);
}

// Elements that are only copied may be copied as wider or narrower words.
struct Moved {
  Nest nest;         // in words
  std::size_t word;  // bytes of one
  bool dense;        // rows are dense on both sides, so that several words can be moved at once

  // Threads for a row.
  std::int64_t columns() const { return dense ? (nest.inner() + at_once() - 1) / at_once() : nest.inner(); }
  std::int64_t at_once() const { return word == 8 ? 1 : kWordsAtOnce; }
  std::string function(std::string_view kernel) const;  // "copy_rows_ushort"
};

// The nest's first two operands are those that are moved between; `alignment` is that of the less aligned
// one, and `dtype` what both hold. `further` strides of theirs are counted in elements and must be whole
// words too.
Moved moved(const Nest& nest, DType dtype, int alignment, const Shape& further = {});

// A thread for each of `columns` x `rows`, in threadgroups of up to 256 as wide as the columns need.
Dispatch& over_rows(Dispatch& launch, std::int64_t columns, std::int64_t rows);

}  // namespace npu::gpu
