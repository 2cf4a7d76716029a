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
  std::vector<int> joined;  // the step that each does on the way, or -1
  std::vector<ChainForm> forms;
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
      if (step.op != ExprOp::kCast) continue;
      const char from = expr[step.args[0]].type;
      // Storing rounds, or wraps, in the same way.
      const bool stored = i == n - 1 && step.dtype == result.out_ && register_class(step.dtype) == from;
      if (step.dtype == native(from) || stored) alias[i] = alias[step.args[0]];
    }
    join_steps();
    live[alias[n - 1]] = true;
    last_use[alias[n - 1]] = n;
    for (int i = n - 1; i >= 0; --i) {
      if (!live[i]) continue;
      for (const int arg : args_of(i)) {
        live[alias[arg]] = true;
        last_use[alias[arg]] = std::max(last_use[alias[arg]], i);
      }
    }
  }

  // Steps that are only an operand of another may be done with that: of floats, comparisons that decide
  // between two of them, and arithmetic.
  void join_steps() {
    std::vector<int> uses(expr.size(), 0);
    for (const ExprStep& step : expr) {
      for (const int arg : step.args) {
        if (arg >= 0) ++uses[alias[arg]];
      }
    }
    joined.assign(expr.size(), -1);
    forms.assign(expr.size(), ChainForm::kFirst);
    for (int i = 0; i < static_cast<int>(expr.size()); ++i) {
      const ExprStep& step = expr[i];
      if (step.type != 'f') continue;
      if (step.op == ExprOp::kWhere) {
        const int test = alias[step.args[0]];
        if (uses[test] == 1 && compares_floats(expr[test])) joined[i] = test;
        continue;
      }
      for (int k = 0; k < 2 && joined[i] < 0 && continues(step.op); ++k) {
        if (step.args[k] < 0) continue;
        const int arg = alias[step.args[k]];
        const bool both = step.args[1] >= 0 && alias[step.args[1 - k]] == arg;
        if (!starts(expr[arg]) || joined[arg] >= 0 || uses[arg] != (both ? 2 : 1)) continue;
        if (both && step.op != ExprOp::kMul) continue;
        joined[i] = arg;
        forms[i] = both ? ChainForm::kBoth : k == 1 ? ChainForm::kSecond : ChainForm::kFirst;
      }
    }
  }

  static bool starts(const ExprStep& step) {
    return step.type == 'f' && (step.op == ExprOp::kAdd || step.op == ExprOp::kSub ||
                                step.op == ExprOp::kMul || step.op == ExprOp::kDiv);
  }
  static bool continues(ExprOp op) {
    return op == ExprOp::kAdd || op == ExprOp::kSub || op == ExprOp::kMul || op == ExprOp::kAbs ||
           op == ExprOp::kRelu;
  }
  bool compares_floats(const ExprStep& step) const {
    switch (step.op) {
      case ExprOp::kEq:
      case ExprOp::kNe:
      case ExprOp::kLt:
      case ExprOp::kLe:
      case ExprOp::kGt:
      case ExprOp::kGe:
      case ExprOp::kIsnan:
      case ExprOp::kIsinf:
        return expr[step.args[0]].type == 'f';
      default:
        return false;
    }
  }

  // What step i reads, in the order of a Step's arguments.
  std::vector<int> args_of(int i) const {
    const ExprStep& step = expr[i];
    std::vector<int> args;
    if (joined[i] < 0) {
      for (const int arg : step.args) {
        if (arg >= 0) args.push_back(arg);
      }
      return args;
    }
    const ExprStep& before = expr[joined[i]];
    args = {before.args[0], before.args[before.args[1] < 0 ? 0 : 1]};
    if (step.op == ExprOp::kWhere) {
      args.insert(args.end(), {step.args[1], step.args[2]});
    } else {
      const int other = forms[i] == ChainForm::kSecond ? step.args[0] : step.args[1];
      args.push_back(other < 0 || forms[i] == ChainForm::kBoth ? args[0] : other);
    }
    return args;
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
    if (joined[i] >= 0) compiled.before = expr[joined[i]].op;
    compiled.form = forms[i];
    const std::vector<int> args = args_of(i);
    for (std::size_t k = 0; k < args.size(); ++k) compiled.args[k] = slots[alias[args[k]]];
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
    for (const int read : args_of(i)) {
      const int arg = alias[read];
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
  Builder builder{*this, expr, {}, {}, {}, {}, {}, {}, {}, {}, {}};
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

void Expression::run_tile(const Tile& tile, std::byte* scratch) const {
  for (const int k : used_) load(k, tile, scratch);
  const bool dense = !tile.out_starts && (tile.out_stride == 1 || tile.n == 1) &&
                     (tile.rows == 1 || tile.out_row_stride == tile.n);
  const bool direct = dense && out_ == native(out_type_);
  auto* const out = direct ? static_cast<std::byte*>(tile.out) : scratch + out_slot_;
  const auto* const addresses = reinterpret_cast<const std::byte* const*>(scratch);
  const auto find = [&](int slot) -> const std::byte* {
    if (slot >= 0) return scratch + slot;
    return slot == kOutSlot ? out : addresses[-1 - slot];
  };
  const std::int64_t n = total(tile);
  for (const Step& step : steps_) {
    const std::byte* args[4];
    for (int k = 0; k < 4; ++k) args[k] = find(step.args[k]);
    run_step(*micro_, step, args, step.out == kOutSlot ? out : scratch + step.out, n);
  }
  if (result_ != kOutSlot || !direct) store(tile, find(result_));
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

void Expression::load_one(DType dtype, const std::byte* x, std::int64_t stride, std::int64_t n,
                          std::byte* y) const {
  const char type = register_class(dtype);
  if (type == 'f') {
    load_floats(*micro_, dtype, x, stride, n, reinterpret_cast<float*>(y));
  } else if (type == 'i') {
    load_integers(dtype, x, stride, n, reinterpret_cast<std::int64_t*>(y));
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
  const std::int64_t bytes = tile.n * register_bytes(register_class(dtype)) / kExprBlock;
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
  } else if (out_type_ == 'i') {
    store_integers(out_, reinterpret_cast<const std::int64_t*>(x), y, stride, n);
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
  const std::int64_t bytes = tile.n * register_bytes(out_type_) / kExprBlock;
  for (std::int64_t r = 0; r < tile.rows; ++r) {
    const std::int64_t start = tile.out_starts ? tile.out_starts[r] : r * tile.out_row_stride;
    store_one(from + r * bytes, element(out, out_, start), tile.out_stride, tile.n);
  }
}

}  // namespace npu::cpu
