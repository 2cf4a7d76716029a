// The blocked matrix product that convolutions and matrix products share: rows are gathered into packed
// tiles, columns come as packed panels, results are finished with bias, residual and an epilogue.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "core/machine/thread_pool.h"
#include "core/plan/kernel.h"
#include "cpu/element.h"
#include "cpu/epilogue.h"
#include "cpu/micro.h"

namespace npu::cpu {

// Reads n elements `stride` apart as float32.
void load_row(DType dtype, const void* from, std::int64_t stride, float* to, std::int64_t n);
void store_row(DType dtype, const float* from, void* to, std::int64_t stride, std::int64_t n);

// Sizes of one product: rows x depth times depth x columns. Depth counts words: float32, or pairs of
// bfloat16. Where a result is made of two sums, each has
// `columns` columns and panels of its own.
struct GemmShape {
  std::int64_t rows = 0, columns = 0, depth = 0, sums_per_result = 1;

  std::int64_t panels(const Micro& m) const { return (columns + m.nr - 1) / m.nr; }  // of one sum
  std::int64_t steps() const { return (depth + kPackedK - 1) / kPackedK; }
  std::size_t packed_floats(const Micro& m) const {
    return static_cast<std::size_t>(sums_per_result * panels(m) * m.nr * depth);
  }
};

// Whether both sides are bfloat16 and the hardware multiplies pairs of them.
bool multiplies_pairs(const Micro& micro, DType a, DType b);
inline std::int64_t words(std::int64_t depth, bool pairs) { return pairs ? (depth + 1) / 2 : depth; }

// What the product reads and writes, filled in by convolution and matrix product. Depth is in words.
class GemmOperands {
 public:
  virtual ~GemmOperands() = default;
  // Rows [row, row + count), depth [k, k + length): row i at to + i * kPackedStride.
  virtual void pack_rows(std::int64_t row, std::int64_t count, std::int64_t k, std::int64_t length,
                         float* to) const = 0;
  // Where rows [row, row + count) lie in memory as they are packed, so that they need not be: the first of
  // them, and the distance between two. Null when they do not, or when that distance is bad for caches.
  virtual const float* rows_in_place(std::int64_t row, std::int64_t count, std::int64_t* stride) const = 0;
  // Where such columns lie if they follow each other in memory, to be fetched before they are packed: floats
  // from the first element on; null otherwise.
  virtual const float* panel_in_place(std::int64_t /*column*/) const { return nullptr; }
  // Fetches a part of the depth of columns, each of which follows itself in memory.
  virtual void fetch_columns(std::int64_t /*column*/, std::int64_t /*count*/, std::int64_t /*k*/,
                             std::int64_t /*length*/) const {}
  // Columns [column, column + count) of depth [k, k + length) as [length][nr], zero beyond count.
  virtual void pack_panel(std::int64_t column, std::int64_t count, std::int64_t k, std::int64_t length,
                          int nr, float* to) const = 0;
  // Offsets, in elements, of (row, column 0) in the output and each extra.
  virtual void locate(std::int64_t row, std::int64_t* out, std::int64_t* extras) const = 0;
  // Those of the output, and of one extra unless it is -1, for consecutive rows.
  virtual void locate_rows(std::int64_t row, std::int64_t count, int extra, std::int64_t* out,
                           std::int64_t* extra_at) const;
};

// Rows this far apart all fall into one set of a cache with 4096-byte ways.
inline bool shares_cache_set(std::int64_t stride) { return stride % 1024 == 0; }

struct GemmCall {
  const Micro* micro = nullptr;
  GemmShape shape;
  bool pairs = false;  // words are pairs of bfloat16
  const GemmOperands* operands = nullptr;
  const float* packed = nullptr;  // panels packed before, or null: pack them here
  const void* bias = nullptr;     // one for each column of each sum
  DType bias_dtype = DType::kFloat32;
  std::int64_t bias_stride = 1;
  const Epilogue* epilogue = nullptr;
  DType out_dtype = DType::kFloat32;
  void* out = nullptr;
  std::int64_t out_stride = 1;  // between columns
  const void* const* extras = nullptr;
};

// How the work of one product is cut: a grid of row ranges and panel ranges.
struct GemmGrid {
  std::int64_t row_pieces = 1, panel_pieces = 1;
  std::int64_t block_rows = 0;    // rows packed at a time
  std::int64_t block_panels = 0;  // panels finished at a time
  std::int64_t pieces() const { return row_pieces * panel_pieces; }
};

GemmGrid plan_gemm(const Micro& micro, const GemmShape& shape, int threads, std::int64_t copies);
// For panels packed while they are used: few rows of pieces, because each packs the panels again; and no more
// sums at a time than stay in the cache until they are finished.
GemmGrid plan_unpacked_gemm(const Micro& micro, const GemmShape& shape, int threads, std::int64_t copies);
std::size_t gemm_scratch(const Micro& micro, const GemmShape& shape, const GemmGrid& grid,
                         const Epilogue& epilogue);

// One piece of the grid; scratch as gemm_scratch says, for this thread alone.
void gemm_piece(const GemmCall& call, const GemmGrid& grid, std::int64_t piece, std::byte* scratch);

// All panels, as `packed` of GemmCall wants them: [step][half][panel][k][nr].
void pack_panels(const Micro& micro, const GemmShape& shape, const GemmOperands& operands, float* to,
                 ThreadPool& pool);

}  // namespace npu::cpu
