#include "cpu/strided.h"

#include <cstring>

#include "cpu/element.h"

namespace npu::cpu {

namespace {

// Of a transposition: 2000x2000 floats take 3.7 ms, with 8 14, with 128 2.0; but 2048x2048 4.8, with 64 7.6,
// with 128 8.1 (AVX-512).
constexpr std::int64_t kTile = 32;
// Elements of a long row that one unit of work copies: some microseconds.
constexpr std::int64_t kChunk = 1 << 16;
constexpr std::int64_t kShort = 16;          // elements of a row
constexpr std::int64_t kTileElements = 512;  // whose offsets, twice 4 KB, stay in a first-level cache

}  // namespace

void copy_row(std::byte* dst, std::int64_t ds, const std::byte* src, std::int64_t ss, std::int64_t n,
              std::size_t size) {
  if (n <= 0) return;
  if (ds == 1 && ss == 1) {
    std::memcpy(dst, src, static_cast<std::size_t>(n) * size);
  } else {
    micro().copy_strided(size, src, ss, dst, ds, n);
  }
}

Tiling::Tiling(const Nest& nest, std::int64_t shortest, std::int64_t largest) {
  int inner = nest.rank - 1;  // the first dimension of a block
  std::int64_t elements = nest.inner();
  while (inner > 0 && elements * nest.extent[inner - 1] <= largest) elements *= nest.extent[--inner];
  outer = nest;
  outer.rank = inner + 1;
  outer.rows = 1;
  for (int d = 0; d < inner; ++d) outer.rows *= nest.extent[d];
  if (inner > 0) most = std::clamp<std::int64_t>(largest / elements, 1, nest.extent[inner - 1]);
  n = nest.inner() < shortest ? 1 : nest.inner();
  rows = elements / n;

  Nest tile = nest;  // without what is further out than the blocks of a tile
  const int first = std::max(inner - 1, 0);
  tile.rank = nest.rank - first;
  for (int d = 0; d < tile.rank; ++d) {
    tile.extent[d] = nest.extent[first + d];
    for (std::size_t k = 0; k < nest.strides.size(); ++k) tile.strides[k][d] = nest.strides[k][first + d];
  }
  if (inner > 0) tile.extent[0] = most;
  for (std::size_t k = 0; k < nest.strides.size(); ++k) {
    std::vector<std::int64_t> at;
    Cursor cursor(tile, 0);
    for (std::int64_t row = 0; row < most * elements / nest.inner(); ++row, cursor.advance()) {
      for (std::int64_t i = 0; i < nest.inner(); i += n)
        at.push_back(cursor.offset[k] + i * nest.step(static_cast<int>(k)));
    }
    steps.push_back(nest.step(static_cast<int>(k)));
    const std::int64_t step = at.size() > 1 ? at[1] : 0;
    bool even = true;
    for (std::size_t i = 0; i < at.size(); ++i) even = even && at[i] == static_cast<std::int64_t>(i) * step;
    row_steps.push_back(step);
    if (n == 1) steps.back() = step;
    if (even) at.clear();
    starts.push_back(std::move(at));
  }
}

StridedCopy::StridedCopy(const Shape& shape, const Shape& dst, const Shape& src, std::size_t size,
                         int threads)
    : nest_(make_nest(shape, {dst, src})), size_(size), threads_(threads) {
  const int inner = nest_.rank - 1;
  if (inner > 0 && nest_.rows > 0 && nest_.inner() <= kShort)
    tiling_.emplace(nest_, kShort + 1, kTileElements);
  if (nest_.step(1) == 1 || nest_.step(1) == 0) return;
  for (int d = 0; d < inner; ++d) {
    if (nest_.strides[1][d] == 1 && nest_.extent[d] >= 4 && nest_.inner() >= 2) across_ = d;
  }
}

void StridedCopy::run(void* dst, const void* src, ThreadPool& pool) const {
  if (nest_.rows == 0) return;
  if (tiling_) {
    tiles(static_cast<std::byte*>(dst), static_cast<const std::byte*>(src), pool);
  } else if (across_ >= 0) {
    transpose(static_cast<std::byte*>(dst), static_cast<const std::byte*>(src), pool);
  } else {
    rows(static_cast<std::byte*>(dst), static_cast<const std::byte*>(src), pool);
  }
}

// Elements one by one: choosing a loop for each short row would take as long as copying it.
void StridedCopy::tiles(std::byte* dst, const std::byte* src, ThreadPool& pool) const {
  const Tiling& t = *tiling_;
  const std::int64_t pieces = piece_count(t.outer.rows, static_cast<double>(t.rows), threads_);
  const std::int64_t ds = t.row_steps[0], ss = t.row_steps[1];
  const std::int64_t* const to_at = t.starts[0].empty() ? nullptr : t.starts[0].data();
  const std::int64_t* const from_at = t.starts[1].empty() ? nullptr : t.starts[1].data();
  pool.run(pieces, [&](std::int64_t piece, int) {
    const Range range = split(t.outer.rows, pieces, piece);
    Cursor cursor(t.outer, range.begin);
    visit_size(size_, [&](auto zero) {
      using T = decltype(zero);
      for (std::int64_t block = range.begin; block < range.end;) {
        const std::int64_t count = std::min({t.most, cursor.left(), range.end - block}), n = count * t.rows;
        T* const to = reinterpret_cast<T*>(at(dst, cursor.offset[0], size_));
        const T* const from = reinterpret_cast<const T*>(at(src, cursor.offset[1], size_));
        if (to_at && from_at) {
          for (std::int64_t i = 0; i < n; ++i) to[to_at[i]] = from[from_at[i]];
        } else if (to_at) {
          for (std::int64_t i = 0; i < n; ++i) to[to_at[i]] = from[i * ss];
        } else if (from_at && ds == 1) {
          for (std::int64_t i = 0; i < n; ++i) to[i] = from[from_at[i]];
        } else if (from_at) {
          for (std::int64_t i = 0; i < n; ++i) to[i * ds] = from[from_at[i]];
        } else {
          for (std::int64_t i = 0; i < n; ++i) to[i * ds] = from[i * ss];
        }
        block += count;
        cursor.advance(count);
      }
    });
  });
}

void StridedCopy::rows(std::byte* dst, const std::byte* src, ThreadPool& pool) const {
  const std::int64_t n = nest_.inner(), chunks = (n + kChunk - 1) / kChunk, units = nest_.rows * chunks;
  const std::int64_t pieces = piece_count(units, static_cast<double>(std::min(n, kChunk)) * 0.5, threads_);
  pool.run(pieces, [&](std::int64_t piece, int) {
    const Range range = split(units, pieces, piece);
    Cursor cursor(nest_, range.begin / chunks);
    for (std::int64_t u = range.begin; u < range.end; ++u) {
      const std::int64_t chunk = u % chunks, first = chunk * kChunk;
      copy_row(at(dst, cursor.offset[0] + first * nest_.step(0), size_), nest_.step(0),
               at(src, cursor.offset[1] + first * nest_.step(1), size_), nest_.step(1),
               std::min(kChunk, n - first), size_);
      if (chunk == chunks - 1) cursor.advance();
    }
  });
}

// Tiles of the inner dimension and the one in which src is dense, so that both sides use whole cache lines.
void StridedCopy::transpose(std::byte* dst, const std::byte* src, ThreadPool& pool) const {
  Nest outer = nest_;
  outer.extent[across_] = 1;
  outer.extent[nest_.rank - 1] = 1;
  const std::int64_t m = nest_.extent[across_], n = nest_.inner();
  const std::int64_t da = nest_.strides[0][across_], ds = nest_.step(0), ss = nest_.step(1);
  const bool squares = ds == 1 && micro().lanes == 16;  // others have no loops for squares of words
  const std::int64_t tiles = (m + kTile - 1) / kTile, outers = nest_.rows / m, units = outers * tiles;
  const std::int64_t pieces = piece_count(units, static_cast<double>(n * std::min(m, kTile)), threads_);
  pool.run(pieces, [&](std::int64_t piece, int) {
    const Range range = split(units, pieces, piece);
    for (std::int64_t u = range.begin; u < range.end; ++u) {
      const Cursor cursor(outer, u / tiles);
      const std::int64_t i0 = u % tiles * kTile, i1 = std::min(m, i0 + kTile);
      visit_size(size_, [&](auto zero) {
        using T = decltype(zero);
        T* to = reinterpret_cast<T*>(at(dst, cursor.offset[0], size_));
        const T* from = reinterpret_cast<const T*>(at(src, cursor.offset[1], size_));
        for (std::int64_t j0 = 0; j0 < n; j0 += kTile) {
          const std::int64_t j1 = std::min(n, j0 + kTile);
          if (sizeof(T) == 4 && squares && (j1 - j0) % 4 == 0 && da >= j1 - j0) {
            micro().transpose_words(from + i0 + j0 * ss, 4 * ss, j1 - j0, i1 - i0,
                                    reinterpret_cast<float*>(to + i0 * da + j0), da, j1 - j0);
            continue;
          }
          for (std::int64_t i = i0; i < i1; ++i) {
            for (std::int64_t j = j0; j < j1; ++j) to[i * da + j * ds] = from[i + j * ss];
          }
        }
      });
    }
  });
}

void unavailable(const Op& op, const std::string& what) {
  throw Error(ErrorKind::kUnavailable, {.area = "cpu",
                                        .what = "the op " + quoted(op.name) + " cannot run on the CPU",
                                        .got = what,
                                        .expected = {},
                                        .action = {}});
}

}  // namespace npu::cpu
