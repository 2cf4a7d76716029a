// Compiling expressions: which steps are fused, and where each value is kept.
#include "cpu/expression_build.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "core/program/expr_simplify.h"

namespace npu::cpu {

namespace {

double step_cost(const ExprStep& step) {
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

// What a step of floats or bools is to the machine of cpu/fused.h, and with its operands the other way round.
struct Fusing {
  ExprOp step;
  FusedOp op;
  FusedOp reversed;
};

constexpr Fusing kFusings[] = {
    {ExprOp::kAdd, FusedOp::kAdd, FusedOp::kAdd},
    {ExprOp::kSub, FusedOp::kSub, FusedOp::kSubFrom},
    {ExprOp::kMul, FusedOp::kMul, FusedOp::kMul},
    {ExprOp::kDiv, FusedOp::kDiv, FusedOp::kDivInto},
    {ExprOp::kMax, FusedOp::kMax, FusedOp::kMax},
    {ExprOp::kMin, FusedOp::kMin, FusedOp::kMin},
    {ExprOp::kCopysign, FusedOp::kCopysign, FusedOp::kSignOf},
    {ExprOp::kEq, FusedOp::kEq, FusedOp::kEq},
    {ExprOp::kNe, FusedOp::kNe, FusedOp::kNe},
    {ExprOp::kLt, FusedOp::kLt, FusedOp::kGt},
    {ExprOp::kLe, FusedOp::kLe, FusedOp::kGe},
    {ExprOp::kGt, FusedOp::kGt, FusedOp::kLt},
    {ExprOp::kGe, FusedOp::kGe, FusedOp::kLe},
    {ExprOp::kLand, FusedOp::kAnd, FusedOp::kAnd},
    {ExprOp::kLor, FusedOp::kOr, FusedOp::kOr},
    {ExprOp::kLxor, FusedOp::kXor, FusedOp::kXor},
    {ExprOp::kLnot, FusedOp::kNot, FusedOp::kNot},
    {ExprOp::kWhere, FusedOp::kWhereSet, FusedOp::kWhereElse},
    {ExprOp::kNeg, FusedOp::kNeg, FusedOp::kNeg},
    {ExprOp::kAbs, FusedOp::kAbs, FusedOp::kAbs},
    {ExprOp::kSign, FusedOp::kSign, FusedOp::kSign},
    {ExprOp::kRelu, FusedOp::kRelu, FusedOp::kRelu},
    {ExprOp::kReciprocal, FusedOp::kReciprocal, FusedOp::kReciprocal},
    {ExprOp::kSqrt, FusedOp::kSqrt, FusedOp::kSqrt},
    {ExprOp::kRsqrt, FusedOp::kRsqrt, FusedOp::kRsqrt},
    {ExprOp::kFloor, FusedOp::kFloor, FusedOp::kFloor},
    {ExprOp::kCeil, FusedOp::kCeil, FusedOp::kCeil},
    {ExprOp::kRound, FusedOp::kRound, FusedOp::kRound},
    {ExprOp::kTrunc, FusedOp::kTrunc, FusedOp::kTrunc},
    {ExprOp::kIsnan, FusedOp::kIsnan, FusedOp::kIsnan},
    {ExprOp::kIsinf, FusedOp::kIsinf, FusedOp::kIsinf},
};

std::optional<Fusing> fusing(const ExprStep& step, char takes) {
  if (step.op == ExprOp::kCast) {
    const FusedOp op = takes == 'b'                    ? FusedOp::kFromMask
                       : step.dtype == DType::kBool    ? FusedOp::kNe  // than 0
                       : step.dtype == DType::kFloat16 ? FusedOp::kRoundF16
                                                       : FusedOp::kRoundBF16;
    return Fusing{step.op, op, op};
  }
  for (const Fusing& known : kFusings) {
    if (known.step == step.op) return known;
  }
  return std::nullopt;
}

// The same steps in an order that needs little room: what is chosen from comes right after what decides, but
// other masks before that, because there is one mask at a time.
class Ordering {
 public:
  explicit Ordering(const Expr& expr) : expr_(expr), masks_(expr.size(), false), place_(expr.size(), -1) {
    for (std::size_t i = 0; i < expr.size(); ++i) {
      masks_[i] = expr[i].type == 'b';
      for (const int arg : expr[i].args) masks_[i] = masks_[i] || (arg >= 0 && masks_[at(arg)]);
    }
  }

  Expr in_order() {
    visit(static_cast<int>(expr_.size()) - 1);
    return std::move(ordered_);
  }

 private:
  static std::size_t at(int i) { return static_cast<std::size_t>(i); }

  void visit(int i) {
    if (i < 0 || place_[at(i)] >= 0) return;
    const ExprStep& step = expr_[at(i)];
    if (step.op == ExprOp::kWhere) {
      for (const int k : {2, 1}) {
        if (masks_[at(step.args[k])]) visit(step.args[k]);
      }
      visit(step.args[0]);
      visit(step.args[2]);
      visit(step.args[1]);
    } else {
      for (const int arg : step.args) visit(arg);
    }
    place_[at(i)] = static_cast<int>(ordered_.size());
    ordered_.push_back(step);
    for (int& arg : ordered_.back().args) arg = arg < 0 ? arg : place_[at(arg)];
  }

  const Expr& expr_;
  std::vector<bool> masks_;  // whether there is one among what a step is made of
  std::vector<int> place_;
  Expr ordered_;
};

constexpr int kLongestRun = 20;  // steps that are fused: with what they load and store, at most kMostFused
constexpr int kLocalBytes = static_cast<int>(kFusedGroup * sizeof(float));

}  // namespace

// Turns an expression into steps with slots, reusing registers whose value is no longer needed.
struct Expression::Builder {
  Builder(Expression& compiled, const Expr& source) : result(compiled), expr(source) {}

  Expression& result;
  Expr expr;
  std::vector<int> alias, last_use, slots;
  std::vector<int> run;     // of fused steps that each belongs to, or -1
  std::vector<int> locals;  // where a value is kept between steps of its run, or -1
  std::vector<bool> live, escapes, kept;
  std::vector<int> free_f, free_i, free_b, free_local;
  int last = 0, current_run = -1;
  int held = -1, held_mask = -1, saved = -1, saved_mask = -1;  // the values in the machine

  std::vector<int>& free_list(char type) { return type == 'f' ? free_f : type == 'i' ? free_i : free_b; }

  int take(std::vector<int>& list, int bytes) {
    if (list.empty()) return take_fresh(bytes);
    const int offset = list.back();
    list.pop_back();
    return offset;
  }
  int take_fresh(int bytes) {
    const int offset = static_cast<int>(result.scratch_bytes_);
    result.scratch_bytes_ += static_cast<std::size_t>((bytes + 63) / 64 * 64);
    return offset;
  }
  int allocate(char type) { return take(free_list(type), static_cast<int>(result.register_bytes(type))); }

  const ExprStep& at(int i) const { return expr[static_cast<std::size_t>(i)]; }
  static bool leaf(const ExprStep& step) { return step.op == ExprOp::kIn || step.op == ExprOp::kConst; }
  int arg(int i, int k) const { return at(i).args[k] < 0 ? -1 : alias[at(i).args[k]]; }

  void find_uses() {
    const int n = static_cast<int>(expr.size());
    alias.resize(expr.size());
    last_use.assign(expr.size(), -1);
    live.assign(expr.size(), false);
    for (int i = 0; i < n; ++i) {
      const ExprStep& step = at(i);
      alias[i] = i;
      if (step.op != ExprOp::kCast) continue;
      const char from = at(step.args[0]).type;
      // Storing rounds, or wraps, in the same way.
      const bool stored = i == n - 1 && step.dtype == result.out_ && register_class(step.dtype) == from;
      if (step.dtype == result.native(from) || stored) alias[i] = alias[step.args[0]];
    }
    last = alias[n - 1];
    live[last] = true;
    last_use[last] = n;
    for (int i = n - 1; i >= 0; --i) {
      if (!live[i]) continue;
      for (int k = 0; k < 3 && arg(i, k) >= 0; ++k) {
        live[arg(i, k)] = true;
        last_use[arg(i, k)] = std::max(last_use[arg(i, k)], i);
      }
    }
  }

  // Integers that are only wanted as floats.
  bool loads_integers(int i) const {
    if (at(i).op != ExprOp::kCast || at(i).type != 'f') return false;
    const ExprStep& from = at(arg(i, 0));
    return from.type == 'i' && from.op == ExprOp::kIn;
  }

  bool fuses(int i) const {
    if (leaf(at(i)) || at(i).type == 'i') return false;
    if (loads_integers(i)) return true;
    for (int k = 0; k < 3 && arg(i, k) >= 0; ++k) {
      const ExprStep& from = at(arg(i, k));
      if (from.type == 'i' || (from.type == 'b' && from.op == ExprOp::kConst)) return false;
    }
    if (at(i).op == ExprOp::kWhere && at(i).type == 'b') return false;
    return fusing(at(i), at(arg(i, 0)).type).has_value();
  }

  void find_runs() {
    run.assign(expr.size(), -1);
    escapes.assign(expr.size(), false);
    int current = -1, length = kLongestRun;
    for (int i = 0; i < static_cast<int>(expr.size()); ++i) {
      if (!live[i] || leaf(at(i))) continue;
      if (!fuses(i)) {
        length = kLongestRun;
        continue;
      }
      if (length == kLongestRun) {
        ++current;
        length = 0;
      }
      run[i] = current;
      ++length;
    }
    escapes[last] = true;
    for (int i = 0; i < static_cast<int>(expr.size()); ++i) {
      if (!live[i]) continue;
      for (int k = 0; k < 3 && arg(i, k) >= 0; ++k) {
        if (run[i] < 0 || run[arg(i, k)] != run[i]) escapes[arg(i, k)] = true;
      }
    }
  }

  void build() {
    expr = with_simple_powers(expr);
    expr = Ordering(expr).in_order();
    find_uses();
    find_runs();
    place_zero();
    slots.assign(expr.size(), 0);
    locals.assign(expr.size(), -1);
    kept.assign(expr.size(), false);
    for (int i = 0; i < static_cast<int>(expr.size()); ++i) {
      if (live[i]) place_leaf(i);
    }
    for (int i = 0; i < static_cast<int>(expr.size()); ++i) {
      if (!live[i] || leaf(at(i))) continue;
      if (run[i] < 0) {
        build_step(i);
      } else {
        i = build_run(i);
      }
    }
    result.out_type_ = expr.back().type;
    result.result_ = slots[last];
    result.ends_fused_ = run[last] >= 0;
  }

  void place_zero() {
    for (int i = 0; i < static_cast<int>(expr.size()); ++i) {
      if (run[i] < 0 || at(i).op != ExprOp::kCast || at(i).dtype != DType::kBool || result.zero_ >= 0)
        continue;
      result.zero_ = take_fresh(static_cast<int>(sizeof(float)));
      result.constants_.push_back({result.zero_, 'f', 0, 0, false});
    }
  }

  // Operands and constants; those that some step reads from a register lie in one.
  void place_leaf(int i) {
    const ExprStep& step = at(i);
    if (!leaf(step)) return;
    bool whole = i == last;
    for (int j = 0; j < static_cast<int>(expr.size()); ++j) {
      for (int k = 0; k < 3 && live[j] && arg(j, k) >= 0; ++k) whole |= arg(j, k) == i && run[j] < 0;
    }
    if (step.op == ExprOp::kConst) {
      // Filled once for many tiles: no step may ever write there.
      slots[i] = take_fresh(static_cast<int>(whole ? result.register_bytes(step.type) : sizeof(float)));
      result.constants_.push_back({slots[i], step.type, step.number, step.integer, whole});
      return;
    }
    slots[i] = -1 - step.operand;
    const auto k = static_cast<std::size_t>(step.operand);
    const bool known =
        std::find(result.used_.begin(), result.used_.end(), step.operand) != result.used_.end();
    const bool as_stored = !whole && step.type != 'b';
    result.as_stored_[k] = as_stored && (!known || result.as_stored_[k]);
    if (!known) result.used_.push_back(step.operand);
  }

  int place_result(int i) {
    const int slot = allocate(at(i).type);
    if (i != last) return slot;
    result.out_slot_ = slot;
    return kOutSlot;
  }

  void build_step(int i) {
    const ExprStep& step = at(i);
    Step compiled{.op = step.op, .gives = step.type, .dtype = step.dtype};
    for (int k = 0; k < 3 && arg(i, k) >= 0; ++k) compiled.args[k] = slots[arg(i, k)];
    compiled.takes = at(step.args[step.op == ExprOp::kWhere ? 1 : 0]).type;
    // A new register even where an argument ends: loops are faster when y is not x.
    compiled.out = slots[i] = place_result(i);
    result.steps_.push_back(compiled);
    result.cost_ += step_cost(step);
    release(i);
  }

  void release(int i) {
    for (int k = 0; k < 3 && arg(i, k) >= 0; ++k) {
      const int from = arg(i, k);
      if (last_use[from] != i || leaf(at(from))) continue;
      last_use[from] = -1;  // once, if it is used twice
      if (escapes[from]) free_list(at(from).type).push_back(slots[from]);
      if (locals[from] >= 0) free_local.push_back(locals[from]);
      locals[from] = -1;
      if (saved == from) saved = -1;
      if (saved_mask == from) saved_mask = -1;
    }
  }

  // All steps of a run, and the number of the last one. The first pass finds which values it must keep.
  int build_run(int first) {
    int end = first;
    current_run = run[first];
    for (int i = first; i < static_cast<int>(expr.size()) && goes_on(i); ++i) {
      if (run[i] == current_run) end = i;
    }
    const std::size_t begin = result.fused_.size();
    for (const bool dry : {true, false}) {
      result.fused_.resize(begin);
      held = held_mask = saved = saved_mask = -1;
      free_locals();
      for (int i = first; i <= end; ++i) {
        if (!live[i] || !made_here(i)) continue;
        compute(i);
        if (!dry) finish(i);
      }
    }
    free_locals();
    result.steps_.push_back({.first = begin, .count = result.fused_.size() - begin});
    return end;
  }
  void free_locals() {  // they hold a group of elements of one run
    for (int& local : locals) {
      if (local >= 0) free_local.push_back(local);
      local = -1;
    }
  }
  bool goes_on(int i) const { return !live[i] || leaf(at(i)) || made_here(i); }
  bool made_here(int value) const { return run[value] == current_run; }

  void emit(FusedOp op, Lies lies = Lies::kNowhere, int slot = 0) {
    result.fused_.push_back({op, lies, slot});
  }
  void emit_with(FusedOp op, int value) {  // the value of floats as the operand
    const ExprStep& step = at(value);
    if (step.op == ExprOp::kConst) return emit(op, Lies::kNumber, slots[value]);
    if (step.op == ExprOp::kIn) return emit(op, Lies::kOperand, slots[value]);
    if (!made_here(value)) return emit(op, Lies::kRegister, slots[value]);
    kept[value] = true;
    if (saved == value) return emit(op, Lies::kSaved);
    if (escapes[value]) return emit(op, Lies::kRegister, slots[value]);
    emit(op, Lies::kLocal, locals[value]);
  }
  void hold(int value) {
    if (held != value) emit_with(FusedOp::kLoad, value);
    held = value;
  }

  // Bools of other steps are bytes.
  void emit_with_mask(FusedOp op, int value) {
    kept[value] = true;
    saved_mask == value ? emit(op, Lies::kSaved) : emit(op, Lies::kLocal, locals[value]);
  }
  void hold_mask(int value) {
    if (held_mask == value) return;
    held_mask = value;
    if (made_here(value)) return emit_with_mask(FusedOp::kLoadMask, value);
    const bool operand = at(value).op == ExprOp::kIn;
    emit(FusedOp::kLoadBools, operand ? Lies::kOperand : Lies::kRegister, slots[value]);
  }

  void compute(int i) {
    const ExprStep& step = at(i);
    const int a = arg(i, 0), b = arg(i, 1), c = arg(i, 2);
    const Fusing how = *fusing(step, at(a).type);
    if (at(a).type == 'i') {
      emit(FusedOp::kLoadInt64, Lies::kOperand, slots[a]);  // or of what width they are stored in
      if (step.dtype != DType::kFloat32) emit(how.op);
    } else if (step.op == ExprOp::kWhere) {
      if (held != b && held != c) hold(b);
      hold_mask(a);
      held == b ? emit_with(how.op, c) : emit_with(how.reversed, b);
    } else if (at(a).type == 'b') {
      compute_with_mask(how.op, a, b);
    } else if (b < 0) {
      hold(a);
      step.op == ExprOp::kCast&& step.type == 'b' ? emit(how.op, Lies::kNumber, result.zero_) : emit(how.op);
    } else if (a == b && step.op == ExprOp::kMul) {
      hold(a);
      emit(FusedOp::kSquare);
    } else if (held == b && held != a) {
      emit_with(how.reversed, a);
    } else {
      hold(a);
      emit_with(how.op, b);
    }
    (step.type == 'b' ? held_mask : held) = i;
  }

  void compute_with_mask(FusedOp op, int a, int b) {
    if (b < 0) {
      hold_mask(a);
      return emit(op);
    }
    const int first = held_mask == b ? b : a, other = first == a ? b : a;  // order does not matter to them
    if (!made_here(other) && locals[other] < 0) {
      hold_mask(other);
      locals[other] = take(free_local, kLocalBytes);
      emit(FusedOp::kStoreMask, Lies::kLocal, locals[other]);
    }
    hold_mask(first);
    emit_with_mask(op, other);
  }

  void finish(int i) {
    const bool mask = at(i).type == 'b';
    if (kept[i] && (mask || !escapes[i])) {
      int& room = mask ? saved_mask : saved;
      if (room < 0) {
        room = i;
        emit(mask ? FusedOp::kSaveMask : FusedOp::kSave);
      } else {
        locals[i] = take(free_local, kLocalBytes);
        emit(mask ? FusedOp::kStoreMask : FusedOp::kStore, Lies::kLocal, locals[i]);
      }
    }
    if (escapes[i]) {
      slots[i] = place_result(i);
      emit(mask ? FusedOp::kStoreBools : FusedOp::kStore, i == last ? Lies::kOut : Lies::kRegister,
           i == last ? 0 : slots[i]);
    }
    result.cost_ += step_cost(at(i));
    release(i);
  }
};

void Expression::build(const Expr& expr) {
  Builder builder(*this, expr);
  builder.build();
}

}  // namespace npu::cpu
