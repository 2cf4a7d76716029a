#include "cpu/expression.h"

#include <algorithm>
#include <cstring>

#include "cpu/element.h"
#include "cpu/expression_build.h"
#include "cpu/strided.h"
#include "npu/error.h"

namespace npu::cpu {

namespace {

constexpr std::size_t kMost = 64;  // operands

// to[i] = from[at[i]]
void pick(const Micro& micro, std::size_t size, const std::byte* from, const std::int64_t* at, std::byte* to,
          std::int64_t n) {
  if (size == 4) return micro.pick_words(from, at, to, n);
  visit_size(size, [&](auto zero) {
    using T = decltype(zero);
    for (std::int64_t i = 0; i < n; ++i)
      reinterpret_cast<T*>(to)[i] = reinterpret_cast<const T*>(from)[at[i]];
  });
}

FusedFrom from_of(DType dtype) {
  return dtype == DType::kFloat16    ? FusedFrom::kF16
         : dtype == DType::kBFloat16 ? FusedFrom::kBF16
                                     : FusedFrom::kFloats;
}

FusedOp integer_load(DType dtype) {
  switch (dtype) {
    case DType::kInt8:
      return FusedOp::kLoadInt8;
    case DType::kUInt8:
      return FusedOp::kLoadUInt8;
    case DType::kInt16:
      return FusedOp::kLoadInt16;
    case DType::kInt32:
      return FusedOp::kLoadInt32;
    default:
      return FusedOp::kLoadInt64;
  }
}

}  // namespace

Expression::Expression(const Expr& expr, const std::vector<DType>& operands, DType out)
    : micro_(&micro()), operands_(operands), out_(out), integer_(integer_dtype(expr, operands, out)) {
  if (operands.size() > kMost) {
    throw Error(ErrorKind::kUnavailable, {.area = "cpu",
                                          .what = "an expression has too many operands",
                                          .got = std::to_string(operands.size()),
                                          .expected = "at most " + std::to_string(kMost),
                                          .action = {}});
  }
  // First the addresses of the operands, then what their registers hold, then registers.
  scratch_bytes_ = (operands.size() * (sizeof(void*) + sizeof(Loaded)) + 63) / 64 * 64;
  for (const DType dtype : operands) {
    registers_.push_back(static_cast<int>(scratch_bytes_));
    scratch_bytes_ += register_bytes(register_class(dtype));
  }
  as_stored_.assign(operands.size(), false);
  build(expr);
  cost_ += 0.5 * static_cast<double>(used_.size() + 1);
}

void Expression::begin(std::byte* scratch, std::int64_t longest) const {
  auto* loaded = reinterpret_cast<Loaded*>(scratch + operands_.size() * sizeof(void*));
  for (std::size_t k = 0; k < operands_.size(); ++k) loaded[k] = {nullptr, 0};
  const std::int64_t n = std::min(longest, kExprBlock);
  for (const Constant& constant : constants_) {
    std::byte* to = scratch + constant.slot;
    const std::int64_t count = constant.filled ? n : 1;
    if (constant.type == 'f') {
      std::fill_n(reinterpret_cast<float*>(to), count, static_cast<float>(constant.number));
    } else if (constant.type == 'i') {
      store_integers(integer_, &constant.integer, to, 1, 1);
      copy_row(to, 1, to, 0, count, size_of(integer_));
    } else {
      std::memset(to, constant.number != 0 ? 1 : 0, static_cast<std::size_t>(count));
    }
  }
}

void Expression::run(std::int64_t n, const void* const* operands, const std::int64_t* strides, void* out,
                     std::int64_t out_stride, std::byte* scratch) const {
  begin(scratch, n);
  if (n <= kExprBlock) {
    if (n > 0) run_tile({1, n, operands, nullptr, strides, nullptr, out, 0, out_stride}, scratch);
    return;
  }
  const void* moved[kMost];
  const auto out_step = out_stride * static_cast<std::int64_t>(size_of(out_));
  for (std::int64_t i = 0; i < n; i += kExprBlock) {
    for (const int k : used_) {
      moved[k] = static_cast<const std::byte*>(operands[k]) +
                 i * strides[k] * static_cast<std::int64_t>(size_of(operands_[static_cast<std::size_t>(k)]));
    }
    run_tile({1, std::min(kExprBlock, n - i), moved, nullptr, strides, nullptr,
              static_cast<std::byte*>(out) + i * out_step, 0, out_stride},
             scratch);
  }
}

// Rows that do not follow each other are walked one by one, operands that fused steps read as they are
// stored.
struct Expression::Rows {
  bool apart = false;
  bool direct = false;        // results need no further store
  std::uint64_t stored = 0;   // operands, as bits
  std::uint64_t columns = 0;  // of those, the ones whose register has a float for each row
};

// Results of 16 bits are rounded by the last step, if that is a fused one.
bool Expression::stores_directly() const {
  return out_ == native(out_type_) || (ends_fused_ && (out_ == DType::kFloat16 || out_ == DType::kBFloat16));
}

bool Expression::streams(const std::int64_t* strides, std::int64_t out_stride, bool one_row) const {
  if (steps_.size() != 1 || !stores_directly() || out_stride != 1 || !(ends_fused_ || one_row)) return false;
  return std::all_of(used_.begin(), used_.end(), [&](int k) {
    const auto at = static_cast<std::size_t>(k);
    if (!ends_fused_) return strides[k] == 1 && operands_[at] == native(register_class(operands_[at]));
    return as_stored_[at] && (strides[k] == 1 || strides[k] == 0);
  });
}

Expression::Rows Expression::rows_of(const Tile& tile) const {
  Rows rows;
  const bool long_enough = tile.rows == 1 || tile.n >= kShortestRow;
  for (const int k : used_) {
    const auto at = static_cast<std::size_t>(k);
    if (!as_stored_[at] || !long_enough || (tile.starts && tile.starts[k])) continue;
    const bool one = tile.strides[k] == 0 && tile.n > 1;
    if (tile.strides[k] != 1 && !one) continue;
    if (one && operands_[at] != DType::kFloat32) rows.columns |= std::uint64_t{1} << k;
    const bool follows = tile.strides[k] == 1 && (tile.rows == 1 || tile.row_strides[k] == tile.n);
    rows.stored |= std::uint64_t{1} << k;
    rows.apart |= !follows && tile.rows > 1;
  }
  const bool in_rows = !tile.out_starts && (tile.out_stride == 1 || tile.n == 1);
  const bool follows = tile.rows == 1 || tile.out_row_stride == tile.n;
  rows.direct = in_rows && stores_directly() && (follows || (ends_fused_ && long_enough));
  rows.apart |= rows.direct && !follows;
  return rows;
}

// Where a fused step finds an operand.
void Expression::find_operand(int k, const Tile& tile, const Rows& rows, std::byte* scratch,
                              FusedStep& to) const {
  const DType dtype = operands_[static_cast<std::size_t>(k)];
  const char type = register_class(dtype);
  const bool stored = (rows.stored >> k & 1) != 0;
  const std::int64_t row_stride = !stored ? tile.n : tile.rows > 1 ? tile.row_strides[k] : 0;
  const auto size = static_cast<std::int64_t>(size_of(stored ? dtype : native(type)));
  to.x = reinterpret_cast<std::byte* const*>(scratch)[k];
  to.step = size;
  to.row_step = row_stride * size;
  if (type == 'i') to.op = integer_load(stored ? dtype : native(type));
  if (!stored) return;
  to.x = const_cast<void*>(tile.operands[k]);
  to.from = from_of(dtype);
  if (tile.strides[k] != 0) return;
  to.step = 0;
  to.from = FusedFrom::kOne;
  if ((rows.columns >> k & 1) == 0) return;
  if (type == 'i') to.op = FusedOp::kLoad;
  to.x = scratch + registers_[static_cast<std::size_t>(k)];
  to.row_step = sizeof(float);
}

void Expression::run_fused(const Step& step, const Tile& tile, const Rows& rows, std::byte* out,
                           std::byte* scratch) const {
  FusedStep all[kMostFused];  // of which only those that are used are written
  for (std::size_t i = 0; i < step.count; ++i) {
    const FusedRef& ref = fused_[step.first + i];
    FusedStep& to = all[i];
    std::int64_t size = sizeof(float), row_stride = tile.n;
    to = {ref.op, FusedFrom::kFloats, 0, 0, nullptr};
    switch (ref.lies) {
      case Lies::kNowhere:
        continue;
      case Lies::kSaved:
        to.from = FusedFrom::kSaved;
        continue;
      case Lies::kLocal:
        to.x = scratch + ref.slot;
        continue;
      case Lies::kNumber:
        to.x = scratch + ref.slot;
        to.from = FusedFrom::kOne;
        continue;
      case Lies::kRegister:
        to.x = scratch + ref.slot;
        break;
      case Lies::kOut:
        to.x = out;
        if (!rows.direct) break;
        row_stride = tile.out_row_stride;
        if (out_ == DType::kFloat16) to.op = FusedOp::kStoreF16;
        if (out_ == DType::kBFloat16) to.op = FusedOp::kStoreBF16;
        size = static_cast<std::int64_t>(size_of(out_));
        break;
      case Lies::kOperand:
        find_operand(-1 - ref.slot, tile, rows, scratch, to);
        continue;
    }
    if (ref.op == FusedOp::kLoadBools || ref.op == FusedOp::kStoreBools) size = 1;
    to.step = size;
    to.row_step = row_stride * size;
  }
  const std::int64_t count = rows.apart ? tile.rows : 1;
  micro_->fused(all, static_cast<int>(step.count), count, rows.apart ? tile.n : total(tile));
}

// Blocks of the result and of operands; constants fill one.
void Expression::run_blocks(const Step& step, const std::byte** args, std::byte* y, std::int64_t n) const {
  const StepKinds kinds{integer_, out_ == DType::kFloat16 || out_ == DType::kBFloat16};
  for (; n > kExprBlock; n -= kExprBlock) {
    run_step(*micro_, kinds, step, args, y, kExprBlock);
    for (int k = 0; k < 3; ++k) {
      const char type = step.op != ExprOp::kWhere ? step.takes : k == 0 ? 'b' : step.gives;
      if (step.args[k] < 0) args[k] += register_bytes(type);
    }
    y += register_bytes(step.gives);
  }
  run_step(*micro_, kinds, step, args, y, n);
}

void Expression::run_tile(const Tile& tile, std::byte* scratch) const {
  const Rows rows = rows_of(tile);
  for (const int k : used_) {
    if ((rows.stored >> k & 1) == 0) {
      load(k, tile, scratch);
    } else if ((rows.columns >> k & 1) != 0) {
      load_column(k, tile, scratch);
    }
  }
  auto* const out = rows.direct ? static_cast<std::byte*>(tile.out) : scratch + out_slot_;
  const auto* const addresses = reinterpret_cast<const std::byte* const*>(scratch);
  const auto find = [&](int slot) -> const std::byte* {
    if (slot >= 0) return scratch + slot;
    return slot == kOutSlot ? out : addresses[-1 - slot];
  };
  const std::int64_t n = total(tile);
  for (const Step& step : steps_) {
    if (step.op == ExprOp::kIn) {
      run_fused(step, tile, rows, out, scratch);
      continue;
    }
    const std::byte* args[3];
    for (int k = 0; k < 3; ++k) args[k] = find(step.args[k]);
    run_blocks(step, args, step.out == kOutSlot ? out : scratch + step.out, n);
  }
  if (result_ != kOutSlot || !rows.direct) store(tile, find(result_));
}

void Expression::load(int operand, const Tile& tile, std::byte* scratch) const {
  const auto k = static_cast<std::size_t>(operand);
  const DType dtype = operands_[k];
  auto& address = reinterpret_cast<const std::byte**>(scratch)[k];
  const auto* from = static_cast<const std::byte*>(tile.operands[k]);
  const bool listed = tile.starts && tile.starts[k];
  const bool dense =
      !listed && (tile.strides[k] == 1 || tile.n == 1) && (tile.rows == 1 || tile.row_strides[k] == tile.n);
  if (dense && dtype == native(register_class(dtype))) {
    address = from;
    return;
  }
  address = scratch + registers_[k];
  Loaded& loaded = reinterpret_cast<Loaded*>(scratch + operands_.size() * sizeof(void*))[k];
  if (loaded.from == from && loaded.count >= total(tile)) return;
  load_rows(operand, tile, scratch + registers_[k]);
  loaded = {from, total(tile)};
}

// A float for each row, of an operand that has one element there.
void Expression::load_column(int operand, const Tile& tile, std::byte* scratch) const {
  const auto k = static_cast<std::size_t>(operand);
  load_floats(*micro_, operands_[k], tile.operands[k], tile.rows > 1 ? tile.row_strides[k] : 0, tile.rows,
              reinterpret_cast<float*>(scratch + registers_[k]));
  reinterpret_cast<Loaded*>(scratch + operands_.size() * sizeof(void*))[k] = {nullptr, 0};
}

void Expression::load_one(DType dtype, const std::byte* x, std::int64_t stride, std::int64_t n,
                          std::byte* y) const {
  const char type = register_class(dtype);
  if (type == 'f') {
    load_floats(*micro_, dtype, x, stride, n, reinterpret_cast<float*>(y));
  } else if (type == 'i' && dtype != integer_) {
    load_integers(dtype, x, stride, n, reinterpret_cast<std::int64_t*>(y));
  } else if (type == 'i') {
    copy_row(y, 1, x, stride, n, size_of(dtype));
  } else {
    load_bools(x, stride, n, reinterpret_cast<std::uint8_t*>(y));
  }
}

void Expression::load_rows(int operand, const Tile& tile, std::byte* to) const {
  const auto k = static_cast<std::size_t>(operand);
  const DType dtype = operands_[k];
  const auto* from = static_cast<const std::byte*>(tile.operands[k]);
  const auto size = static_cast<std::int64_t>(size_of(dtype));
  const std::int64_t stride = tile.strides[k];
  const std::int64_t* const starts = tile.starts ? tile.starts[k] : nullptr;
  if (starts && tile.n == 1) {
    const bool stored = dtype == native(register_class(dtype));
    std::byte elements[kExprBlock * sizeof(std::int64_t)];
    pick(*micro_, size_of(dtype), from, starts, stored ? to : elements, tile.rows);
    if (!stored) load_one(dtype, elements, 1, tile.rows, to);
    return;
  }
  if (!starts && (tile.rows == 1 || tile.row_strides[k] == stride * tile.n))
    return load_one(dtype, from, stride, total(tile), to);
  const auto bytes = tile.n * static_cast<std::int64_t>(size_of(native(register_class(dtype))));
  for (std::int64_t r = 0; r < tile.rows; ++r) {
    const std::int64_t start = starts ? starts[r] : r * tile.row_strides[k];
    if (r > 0 && !starts && start == 0) {
      std::memcpy(to + r * bytes, to, static_cast<std::size_t>(bytes));
    } else {
      load_one(dtype, from + start * size, stride, tile.n, to + r * bytes);
    }
  }
}

void Expression::store_one(const std::byte* x, std::byte* y, std::int64_t stride, std::int64_t n) const {
  if (out_type_ == 'f') {
    store_floats(*micro_, out_, reinterpret_cast<const float*>(x), y, stride, n);
  } else if (out_type_ == 'i' && out_ != integer_) {
    store_integers(out_, reinterpret_cast<const std::int64_t*>(x), y, stride, n);
  } else if (out_type_ == 'i') {
    copy_row(y, stride, x, 1, n, size_of(out_));
  } else {
    store_bools(reinterpret_cast<const std::uint8_t*>(x), y, stride, n);
  }
}

void Expression::store(const Tile& tile, const std::byte* from) const {
  auto* const out = static_cast<std::byte*>(tile.out);
  if (tile.out_starts && tile.n == 1) {
    std::byte elements[kExprBlock * sizeof(std::int64_t)];
    store_one(from, elements, 1, tile.rows);
    visit_size(size_of(out_), [&](auto zero) {
      using T = decltype(zero);
      for (std::int64_t r = 0; r < tile.rows; ++r)
        reinterpret_cast<T*>(out)[tile.out_starts[r]] = reinterpret_cast<const T*>(elements)[r];
    });
    return;
  }
  if (!tile.out_starts && (tile.rows == 1 || tile.out_row_stride == tile.n * tile.out_stride))
    return store_one(from, out, tile.out_stride, total(tile));
  const auto bytes = tile.n * static_cast<std::int64_t>(size_of(native(out_type_)));
  for (std::int64_t r = 0; r < tile.rows; ++r) {
    const std::int64_t start = tile.out_starts ? tile.out_starts[r] : r * tile.out_row_stride;
    store_one(from + r * bytes, element(out, out_, start), tile.out_stride, tile.n);
  }
}

}  // namespace npu::cpu
