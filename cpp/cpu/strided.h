// Iteration over operands with any strides.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstdlib>
#include <optional>
#include <string>
#include <vector>

#include "core/geometry/nest.h"
#include "core/machine/thread_pool.h"
#include "core/plan/kernel.h"
#include "npu/error.h"

namespace npu::cpu {

inline constexpr int kMaxOperands = 64;

// Where each operand stands at one row of a nest, in elements.
class Cursor {
 public:
  Cursor(const Nest& nest, std::int64_t row) : nest_(nest), operands_(static_cast<int>(nest.strides.size())) {
    for (int k = 0; k < operands_; ++k) offset[k] = 0;
    for (int d = nest.rank - 2; d >= 0; --d) {
      index_[d] = row % nest.extent[d];
      row /= nest.extent[d];
      for (int k = 0; k < operands_; ++k) offset[k] += index_[d] * nest.strides[k][d];
    }
  }

  // Rows up to the end of the second innermost dimension, this one included.
  std::int64_t left() const {
    return nest_.rank < 2 ? 1 : nest_.extent[nest_.rank - 2] - index_[nest_.rank - 2];
  }

  void advance(std::int64_t count = 1) {  // at most left()
    int d = nest_.rank - 2;
    if (d < 0) return;
    index_[d] += count;
    for (int k = 0; k < operands_; ++k) offset[k] += count * nest_.strides[k][d];
    while (index_[d] == nest_.extent[d] && d > 0) {
      for (int k = 0; k < operands_; ++k)
        offset[k] += nest_.strides[k][d - 1] - index_[d] * nest_.strides[k][d];
      index_[d] = 0;
      ++index_[--d];
    }
  }

  std::int64_t offset[kMaxOperands];

 private:
  const Nest& nest_;
  int operands_;
  std::int64_t index_[kMaxRank] = {};
};

// Blocks of several inner dimensions, taken together: their rows may be too short, and too few along one
// dimension, to be worth a call each. A tile is up to `most` blocks along the innermost outer dimension.
struct Tiling {
  Tiling() = default;
  // Of rows of up to `longest` elements and tiles of up to `largest`. Rows of fewer than `shortest` elements
  // are taken apart: each element is a row then.
  Tiling(const Nest& nest, std::int64_t shortest, std::int64_t largest);

  Nest outer;                                     // its rows are blocks
  std::int64_t rows = 1, n = 1;                   // of a block, and the elements of a row
  std::int64_t most = 1;                          // blocks of a tile
  std::vector<std::int64_t> steps;                // [operand] from element to element of a row
  std::vector<std::int64_t> row_steps;            // from row to row, where they are evenly spaced
  std::vector<std::vector<std::int64_t>> starts;  // of the rows of a tile; empty where evenly spaced
};

// Into how many pieces `units` of work are cut; each costs about `cost` simple element operations.
inline std::int64_t piece_count(std::int64_t units, double cost, int threads) {
  constexpr double kWorthIt = 32768;  // a few microseconds: what waking a thread costs
  if (threads <= 1 || units <= 1) return std::min<std::int64_t>(units, 1);
  const double worth = cost * static_cast<double>(units) / kWorthIt;
  if (worth < 2) return 1;
  return std::min<std::int64_t>(units, std::min<std::int64_t>(static_cast<std::int64_t>(worth), 4 * threads));
}

// dst = src for one shape and element size, any strides.
class StridedCopy {
 public:
  StridedCopy() = default;
  StridedCopy(const Shape& shape, const Shape& dst, const Shape& src, std::size_t size, int threads);
  void run(void* dst, const void* src, ThreadPool& pool) const;
  bool dense() const { return nest_.rows == 1 && nest_.step(0) == 1 && nest_.step(1) == 1; }
  bool same_layout() const { return nest_.alike(); }

 private:
  void tiles(std::byte* dst, const std::byte* src, ThreadPool& pool) const;
  void rows(std::byte* dst, const std::byte* src, ThreadPool& pool) const;
  void transpose(std::byte* dst, const std::byte* src, ThreadPool& pool) const;

  Nest nest_;
  std::size_t size_ = 1;
  int threads_ = 1;
  std::optional<Tiling> tiling_;  // of short rows
  int across_ = -1;               // the dimension in which src is dense, when it is not the inner one
};

// n elements of `size` bytes at distances in elements.
void copy_row(std::byte* dst, std::int64_t dst_stride, const std::byte* src, std::int64_t src_stride,
              std::int64_t n, std::size_t size);

inline std::byte* at(void* p, std::int64_t offset, std::size_t size) {
  return static_cast<std::byte*>(p) + offset * static_cast<std::int64_t>(size);
}
inline const std::byte* at(const void* p, std::int64_t offset, std::size_t size) {
  return static_cast<const std::byte*>(p) + offset * static_cast<std::int64_t>(size);
}

inline std::size_t round_up(std::size_t bytes) { return (bytes + 63) / 64 * 64; }

[[noreturn]] void unavailable(const Op& op, const std::string& what);

}  // namespace npu::cpu
