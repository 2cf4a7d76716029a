#include "cpu/gemm.h"

#include <algorithm>
#include <cstring>

#include "npu/error.h"

namespace npu::cpu {

namespace {

constexpr std::size_t kAlign = 64;
// Of rows. With AVX-512, 16 packed tiles are 238 KB, and their sums by kBlockColumns 115 KB. 512x1024
// times 1024x1024 takes 5.0 ms, with 4 and 3 tiles 6.7.
constexpr std::int64_t kBlockTiles = 16;
constexpr std::int64_t kMaxRows = kBlockTiles * 16;  // of a block
constexpr std::int64_t kBlockColumns = 128;          // whose sums wait to be finished, of each sum
std::size_t aligned(std::size_t bytes) { return (bytes + kAlign - 1) / kAlign * kAlign; }

}  // namespace

void load_row(DType dtype, const void* from, std::int64_t stride, float* to, std::int64_t n) {
  if (dtype == DType::kFloat32) {
    const float* x = static_cast<const float*>(from);
    if (stride == 1) {
      std::copy_n(x, n, to);
    } else {
      for (std::int64_t i = 0; i < n; ++i) to[i] = x[i * stride];
    }
    return;
  }
  const Micro& m = micro();
  const auto convert = dtype == DType::kFloat16 ? m.load_f16 : m.load_bf16;
  const std::uint16_t* x = static_cast<const std::uint16_t*>(from);
  if (stride == 1) return convert(x, to, n);
  std::uint16_t block[64];
  for (std::int64_t i = 0; i < n; i += 64) {
    const std::int64_t count = std::min<std::int64_t>(64, n - i);
    for (std::int64_t j = 0; j < count; ++j) block[j] = x[(i + j) * stride];
    convert(block, to + i, count);
  }
}

void store_row(DType dtype, const float* from, void* to, std::int64_t stride, std::int64_t n) {
  if (dtype == DType::kFloat32) {
    float* y = static_cast<float*>(to);
    if (stride == 1) {
      std::memcpy(y, from, sizeof(float) * static_cast<std::size_t>(n));
    } else {
      for (std::int64_t i = 0; i < n; ++i) y[i * stride] = from[i];
    }
    return;
  }
  const Micro& m = micro();
  const auto convert = dtype == DType::kFloat16 ? m.store_f16 : m.store_bf16;
  std::uint16_t* y = static_cast<std::uint16_t*>(to);
  if (stride == 1) return convert(from, y, n);
  std::uint16_t block[64];
  for (std::int64_t i = 0; i < n; i += 64) {
    const std::int64_t count = std::min<std::int64_t>(64, n - i);
    convert(from + i, block, count);
    for (std::int64_t j = 0; j < count; ++j) y[(i + j) * stride] = block[j];
  }
}

void GemmOperands::locate_rows(std::int64_t row, std::int64_t count, int extra, std::int64_t* out,
                               std::int64_t* extra_at) const {
  std::int64_t offsets[kMaxExtras];
  for (std::int64_t i = 0; i < count; ++i) {
    locate(row + i, &out[i], offsets);
    extra_at[i] = extra >= 0 ? offsets[extra] : 0;
  }
}

bool multiplies_pairs(const Micro& micro, DType a, DType b) {
  return micro.gemm_bf16 != nullptr && a == DType::kBFloat16 && b == DType::kBFloat16;
}

namespace {

bool worth_sharing(const GemmShape& shape, int threads, std::int64_t copies) {
  const double work = static_cast<double>(shape.rows) * static_cast<double>(shape.columns) *
                      static_cast<double>(shape.depth) * static_cast<double>(shape.sums_per_result * copies);
  return threads > 1 && work >= 100e3 && copies < 4 * threads;
}

}  // namespace

GemmGrid plan_gemm(const Micro& micro, const GemmShape& shape, int threads, std::int64_t copies) {
  GemmGrid grid;
  const std::int64_t tiles = (shape.rows + micro.mr - 1) / micro.mr, panels = shape.panels(micro);
  grid.block_rows = std::min<std::int64_t>(tiles, kBlockTiles) * micro.mr;
  grid.block_panels = panels;
  if (!worth_sharing(shape, threads, copies)) return grid;
  // Rows are packed once for each piece, so rows are shared out before panels are; more pieces than threads
  // even out what the threads get.
  if (tiles >= 16 * threads) {
    grid.row_pieces = 4 * threads;
  } else if (tiles >= 2 * threads) {
    grid.row_pieces = threads;
  } else {
    grid.panel_pieces = std::min<std::int64_t>(panels, threads);
  }
  return grid;
}

GemmGrid plan_unpacked_gemm(const Micro& micro, const GemmShape& shape, int threads, std::int64_t copies) {
  GemmGrid grid;
  const std::int64_t tiles = (shape.rows + micro.mr - 1) / micro.mr, panels = shape.panels(micro);
  const std::int64_t blocks = (tiles + kBlockTiles - 1) / kBlockTiles;  // of even size
  grid.block_rows = blocks == 0 ? 0 : (tiles + blocks - 1) / blocks * micro.mr;
  grid.block_panels = std::max<std::int64_t>(1, kBlockColumns / micro.nr);
  if (!worth_sharing(shape, threads, copies)) return grid;
  grid.panel_pieces = std::min<std::int64_t>(panels, 4 * threads);
  if (panels < threads) grid.row_pieces = std::min<std::int64_t>(blocks, threads);
  return grid;
}

std::size_t gemm_scratch(const Micro& micro, const GemmShape& shape, const GemmGrid& grid,
                         const Epilogue& epilogue) {
  const std::int64_t panels =
      std::min(grid.block_panels, (shape.panels(micro) + grid.panel_pieces - 1) / grid.panel_pieces);
  std::size_t bytes = aligned(sizeof(float) * static_cast<std::size_t>(grid.block_rows * kPackedStride));
  bytes += aligned(sizeof(float) * static_cast<std::size_t>(micro.nr * kPackedK));  // a panel packed here
  if (!epilogue.in_tile()) {
    bytes += aligned(sizeof(float) *
                     static_cast<std::size_t>(grid.block_rows * shape.sums_per_result * panels * micro.nr));
  }
  return bytes + aligned(epilogue.scratch_bytes());
}

namespace {

// Evenly spaced rows for one tile: packed row, and where its results go.
struct Strip {
  std::int64_t row;
  int count;
  std::int64_t out, out_step, extra, extra_step;
};

// One block of rows and panels: all steps of depth, then what could not be done in the tiles.
struct Block {
  const GemmCall& call;
  std::int64_t row, rows, panel_begin, panel_end;  // panels that are finished together
  float* rows_packed;
  float* panel_packed;
  float* sums;  // null when tiles write the output
  std::byte* scratch;
  Strip* strips;           // room for kMaxRows
  std::int64_t piece_end;  // of panels
  int strip_count = 0;
  const float* rows_at = nullptr;  // of the current step of depth
  bool along = false;              // a panel's steps of depth follow each other, not the panels of a step
  std::int64_t rows_stride = kPackedStride;

  // Columns that are finished together, of one sum.
  std::int64_t half_width() const {
    return std::min(panel_end * call.micro->nr, call.shape.columns) - panel_begin * call.micro->nr;
  }
  std::int64_t sums_stride() const { return call.shape.sums_per_result * half_width(); }

  const float* panel(std::int64_t half, std::int64_t p, std::int64_t k, std::int64_t length) const {
    const GemmShape& s = call.shape;
    const int nr = call.micro->nr;
    const std::int64_t panels = s.panels(*call.micro);
    if (call.packed)
      return call.packed + (k * s.sums_per_result * panels + (half * panels + p) * length) * nr;
    const std::int64_t column = p * nr;
    call.operands->pack_panel(half * s.columns + column, std::min<std::int64_t>(nr, s.columns - column), k,
                              length, nr, panel_packed);
    return panel_packed;
  }

  // What comes from further away than the tiles of a panel take to run through: the panel that follows in
  // memory. Where panels are packed here, its share of this step of depth.
  struct Ahead {
    const float* from;
    std::int64_t length, step;
  };
  Ahead ahead_of(std::int64_t half, std::int64_t p, std::int64_t k, std::int64_t length,
                 const void* b) const {
    const int nr = call.micro->nr;
    if (call.packed) return {static_cast<const float*>(b) + length * nr, length * nr, 16};
    const std::int64_t column = half * call.shape.columns + (p + 1) * nr;
    const float* const from = along && p + 1 < piece_end ? call.operands->panel_in_place(column) : nullptr;
    if (from == nullptr || (p + 2) * nr > call.shape.columns) return {nullptr, 0, 16};
    // Lines are asked for more than once rather than in bursts.
    const std::int64_t steps = strip_count * length,
                       step = std::clamp<std::int64_t>(length * nr / steps, 1, 16);
    return {from + k * nr, length * nr, step};
  }

  void tiles(std::int64_t half, std::int64_t p, std::int64_t k, std::int64_t length) const {
    const Micro& m = *call.micro;
    const GemmShape& s = call.shape;
    const std::int64_t column = p * m.nr, count = std::min<std::int64_t>(m.nr, s.columns - column);
    GemmTile tile;
    tile.b = panel(half, p, k, length);
    tile.k = length;
    tile.accumulate = k > 0;
    float bias[64];
    const bool last = k + length == s.depth;
    if (last && call.bias) {
      std::memset(bias, 0, sizeof bias);
      const std::int64_t at = (half * s.columns + column) * call.bias_stride;
      load_row(call.bias_dtype, element(call.bias, call.bias_dtype, at), call.bias_stride, bias, count);
      tile.bias = bias;
    }
    const bool finish = last && !sums, finish_after = last && call.epilogue->after_tile();
    if (finish) tile.limits = call.epilogue->limits();
    const int extra = call.epilogue->residual();
    const std::byte* residual = nullptr;
    if ((finish || finish_after) && extra >= 0) {
      residual = element(call.extras[extra], call.epilogue->residual_dtype(), column);
    }
    const Ahead ahead = ahead_of(half, p, k, length, tile.b);
    tile.next_step = ahead.step;
    float* const to =
        sums ? sums + half * half_width() + (p - panel_begin) * m.nr : static_cast<float*>(call.out) + column;
    const bool at_once = finish_after && k == 0;  // sums that no further step adds to need not be kept
    Epilogue::Tile results;
    results.n = count;
    const auto gemm = call.pairs ? m.gemm_bf16 : m.gemm_f32;
    std::int64_t fetched = 0;
    const std::int64_t following = !call.packed && !along && p + 1 < piece_end
                                       ? std::min<std::int64_t>(m.nr, s.columns - column - m.nr)
                                       : 0;
    for (int i = 0; i < strip_count; ++i) {
      const Strip& strip = strips[i];
      if (following > 0) {
        const Range share = split(following, strip_count, i);
        call.operands->fetch_columns(half * s.columns + column + m.nr + share.begin, share.end - share.begin,
                                     k, length);
      }
      tile.a = rows_at + strip.row * rows_stride;
      tile.a_stride = rows_stride;
      tile.c = at_once ? sums : to + (sums ? strip.row * sums_stride() : strip.out);
      tile.c_stride = at_once ? m.nr : sums ? sums_stride() : strip.out_step;
      if (finish && residual) tile.residual = reinterpret_cast<const float*>(residual) + strip.extra;
      tile.residual_stride = strip.extra_step;
      tile.next = fetched < ahead.length ? ahead.from + fetched : nullptr;
      fetched += length * ahead.step;
      gemm(strip.count, static_cast<int>(count), tile);
      if (finish) call.epilogue->apply_function(tile.c, tile.c_stride, strip.count, count, call.extras);
      if (!finish_after) continue;
      results.sums = tile.c;
      results.sums_step = tile.c_stride;
      results.rows = strip.count;
      if (residual) results.residual = element(residual, call.epilogue->residual_dtype(), strip.extra);
      results.residual_step = strip.extra_step;
      results.out = element(call.out, call.out_dtype, strip.out + column);
      results.out_step = strip.out_step;
      results.extras = call.extras;
      call.epilogue->finish_tile(results);
    }
  }

  // Tiles of rows, cut where rows of the output are not evenly spaced.
  void make_strips() {
    std::int64_t at[kMaxRows], extra_at[kMaxRows];
    if (sums && !call.epilogue->after_tile()) {
      for (std::int64_t i = 0; i < rows; ++i) at[i] = i * sums_stride();
      std::fill_n(extra_at, rows, 0);
    } else {
      call.operands->locate_rows(row, rows, call.epilogue->residual(), at, extra_at);
    }
    const std::int64_t pieces = (rows + call.micro->mr - 1) / call.micro->mr;
    for (std::int64_t piece = 0; piece < pieces; ++piece) {
      const Range range = split(rows, pieces, piece);
      for (std::int64_t i = range.begin; i < range.end;) {
        Strip strip{i, 1, at[i], 0, extra_at[i], 0};
        std::int64_t end = i + 1;
        if (end < range.end) {
          strip.out_step = at[end] - at[i];
          strip.extra_step = extra_at[end] - extra_at[i];
        }
        while (end < range.end && at[end] - at[end - 1] == strip.out_step &&
               extra_at[end] - extra_at[end - 1] == strip.extra_step)
          ++end;
        strip.count = static_cast<int>(end - i);
        strips[strip_count++] = strip;
        i = end;
      }
    }
  }

  // Rows are finished together as long as they are evenly spaced.
  void finish_rows() const {
    Epilogue::Rows together;
    std::int64_t first[kMaxExtras + 1], step[kMaxExtras + 1],
        at[kMaxExtras + 1];  // the output, then the extras
    const std::size_t places = call.epilogue->extras().size() + 1;
    for (std::int64_t i = 0; i < rows; ++i) {
      call.operands->locate(row + i, &at[0], &at[1]);
      const std::int64_t n = together.rows;
      bool even = n > 0;
      for (std::size_t k = 0; k < places && even; ++k) {
        if (n == 1) step[k] = at[k] - first[k];
        even = at[k] == first[k] + n * step[k];
      }
      if (!even) {
        if (n > 0) finish(together, i - n, first, step);
        std::copy_n(at, places, first);
        std::fill_n(step, places, 0);
        together.rows = 0;
      }
      ++together.rows;
    }
    if (together.rows > 0) finish(together, rows - together.rows, first, step);
  }

  void finish(Epilogue::Rows r, std::int64_t begin, const std::int64_t* first,
              const std::int64_t* step) const {
    const std::int64_t column = panel_begin * call.micro->nr;
    const auto& extras = call.epilogue->extras();
    r.sums = sums + begin * sums_stride();
    r.sums_step = sums_stride();
    r.apart = r.n = half_width();
    r.out = element(call.out, call.out_dtype, first[0] + column * call.out_stride);
    r.out_step = step[0];
    for (std::size_t k = 0; k < extras.size(); ++k) {
      const std::int64_t across = extras[k].strides[static_cast<std::size_t>(call.epilogue->column_dim())];
      r.at[k] = element(call.extras[k], extras[k].dtype, first[k + 1] + column * across);
      r.extra_steps[k] = step[k + 1];
    }
    call.epilogue->run_rows(r, scratch);
  }

  void run() {
    make_strips();
    const GemmShape& s = call.shape;
    const float* const in_place = call.operands->rows_in_place(row, rows, &rows_stride);
    // Panels one after the other where rows need not be packed and panels do: these lie along the depth.
    along = in_place && !call.packed && sums;
    for (std::int64_t p = panel_begin; along && p < panel_end; ++p) {
      for (std::int64_t half = 0; half < s.sums_per_result; ++half) steps(in_place, half, p, p + 1);
    }
    if (!along) steps(in_place, -1, panel_begin, panel_end);
    if (sums && !call.epilogue->after_tile()) finish_rows();
  }

  // All of the depth, for one half or all (-1).
  void steps(const float* in_place, std::int64_t half, std::int64_t begin, std::int64_t end) {
    const GemmShape& s = call.shape;
    // At least once: a sum of nothing is zero, and still gets its bias.
    for (std::int64_t k = 0; k == 0 || k < s.depth; k += kPackedK) {
      const std::int64_t length = std::min(kPackedK, s.depth - k);
      if (!in_place) call.operands->pack_rows(row, rows, k, length, rows_packed);
      rows_at = in_place ? in_place + k : rows_packed;
      const std::int64_t first = half < 0 ? 0 : half, last = half < 0 ? s.sums_per_result - 1 : half;
      for (std::int64_t h = first; h <= last; ++h) {
        for (std::int64_t p = begin; p < end; ++p) tiles(h, p, k, length);
      }
    }
  }
};

}  // namespace

void gemm_piece(const GemmCall& call, const GemmGrid& grid, std::int64_t piece, std::byte* scratch) {
  const Micro& m = *call.micro;
  const Range rows = split(call.shape.rows, grid.row_pieces, piece / grid.panel_pieces);
  const Range panels = split(call.shape.panels(m), grid.panel_pieces, piece % grid.panel_pieces);
  float* const rows_packed = reinterpret_cast<float*>(scratch);
  scratch += aligned(sizeof(float) * static_cast<std::size_t>(grid.block_rows * kPackedStride));
  float* const panel_packed = reinterpret_cast<float*>(scratch);
  scratch += aligned(sizeof(float) * static_cast<std::size_t>(m.nr * kPackedK));
  float* sums = nullptr;
  std::int64_t most = panels.end - panels.begin;
  if (!call.epilogue->in_tile()) {
    most = std::min(most, grid.block_panels);
    sums = reinterpret_cast<float*>(scratch);
    scratch += aligned(sizeof(float) *
                       static_cast<std::size_t>(grid.block_rows * call.shape.sums_per_result * most * m.nr));
  }
  Strip strips[kMaxRows];
  for (std::int64_t row = rows.begin; row < rows.end; row += grid.block_rows) {
    const std::int64_t n = std::min(grid.block_rows, rows.end - row);
    for (std::int64_t p = panels.begin; p < panels.end; p += most) {
      Block block{call, row,     n,      p,         std::min(p + most, panels.end), rows_packed, panel_packed,
                  sums, scratch, strips, panels.end};
      block.run();
    }
  }
}

void pack_panels(const Micro& micro, const GemmShape& shape, const GemmOperands& operands, float* to,
                 ThreadPool& pool) {
  const std::int64_t panels = shape.panels(micro), all = shape.sums_per_result * panels;
  pool.run(shape.steps() * all, [&](std::int64_t piece, int) {
    const std::int64_t k = piece / all * kPackedK, p = piece % all;
    const std::int64_t length = std::min(kPackedK, shape.depth - k), column = p % panels * micro.nr;
    operands.pack_panel(p / panels * shape.columns + column,
                        std::min<std::int64_t>(micro.nr, shape.columns - column), k, length, micro.nr,
                        to + (k * all + p * length) * micro.nr);
  });
}

}  // namespace npu::cpu
