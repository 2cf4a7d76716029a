#include "cpu/expression.h"

#include <algorithm>
#include <climits>
#include <cstring>

#include "core/program/expr_simplify.h"
#include "cpu/element.h"
#include "npu/error.h"

namespace npu::cpu {

namespace {

// A slot is a byte offset in the scratch, kOutSlot for the output, or -1 - k for operand k.
constexpr int kOutSlot = INT_MIN;

constexpr std::size_t kMost = 64;  // operands

constexpr int register_bytes(char type) {
  return static_cast<int>(kExprBlock) * (type == 'f' ? 4 : type == 'i' ? 8 : 1);
}

DType native(char type) { return type == 'f' ? DType::kFloat32 : type == 'i' ? DType::kInt64 : DType::kBool; }

double step_cost(const Expression::Step& step) {
  switch (step.op) {
    case ExprOp::kExp:
    case ExprOp::kLog:
    case ExprOp::kTanh:
    case ExprOp::kErf:
    case ExprOp::kSigmoid:
    case ExprOp::kSilu:
    case ExprOp::kGelu:
    case ExprOp::kGeluTanh:
      return 6;
    case ExprOp::kAdd:
    case ExprOp::kSub:
    case ExprOp::kMul:
    case ExprOp::kMax:
    case ExprOp::kMin:
    case ExprOp::kWhere:
    case ExprOp::kNeg:
    case ExprOp::kAbs:
    case ExprOp::kRelu:
      return 1;
    default:
      break;
  }
  return step.op > ExprOp::kRelu ? 16 : 2;
}

}  // namespace

// Turns an expression into steps with slots, reusing registers whose value is no longer needed.
struct Expression::Builder {
  Expression& result;
  Expr expr;
  std::vector<int> alias, last_use, slots;
  std::vector<bool> live;
  std::vector<int> free_f, free_i, free_b;

  std::vector<int>& free_list(char type) { return type == 'f' ? free_f : type == 'i' ? free_i : free_b; }

  int allocate(char type) {
    auto& list = free_list(type);
    if (list.empty()) return allocate_fresh(type);
    const int offset = list.back();
    list.pop_back();
    return offset;
  }

  int allocate_fresh(char type) {
    const int offset = static_cast<int>(result.scratch_bytes_);
    result.scratch_bytes_ += static_cast<std::size_t>(register_bytes(type));
    return offset;
  }

  void find_uses() {
    const int n = static_cast<int>(expr.size());
    alias.resize(expr.size());
    last_use.assign(expr.size(), -1);
    live.assign(expr.size(), false);
    for (int i = 0; i < n; ++i) {
      const ExprStep& step = expr[i];
      alias[i] = i;
      if (step.op == ExprOp::kCast && step.dtype == native(expr[step.args[0]].type))
        alias[i] = alias[step.args[0]];
    }
    live[alias[n - 1]] = true;
    last_use[alias[n - 1]] = n;
    for (int i = n - 1; i >= 0; --i) {
      if (!live[i]) continue;
      for (const int arg : expr[i].args) {
        if (arg < 0) continue;
        live[alias[arg]] = true;
        last_use[alias[arg]] = std::max(last_use[alias[arg]], i);
      }
    }
  }

  void build() {
    expr = with_simple_powers(expr);
    find_uses();
    slots.assign(expr.size(), 0);
    const int last = alias[expr.size() - 1];
    for (int i = 0; i < static_cast<int>(expr.size()); ++i) {
      if (live[i]) build_step(i, i == last);
    }
    result.out_type_ = expr.back().type;
    result.result_ = slots[last];
  }

  void build_step(int i, bool is_last) {
    const ExprStep& step = expr[i];
    if (step.op == ExprOp::kIn) {
      slots[i] = -1 - step.operand;
      if (std::find(result.used_.begin(), result.used_.end(), step.operand) == result.used_.end()) {
        result.used_.push_back(step.operand);
      }
      return;
    }
    if (step.op == ExprOp::kConst) {
      // Filled once for many tiles: no step may ever write there.
      slots[i] = allocate_fresh(step.type);
      result.constants_.push_back({slots[i], step.type, step.number, step.integer});
      return;
    }
    Step compiled{.op = step.op, .gives = step.type, .dtype = step.dtype};
    for (int k = 0; k < 3; ++k) {
      if (step.args[k] >= 0) compiled.args[k] = slots[alias[step.args[k]]];
    }
    compiled.takes = expr[step.args[step.op == ExprOp::kWhere ? 1 : 0]].type;
    // A new register even where an argument ends: loops are faster when y is not x.
    const int slot = allocate(step.type);
    if (is_last) result.out_slot_ = slot;
    slots[i] = compiled.out = is_last ? kOutSlot : slot;
    result.steps_.push_back(compiled);
    result.cost_ += step_cost(compiled);
    release(i);
  }

  void release(int i) {
    for (int k = 0; k < 3; ++k) {
      if (expr[i].args[k] < 0) continue;
      const int arg = alias[expr[i].args[k]];
      const bool temporary = expr[arg].op != ExprOp::kIn && expr[arg].op != ExprOp::kConst;
      if (last_use[arg] != i || !temporary) continue;
      last_use[arg] = -1;  // once, if it is used twice
      free_list(expr[arg].type).push_back(slots[arg]);
    }
  }
};

Expression::Expression(const Expr& expr, const std::vector<DType>& operands, DType out)
    : micro_(&micro()), operands_(operands), out_(out) {
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
    scratch_bytes_ += static_cast<std::size_t>(register_bytes(register_class(dtype)));
  }
  Builder builder{*this, expr, {}, {}, {}, {}, {}, {}, {}};
  builder.build();
  cost_ += 0.5 * static_cast<double>(used_.size() + 1);
}

void Expression::begin(std::byte* scratch, std::int64_t longest) const {
  auto* loaded = reinterpret_cast<Loaded*>(scratch + operands_.size() * sizeof(void*));
  for (std::size_t k = 0; k < operands_.size(); ++k) loaded[k] = {nullptr, 0};
  const std::int64_t n = std::min(longest, kExprBlock);
  for (const Constant& constant : constants_) {
    std::byte* to = scratch + constant.slot;
    if (constant.type == 'f') {
      std::fill_n(reinterpret_cast<float*>(to), n, static_cast<float>(constant.number));
    } else if (constant.type == 'i') {
      std::fill_n(reinterpret_cast<std::int64_t*>(to), n, constant.integer);
    } else {
      std::memset(to, constant.number != 0 ? 1 : 0, static_cast<std::size_t>(n));
    }
  }
}

void Expression::run(std::int64_t n, const void* const* operands, const std::int64_t* strides, void* out,
                     std::int64_t out_stride, std::byte* scratch) const {
  begin(scratch, n);
  if (n <= kExprBlock) {
    if (n > 0) run_tile({1, n, operands, nullptr, strides, out, 0, out_stride}, scratch);
    return;
  }
  const void* moved[kMost];
  const auto out_step = out_stride * static_cast<std::int64_t>(size_of(out_));
  for (std::int64_t i = 0; i < n; i += kExprBlock) {
    for (const int k : used_) {
      moved[k] = static_cast<const std::byte*>(operands[k]) +
                 i * strides[k] * static_cast<std::int64_t>(size_of(operands_[static_cast<std::size_t>(k)]));
    }
    run_tile({1, std::min(kExprBlock, n - i), moved, nullptr, strides,
              static_cast<std::byte*>(out) + i * out_step, 0, out_stride},
             scratch);
  }
}

void Expression::run_tile(const Tile& tile, std::byte* scratch) const {
  for (const int k : used_) load(k, tile, scratch);
  const bool dense =
      (tile.out_stride == 1 || tile.n == 1) && (tile.rows == 1 || tile.out_row_stride == tile.n);
  const bool direct = dense && out_ == native(out_type_);
  auto* const out = direct ? static_cast<std::byte*>(tile.out) : scratch + out_slot_;
  const auto* const addresses = reinterpret_cast<const std::byte* const*>(scratch);
  const auto find = [&](int slot) -> const std::byte* {
    if (slot >= 0) return scratch + slot;
    return slot == kOutSlot ? out : addresses[-1 - slot];
  };
  const std::int64_t n = total(tile);
  for (const Step& step : steps_) {
    run_step(*micro_, step, find(step.args[0]), find(step.args[1]), find(step.args[2]),
             step.out == kOutSlot ? out : scratch + step.out, n);
  }
  if (result_ != kOutSlot || !direct) store(tile, find(result_));
}

void Expression::load(int operand, const Tile& tile, std::byte* scratch) const {
  const auto k = static_cast<std::size_t>(operand);
  const DType dtype = operands_[k];
  auto& address = reinterpret_cast<const std::byte**>(scratch)[k];
  const auto* from = static_cast<const std::byte*>(tile.operands[k]);
  const bool dense =
      (tile.strides[k] == 1 || tile.n == 1) && (tile.rows == 1 || tile.row_strides[k] == tile.n);
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

void Expression::load_rows(int operand, const Tile& tile, std::byte* to) const {
  const auto k = static_cast<std::size_t>(operand);
  const DType dtype = operands_[k];
  const char type = register_class(dtype);
  const auto* from = static_cast<const std::byte*>(tile.operands[k]);
  const auto load_one = [&](const std::byte* x, std::int64_t stride, std::int64_t n, std::byte* y) {
    if (type == 'f') {
      load_floats(*micro_, dtype, x, stride, n, reinterpret_cast<float*>(y));
    } else if (type == 'i') {
      load_integers(dtype, x, stride, n, reinterpret_cast<std::int64_t*>(y));
    } else {
      load_bools(x, stride, n, reinterpret_cast<std::uint8_t*>(y));
    }
  };
  const std::int64_t stride = tile.strides[k];
  if (tile.rows == 1 || tile.row_strides[k] == stride * tile.n)
    return load_one(from, stride, total(tile), to);
  const std::int64_t bytes = tile.n * register_bytes(type) / kExprBlock;
  const std::int64_t step = tile.row_strides[k] * static_cast<std::int64_t>(size_of(dtype));
  for (std::int64_t r = 0; r < tile.rows; ++r) {
    if (r > 0 && step == 0) {
      std::memcpy(to + r * bytes, to, static_cast<std::size_t>(bytes));
    } else {
      load_one(from + r * step, stride, tile.n, to + r * bytes);
    }
  }
}

void Expression::store(const Tile& tile, const std::byte* from) const {
  const auto store_one = [&](const std::byte* x, std::byte* y, std::int64_t n) {
    if (out_type_ == 'f') {
      store_floats(*micro_, out_, reinterpret_cast<const float*>(x), y, tile.out_stride, n);
    } else if (out_type_ == 'i') {
      store_integers(out_, reinterpret_cast<const std::int64_t*>(x), y, tile.out_stride, n);
    } else {
      store_bools(reinterpret_cast<const std::uint8_t*>(x), y, tile.out_stride, n);
    }
  };
  auto* const out = static_cast<std::byte*>(tile.out);
  if (tile.rows == 1 || tile.out_row_stride == tile.n * tile.out_stride)
    return store_one(from, out, total(tile));
  const std::int64_t bytes = tile.n * register_bytes(out_type_) / kExprBlock;
  const std::int64_t step = tile.out_row_stride * static_cast<std::int64_t>(size_of(out_));
  for (std::int64_t r = 0; r < tile.rows; ++r) store_one(from + r * bytes, out + r * step, tile.n);
}

}  // namespace npu::cpu
