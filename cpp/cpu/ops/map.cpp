#include "cpu/element.h"
#include "cpu/expression.h"
#include "cpu/ops/ops.h"
#include "cpu/strided.h"

namespace npu::cpu {

namespace {

// Elements of a long row that one unit of work takes: some microseconds. 4096 to 65536 are
// level for an expression of 1 M elements.
constexpr std::int64_t kChunk = 16384;
// Rows up to this long share a block: rows of 64 take 82 us so, alone 140; rows of 256 77 and 85 (AVX-512).
constexpr std::int64_t kShort = 256;
constexpr std::int64_t kShortest = 8;  // elements of a row that are loaded together

class Map : public HostKernel {
 public:
  explicit Map(const KernelRequest& r)
      : expression_(std::get<MapAttrs>(r.op.attrs).expr, dtypes(r.inputs), r.outputs[0].dtype),
        nest_(make_nest(r.outputs[0].shape, strides(r))),
        threads_(r.threads) {
    const std::int64_t n = nest_.inner();
    chunks_ = std::max<std::int64_t>(1, (n + kChunk - 1) / kChunk);
    pieces_ = piece_count(nest_.rows * chunks_, expression_.cost() * static_cast<double>(std::min(n, kChunk)),
                          threads_);
    sizes_.push_back(static_cast<std::int64_t>(size_of(r.outputs[0].dtype)));
    for (const auto& x : r.inputs) sizes_.push_back(static_cast<std::int64_t>(size_of(x.dtype)));
    for (std::size_t k = 0; k < r.inputs.size(); ++k) steps_.push_back(nest_.step(static_cast<int>(k) + 1));
    const bool streams = (n >= Expression::kShortestRow || nest_.rank == 1) &&
                         expression_.streams(steps_.data(), nest_.step(0), nest_.rank == 1);
    if (streams) {
      block_ = kChunk;
      most_rows_ = std::clamp<std::int64_t>(kChunk / std::max<std::int64_t>(n, 1), 1, kExprBlock);
      const auto outer = static_cast<std::size_t>(std::max(nest_.rank - 2, 0));
      for (const auto& all : nest_.strides) row_steps_.push_back(nest_.rank > 1 ? all[outer] : 0);
    } else if (nest_.rows > 0 && n <= kShort && nest_.rank > 1) {
      tiling_.emplace(nest_, kShortest, kExprBlock);
      for (std::size_t k = 1; k < tiling_->starts.size(); ++k) {
        const auto& starts = tiling_->starts[k];
        starts_.push_back(starts.empty() ? nullptr : starts.data());
      }
      const double block = static_cast<double>(tiling_->rows * tiling_->n);
      pieces_ = piece_count(tiling_->outer.rows, expression_.cost() * block, threads_);
    }
    thread_bytes_ = round_up(expression_.scratch_bytes());
  }

  std::string name() const override { return "map"; }
  std::size_t scratch_bytes() const override { return thread_bytes_ * static_cast<std::size_t>(threads_); }
  double flops() const override { return expression_.cost() * static_cast<double>(nest_.elements()); }

  void run(const KernelArgs& args, ThreadPool& pool) const override {
    if (nest_.rows == 0) return;
    pool.run(pieces_, [&](std::int64_t piece, int thread) {
      std::byte* scratch = args.scratch + thread_bytes_ * static_cast<std::size_t>(thread);
      if (tiling_) {
        run_tiles(args, split(tiling_->outer.rows, pieces_, piece), scratch);
      } else {
        run_rows(args, split(nest_.rows * chunks_, pieces_, piece), scratch);
      }
    });
  }

 private:
  static std::vector<DType> dtypes(const std::vector<TensorDesc>& inputs) {
    std::vector<DType> all;
    for (const auto& x : inputs) all.push_back(x.dtype);
    return all;
  }
  static std::vector<Shape> strides(const KernelRequest& r) {
    if (r.inputs.size() >= kMaxOperands) unavailable(r.op, std::to_string(r.inputs.size()) + " operands");
    std::vector<Shape> all = {r.outputs[0].strides};
    for (const auto& x : r.inputs) all.push_back(x.strides);
    return all;
  }

  // Fills in where the tile starts, `skip` elements after the cursor's row.
  void locate(const KernelArgs& args, const Cursor& cursor, std::int64_t skip, const void** operands,
              Expression::Tile& tile) const {
    const std::size_t count = steps_.size();
    for (std::size_t k = 0; k < count; ++k) {
      operands[k] = static_cast<const std::byte*>(args.inputs[k]) +
                    (cursor.offset[k + 1] + skip * steps_[k]) * sizes_[k + 1];
    }
    tile.out =
        static_cast<std::byte*>(args.outputs[0]) + (cursor.offset[0] + skip * nest_.step(0)) * sizes_[0];
  }

  void run_rows(const KernelArgs& args, Range range, std::byte* scratch) const {
    const void* operands[kMaxOperands];
    Expression::Tile tile{.operands = operands, .strides = steps_.data(), .out_stride = nest_.step(0)};
    if (!row_steps_.empty()) {
      tile.row_strides = row_steps_.data() + 1;
      tile.out_row_stride = row_steps_[0];
    }
    expression_.begin(scratch, nest_.inner());
    Cursor cursor(nest_, range.begin / chunks_);
    for (std::int64_t unit = range.begin; unit < range.end; unit += tile.rows) {
      const std::int64_t chunk = unit % chunks_, end = std::min(nest_.inner(), (chunk + 1) * kChunk);
      tile.rows = chunks_ > 1 ? 1 : std::min({most_rows_, cursor.left(), range.end - unit});
      for (std::int64_t i = chunk * kChunk; i < end; i += block_) {
        tile.n = std::min(block_, end - i);
        locate(args, cursor, i, operands, tile);
        expression_.run_tile(tile, scratch);
      }
      if (chunk == chunks_ - 1) cursor.advance(tile.rows);
    }
  }

  void run_tiles(const KernelArgs& args, Range range, std::byte* scratch) const {
    const Tiling& t = *tiling_;
    const void* operands[kMaxOperands];
    Expression::Tile tile{.n = t.n,
                          .operands = operands,
                          .row_strides = t.row_steps.data() + 1,
                          .strides = t.steps.data() + 1,
                          .starts = starts_.data(),
                          .out_row_stride = t.row_steps[0],
                          .out_stride = t.steps[0],
                          .out_starts = t.starts[0].empty() ? nullptr : t.starts[0].data()};
    expression_.begin(scratch, t.n * t.rows * std::min(t.most, range.end - range.begin));
    Cursor cursor(t.outer, range.begin);
    for (std::int64_t block = range.begin; block < range.end;) {
      const std::int64_t count = std::min({t.most, cursor.left(), range.end - block});
      tile.rows = count * t.rows;
      locate(args, cursor, 0, operands, tile);
      expression_.run_tile(tile, scratch);
      block += count;
      cursor.advance(count);
    }
  }

  Expression expression_;
  Nest nest_;
  int threads_;
  std::int64_t chunks_ = 1, pieces_ = 1;
  std::int64_t block_ = kExprBlock, most_rows_ = 1;  // of one tile
  std::optional<Tiling> tiling_;
  std::vector<std::int64_t> sizes_;  // of the output's elements, then the operands'
  std::vector<std::int64_t> steps_;
  std::vector<std::int64_t> row_steps_;      // from row to row, where tiles have several
  std::vector<const std::int64_t*> starts_;  // of the tiling, by operand
  std::size_t thread_bytes_ = 0;
};

}  // namespace

KernelPtr make_map(const KernelRequest& request) { return std::make_unique<Map>(request); }

}  // namespace npu::cpu
