// A reduction of what an elementwise expression gives, which is computed a block at a time and never stored.
#include <algorithm>
#include <cstring>
#include <limits>

#include "core/program/expr_simplify.h"
#include "cpu/expression.h"
#include "cpu/ops/reduce.h"

namespace npu::cpu {

namespace {

using Kind = ReduceAttrs::Kind;

// Elements of a block, where the expression holds none of them in registers: rows of 256 floats, squared and
// summed, take 32 ns each, and 46 in blocks of kExprBlock (AVX-512).
constexpr std::int64_t kLongBlock = 2048;
constexpr std::int64_t kShortest = 8;        // elements of a row that are loaded together
constexpr std::int64_t kFewestColumns = 64;  // that are worth a row of their own
constexpr std::int64_t kFewestSquares = 32;  // of a row that is summed by itself
constexpr std::int64_t kSquares = 64;        // summed in float32 before a sum goes on in double
constexpr std::int64_t kRows = 64;           // of columns, combined in float32 before a sum goes on in double

// What has been combined so far.
struct Total {
  double number = 0;
  std::int64_t integer = 0;
};

bool is_square(const Expr& source) {
  const Expr expr = with_simple_powers(source);
  return expr.size() == 2 && expr[0].op == ExprOp::kIn && expr[1].op == ExprOp::kMul &&
         expr[1].args[0] == 0 && expr[1].args[1] == 0;
}

class MapReduce : public HostKernel {
 public:
  MapReduce(const KernelRequest& r, const Expr& expr, const std::vector<DType>& dtypes, DType between)
      : kind_(std::get<ReduceAttrs>(r.op.attrs).kind),
        between_(between),
        y_dtype_(r.outputs[0].dtype),
        micro_(&micro()),
        expression_(expr, dtypes, between),
        threads_(r.threads),
        squares_(sums() && between == DType::kFloat32 && dtypes[0] == between && is_square(expr)) {
    const auto& axes = std::get<ReduceAttrs>(r.op.attrs).axes;
    const Shape& shape = r.inputs[0].shape;
    std::vector<bool> drop(shape.size(), false);
    for (const std::int64_t axis : axes) drop[static_cast<std::size_t>(axis)] = true;
    std::vector<bool> keep = drop;
    keep.flip();
    std::vector<Shape> outer = {without(r.outputs[0].strides, drop)}, inner = {Shape(shape.size(), 0)};
    inner[0] = without(inner[0], keep);
    for (const TensorDesc& x : r.inputs) {
      outer.push_back(without(x.strides, drop));
      inner.push_back(without(x.strides, keep));
      sizes_.push_back(static_cast<std::int64_t>(size_of(x.dtype)));
    }
    kept_ = make_nest(without(shape, drop), outer);
    const std::vector<Shape> operands(inner.begin() + 1, inner.end());
    reduced_ = make_nest(without(shape, keep), operands);
    elements_ = reduced_.elements();
    choose_form();
    thread_bytes_ = static_cast<std::size_t>(block_) * (sizeof(std::int64_t) + sizeof(float)) +
                    kExprBlock * (sizeof(double) + sizeof(float)) + round_up(expression_.scratch_bytes());
  }

  std::string name() const override { return "reduce[map + " + kind_name(kind_) + "]"; }
  std::size_t fused_ops() const override { return fits_ ? 1 : 0; }
  std::size_t scratch_bytes() const override { return thread_bytes_ * static_cast<std::size_t>(threads_); }
  double flops() const override {
    return (1 + expression_.cost()) * static_cast<double>(kept_.elements() * elements_);
  }

  void run(const KernelArgs& args, ThreadPool& pool) const override {
    pool.run(pieces_, [&](std::int64_t piece, int thread) {
      Room room(args.scratch + thread_bytes_ * static_cast<std::size_t>(thread), block_);
      const Range range = split(units_, pieces_, piece);
      if (columns_) {
        run_columns(args, range, room);
      } else if (together_) {
        run_together(args, range, room);
      } else {
        run_apart(args, range, room);
      }
    });
  }

 private:
  struct Room {
    Room(std::byte* scratch, std::int64_t longest)
        : block(scratch),
          sums(reinterpret_cast<double*>(block + longest * static_cast<std::int64_t>(sizeof(std::int64_t)))),
          part(reinterpret_cast<float*>(sums + kExprBlock)),
          row(part + kExprBlock),
          rest(reinterpret_cast<std::byte*>(row + longest)) {}
    std::byte* block;  // what the expression gives
    double* sums;      // of columns
    float *part, *row;
    std::byte* rest;  // the expression's
  };

  bool sums() const { return kind_ == Kind::kSum || kind_ == Kind::kMean; }

  void choose_form() {
    const bool floats = is_float(between_) && (sums() || kind_ == Kind::kMax || kind_ == Kind::kMin);
    const auto step = [&](const Nest& nest, std::size_t first) {  // the least regular operand's
      std::int64_t most = 0;
      for (std::size_t k = first; k < nest.strides.size(); ++k)
        most = std::max(most, std::abs(nest.step(static_cast<int>(k))));
      return most;
    };
    const bool across = step(kept_, 1) == 1 && step(reduced_, 0) > 1;
    columns_ = floats && across && kept_.inner() >= kFewestColumns;
    block_ = longest_block(columns_ ? kept_ : reduced_, columns_ ? 1 : 0);
    squares_ = squares_ && !columns_ && reduced_.step(0) == 1 && reduced_.inner() >= kFewestSquares;
    together_ = !columns_ && !squares_ && elements_ <= block_ / 2 && kept_.rank + reduced_.rank <= kMaxRank;
    fits_ = kept_.rows > 0 && reduced_.rows > 0 && (columns_ || !across || kept_.inner() == 1);
    if (!fits_) return;
    const auto starts_of = [&](const Tiling& tiling, std::size_t first) {
      for (std::size_t k = first; k < tiling.starts.size(); ++k)
        starts_.push_back(tiling.starts[k].empty() ? nullptr : tiling.starts[k].data());
    };
    if (together_) {
      tiling_ = tiling_of(side_by_side(), 1);
      together_ = elements_ <= block_ / 2;  // a block of uneven rows is shorter
    }
    double cost = expression_.cost() + 1;
    if (columns_) {
      blocks_ = (kept_.inner() + kExprBlock - 1) / kExprBlock;
      units_ = kept_.rows * blocks_;
      cost *= static_cast<double>(elements_ * std::min(kept_.inner(), kExprBlock));
      for (std::size_t k = 1; k < kept_.strides.size(); ++k)
        steps_.push_back(kept_.step(static_cast<int>(k)));
    } else if (together_) {
      starts_of(tiling_, 1);
      units_ = tiling_.outer.rows;
      cost *= static_cast<double>(tiling_.rows * tiling_.n);
    } else {
      tiling_ = tiling_of(reduced_, 0);
      starts_of(tiling_, 0);
      units_ = kept_.elements();
      cost *= static_cast<double>(elements_);
    }
    pieces_ = piece_count(units_, cost, threads_);
  }

  // Of rows of a nest whose operands come after `first` others.
  std::int64_t longest_block(const Nest& nest, std::size_t first) const {
    std::vector<std::int64_t> steps;
    for (std::size_t k = first; k < nest.strides.size(); ++k) steps.push_back(nest.step(static_cast<int>(k)));
    const bool streams =
        nest.inner() >= Expression::kShortestRow && expression_.streams(steps.data(), 1, false);
    return streams ? kLongBlock : kExprBlock;
  }

  // Rows that are not evenly spaced are loaded into registers.
  Tiling tiling_of(const Nest& nest, std::size_t first) {
    Tiling tiling(nest, kShortest, block_);
    const bool even = std::all_of(tiling.starts.begin() + static_cast<std::ptrdiff_t>(first),
                                  tiling.starts.end(), [](const auto& starts) { return starts.empty(); });
    if (even || block_ == kExprBlock) return tiling;
    block_ = kExprBlock;
    return Tiling(nest, kShortest, block_);
  }

  // The dimensions that are kept, then the others.
  Nest side_by_side() const {
    Nest all = kept_;
    all.rank += reduced_.rank;
    all.rows = kept_.elements() * reduced_.rows;
    for (int d = 0; d < reduced_.rank; ++d) {
      const int to = kept_.rank + d;
      all.extent[to] = reduced_.extent[d];
      all.strides[0][to] = 0;
      for (std::size_t k = 0; k < reduced_.strides.size(); ++k)
        all.strides[k + 1][to] = reduced_.strides[k][d];
    }
    return all;
  }

  // Combines n elements of a block.
  void add(Total& total, const std::byte* block, std::int64_t n, const Room& room) const {
    if (!is_float(between_)) {
      const ExprOp op = sums()                                       ? ExprOp::kAdd
                        : kind_ == Kind::kAny                        ? ExprOp::kOr
                        : kind_ == Kind::kMax                        ? ExprOp::kMax
                        : kind_ == Kind::kMin || kind_ == Kind::kAll ? ExprOp::kMin
                                                                     : ExprOp::kMul;
      const std::int64_t part = micro_->fold_integers(op, between_, block, n, total.integer);
      total.integer = op == ExprOp::kMax   ? std::max(total.integer, part)
                      : op == ExprOp::kMin ? std::min(total.integer, part)
                                           : part;
      return;
    }
    if (sums()) {
      total.number += micro_->sum_stored(between_, block, n);
      return;
    }
    const float* const row = float_row(*micro_, between_, block, 1, n, room.row);
    if (kind_ == Kind::kProd) {
      total.number *= micro_->product(row, n);
      return;
    }
    const auto best =
        static_cast<double>(kind_ == Kind::kMax ? micro_->maximum(row, n) : micro_->minimum(row, n));
    const bool better = kind_ == Kind::kMax ? best > total.number : best < total.number;
    if (better || best != best) total.number = best;
  }

  Total start() const {
    constexpr double kInfinity = std::numeric_limits<double>::infinity();
    using Limits = std::numeric_limits<std::int64_t>;
    switch (kind_) {
      case Kind::kProd:
        return {1, 1};
      case Kind::kMax:
        return {-kInfinity, Limits::min()};
      case Kind::kMin:
        return {kInfinity, Limits::max()};
      case Kind::kAll:
        return {0, 1};
      default:
        return {};
    }
  }

  void store(const Total& total, void* y) const {
    if (!is_float(y_dtype_)) return store_integers(y_dtype_, &total.integer, y, 1, 1);
    const bool mean = kind_ == Kind::kMean;
    const auto rounded =
        static_cast<float>(mean ? total.number / static_cast<double>(elements_) : total.number);
    if (y_dtype_ == DType::kFloat32) return static_cast<void>(std::memcpy(y, &rounded, sizeof rounded));
    store_floats(*micro_, y_dtype_, &rounded, y, 1, 1);
  }

  // Where each operand is after a step of a cursor; `first` is the cursor's number of the first one.
  void locate(const KernelArgs& args, const std::int64_t* before, const Cursor& cursor, int first,
              const void** operands) const {
    for (std::size_t k = 0; k < sizes_.size(); ++k) {
      const std::int64_t offset = cursor.offset[static_cast<int>(k) + first] + (before ? before[k] : 0);
      operands[k] = static_cast<const std::byte*>(args.inputs[k]) + offset * sizes_[k];
    }
  }

  Expression::Tile tile_of(const void* const* operands, int first, std::byte* block) const {
    return {.n = tiling_.n,
            .operands = operands,
            .row_strides = tiling_.row_steps.data() + first,
            .strides = tiling_.steps.data() + first,
            .starts = starts_.data(),
            .out = block,
            .out_row_stride = tiling_.n};
  }

  // Several short results in a block.
  void run_together(const KernelArgs& args, Range range, const Room& room) const {
    const Tiling& t = tiling_;
    const void* operands[kMaxOperands];
    Expression::Tile tile = tile_of(operands, 1, room.block);
    expression_.begin(room.rest, t.n * t.rows * std::min(t.most, range.end - range.begin));
    const auto bytes = static_cast<std::int64_t>(size_of(between_));
    const std::int64_t rows_each = elements_ / t.n;
    Cursor cursor(t.outer, range.begin);
    for (std::int64_t block = range.begin; block < range.end;) {
      const std::int64_t count = std::min({t.most, cursor.left(), range.end - block});
      tile.rows = count * t.rows;
      locate(args, nullptr, cursor, 1, operands);
      expression_.run_tile(tile, room.rest);
      for (std::int64_t row = 0, i = 0; row < tile.rows; row += rows_each, i += elements_) {
        Total total = start();
        add(total, room.block + i * bytes, elements_, room);
        const std::int64_t to =
            t.starts[0].empty() ? row * t.row_steps[0] : t.starts[0][static_cast<std::size_t>(row)];
        store(total, element(args.outputs[0], y_dtype_, cursor.offset[0] + to));
      }
      block += count;
      cursor.advance(count);
    }
  }

  // One result after the other.
  void run_apart(const KernelArgs& args, Range range, const Room& room) const {
    const void* operands[kMaxOperands];
    std::int64_t before[kMaxOperands];
    Expression::Tile tile = tile_of(operands, 0, room.block);
    expression_.begin(room.rest, kExprBlock);
    const std::int64_t width = kept_.inner();
    std::int64_t i = range.begin % width;
    Cursor result(kept_, range.begin / width);
    for (std::int64_t u = range.begin; u < range.end; ++u) {
      for (std::size_t k = 0; k < sizes_.size(); ++k) {
        const int operand = static_cast<int>(k) + 1;
        before[k] = result.offset[operand] + i * kept_.step(operand);
      }
      Total total = start();
      if (squares_) {
        add_squares(static_cast<const float*>(args.inputs[0]) + before[0], total);
      } else {
        add_all(args, before, operands, tile, total, room);
      }
      store(total, element(args.outputs[0], y_dtype_, result.offset[0] + i * kept_.step(0)));
      if (++i == width) result.advance(), i = 0;
    }
  }

  // Rows of any length, without their squares in between.
  void add_squares(const float* x, Total& total) const {
    Cursor cursor(reduced_, 0);
    for (std::int64_t row = 0; row < reduced_.rows; ++row, cursor.advance()) {
      for (std::int64_t i = 0; i < reduced_.inner(); i += kSquares) {
        const std::int64_t n = std::min(kSquares, reduced_.inner() - i);
        total.number += micro_->sum_squares(x + cursor.offset[0] + i, 0.0f, n);
      }
    }
  }

  void add_all(const KernelArgs& args, const std::int64_t* before, const void** operands,
               Expression::Tile& tile, Total& total, const Room& room) const {
    const Tiling& t = tiling_;
    Cursor cursor(t.outer, 0);
    if (t.n > block_) {  // parts of long rows
      std::int64_t moved[kMaxOperands];
      for (std::int64_t row = 0; row < t.outer.rows; ++row, cursor.advance()) {
        for (std::int64_t first = 0; first < t.n; first += block_) {
          tile.n = std::min(block_, t.n - first);
          for (std::size_t k = 0; k < sizes_.size(); ++k) moved[k] = before[k] + first * t.steps[k];
          locate(args, moved, cursor, 0, operands);
          expression_.run_tile(tile, room.rest);
          add(total, room.block, tile.n, room);
        }
      }
      return;
    }
    for (std::int64_t block = 0; block < t.outer.rows;) {
      const std::int64_t count = std::min({t.most, cursor.left(), t.outer.rows - block});
      tile.rows = count * t.rows;
      locate(args, before, cursor, 0, operands);
      expression_.run_tile(tile, room.rest);
      add(total, room.block, tile.rows * t.n, room);
      block += count;
      cursor.advance(count);
    }
  }

  // Results that are neighbours, row by row of what they are made of.
  void run_columns(const KernelArgs& args, Range range, const Room& room) const {
    constexpr float kInfinity = std::numeric_limits<float>::infinity();
    const void* operands[kMaxOperands];
    std::int64_t before[kMaxOperands];
    const ExprOp op = sums() ? ExprOp::kAdd : kind_ == Kind::kMax ? ExprOp::kMax : ExprOp::kMin;
    const float none = sums() ? 0 : kind_ == Kind::kMax ? -kInfinity : kInfinity;
    std::vector<std::int64_t> row_steps;
    for (std::size_t k = 0; k < sizes_.size(); ++k) row_steps.push_back(reduced_.step(static_cast<int>(k)));
    Cursor result(kept_, range.begin / blocks_);
    for (std::int64_t u = range.begin; u < range.end; ++u) {
      const std::int64_t first = u % blocks_ * kExprBlock, n = std::min(kExprBlock, kept_.inner() - first);
      for (std::size_t k = 0; k < sizes_.size(); ++k)
        before[k] = result.offset[static_cast<int>(k) + 1] + first * steps_[k];
      const std::int64_t most = n < Expression::kShortestRow ? kExprBlock : block_;  // the last columns
      expression_.begin(room.rest, block_);
      std::fill_n(room.sums, n, 0.0);
      std::fill_n(room.part, n, none);
      std::int64_t rows = 0;
      Cursor cursor(reduced_, 0);
      std::int64_t moved[kMaxOperands];
      Expression::Tile tile{.n = n,
                            .operands = operands,
                            .row_strides = row_steps.data(),
                            .strides = steps_.data(),
                            .out = room.block,
                            .out_row_stride = n};
      for (std::int64_t row = 0; row < reduced_.rows; ++row, cursor.advance()) {
        for (std::int64_t i = 0; i < reduced_.inner(); i += tile.rows) {
          tile.rows = std::min(most / n, reduced_.inner() - i);
          for (std::size_t k = 0; k < sizes_.size(); ++k) moved[k] = before[k] + i * row_steps[k];
          locate(args, moved, cursor, 0, operands);
          expression_.run_tile(tile, room.rest);
          const float* values = float_row(*micro_, between_, room.block, 1, tile.rows * n, room.row);
          for (std::int64_t r = 0; r < tile.rows; ++r, values += n) {
            micro_->binary(op, values, room.part, room.part, n);
            if (sums() && ++rows == kRows) flush(room, n), rows = 0;
          }
        }
      }
      if (sums()) flush(room, n);
      finish_columns(room, n);
      store_floats(*micro_, y_dtype_, room.part,
                   element(args.outputs[0], y_dtype_, result.offset[0] + first * kept_.step(0)),
                   kept_.step(0), n);
      if (u % blocks_ == blocks_ - 1) result.advance();
    }
  }

  static void flush(const Room& room, std::int64_t n) {
    for (std::int64_t i = 0; i < n; ++i) room.sums[i] += static_cast<double>(room.part[i]);
    std::fill_n(room.part, n, 0.0f);
  }
  void finish_columns(const Room& room, std::int64_t n) const {
    if (!sums()) return;
    const double divisor = kind_ == Kind::kMean ? static_cast<double>(elements_) : 1.0;
    for (std::int64_t i = 0; i < n; ++i) room.part[i] = static_cast<float>(room.sums[i] / divisor);
  }

  Kind kind_;
  DType between_, y_dtype_;  // of what the expression gives, and of the result
  const Micro* micro_;
  Expression expression_;
  int threads_;
  std::vector<std::int64_t> sizes_;  // of the operands' elements
  Nest kept_, reduced_;              // of y and the operands; of the operands
  std::int64_t elements_ = 0, units_ = 0, pieces_ = 0, blocks_ = 1;
  std::int64_t block_ = kExprBlock;  // elements of a tile, at most
  bool squares_;                     // of one operand, which are summed
  bool columns_ = false, together_ = false, fits_ = false;
  Tiling tiling_;
  std::vector<const std::int64_t*> starts_;  // of the tiling, by operand
  std::vector<std::int64_t> steps_;          // along columns
  std::size_t thread_bytes_ = 0;
};

// The dtype of what the map gives, if that follows from the reduction.
bool between_of(const Expr& expr, Kind kind, DType y, DType* between) {
  const char type = expr.back().type;
  const bool extreme = kind == Kind::kMax || kind == Kind::kMin;
  if (type == 'b') {
    *between = DType::kBool;
    return kind == Kind::kSum || kind == Kind::kAny || kind == Kind::kAll || extreme;
  }
  *between = y;
  if (type == 'i') return extreme;
  return is_float(y) && (extreme || kind == Kind::kSum || kind == Kind::kMean || kind == Kind::kProd);
}

}  // namespace

KernelPtr make_map_reduce(const KernelRequest& r) {
  const Expr& expr = std::get<MapAttrs>(r.fused[0]->attrs).expr;
  const auto& attrs = std::get<ReduceAttrs>(r.op.attrs);
  DType between;
  if (r.fused.size() != 1 || r.inputs.empty() || r.inputs.size() >= kMaxOperands ||
      !between_of(expr, attrs.kind, r.outputs[0].dtype, &between)) {
    return nullptr;
  }
  // One thread computes a result: too few results would leave the others idle.
  if (r.threads > 1 && r.outputs[0].elements() < r.threads) return nullptr;
  std::vector<DType> dtypes;
  for (const TensorDesc& x : r.inputs) dtypes.push_back(x.dtype);
  return std::make_unique<MapReduce>(r, expr, dtypes, between);
}

}  // namespace npu::cpu
