#include "cpu/epilogue.h"

#include <algorithm>
#include <limits>
#include <string>
#include <utility>

#include "cpu/element.h"
#include "npu/error.h"

namespace npu::cpu {

namespace {

// acc or acc + e, then limits, then a function, then a scale and shift: what tiles do themselves.
struct Simple {
  bool matches = false;
  int residual = -1;
  Limits limits;
  ExprOp function = ExprOp::kIn;
  ScaleShift after;
};

bool is_function(ExprOp op) {
  switch (op) {
    case ExprOp::kTanh:
    case ExprOp::kSigmoid:
    case ExprOp::kSilu:
    case ExprOp::kGelu:
    case ExprOp::kGeluTanh:
    case ExprOp::kSoftplus:
    case ExprOp::kMish:
    case ExprOp::kHardswish:
    case ExprOp::kHardsigmoid:
      return true;
    default:
      return false;
  }
}

// The number of a step like max(x, number), which becomes x; null for all others.
const double* limit(const Expr& expr, ExprOp op, const ExprStep*& step) {
  if (step->op != op || step->type != 'f') return nullptr;
  const ExprStep *a = &expr[step->args[0]], *b = &expr[step->args[1]];
  if (a->op == ExprOp::kConst) std::swap(a, b);
  if (a->op == ExprOp::kConst || b->op != ExprOp::kConst) return nullptr;
  step = a;
  return &b->number;
}

// Whether the step is one number for all results: a constant, or an operand of one element.
bool is_number(const ExprStep& step, const std::vector<TensorDesc>& extras) {
  if (step.op == ExprOp::kConst) return step.type == 'f';
  if (step.op != ExprOp::kIn || step.operand == 0) return false;
  const TensorDesc& extra = extras[static_cast<std::size_t>(step.operand - 1)];
  for (std::size_t d = 0; d < extra.shape.size(); ++d) {
    if (extra.shape[d] > 1 && extra.strides[d] != 0) return false;
  }
  return extra.dtype == DType::kFloat32;
}

// A step like x op number, which becomes x.
void take_number(const Expr& expr, const std::vector<TensorDesc>& extras, ExprOp op, const ExprStep*& step,
                 ScaleShift& after) {
  if (step->op != op || step->type != 'f') return;
  const ExprStep *a = &expr[step->args[0]], *b = &expr[step->args[1]];
  if (is_number(*a, extras)) std::swap(a, b);
  if (!is_number(*b, extras) || is_number(*a, extras)) return;
  const bool adds = op == ExprOp::kAdd, given = b->op == ExprOp::kConst;
  (adds ? after.shift : after.scale) = given ? -1 : b->operand - 1;
  if (given) (adds ? after.plus : after.by) = static_cast<float>(b->number);
  after.apply = true;
  step = a;
}

Simple simple_form(const Expr& expr, const std::vector<TensorDesc>& extras) {
  Simple form;
  form.matches = expr.empty();
  if (form.matches) return form;
  const ExprStep* step = &expr.back();
  take_number(expr, extras, ExprOp::kAdd, step, form.after);
  take_number(expr, extras, ExprOp::kMul, step, form.after);
  if (is_function(step->op)) {
    form.function = step->op;
    step = &expr[step->args[0]];
  }
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  if (step->op == ExprOp::kRelu) {
    form.limits = {true, 0, kInfinity};
    step = &expr[step->args[0]];
  } else {
    const double* const high = limit(expr, ExprOp::kMin, step);
    const double* const low = limit(expr, ExprOp::kMax, step);
    form.limits = {high || low, low ? static_cast<float>(*low) : -kInfinity,
                   high ? static_cast<float>(*high) : kInfinity};
  }
  if (step->op == ExprOp::kAdd) {
    const ExprStep *a = &expr[step->args[0]], *b = &expr[step->args[1]];
    if (a->op != ExprOp::kIn || b->op != ExprOp::kIn) return form;
    if (a->operand != 0) std::swap(a, b);
    if (a->operand != 0 || b->operand == 0) return form;
    form.residual = b->operand - 1;
    form.matches = true;
  } else {
    form.matches = step->op == ExprOp::kIn && step->operand == 0;
  }
  // Within limits that cross, or a limit that is NaN, order would matter.
  form.matches &= !form.limits.apply || form.limits.low <= form.limits.high;
  return form;
}

}  // namespace

Epilogue::Epilogue(const Expr& expr, const std::vector<TensorDesc>& extras, const TensorDesc& out,
                   int column_dim, bool gated)
    : sums_per_result_(gated ? 2 : 1),
      extras_(extras),
      out_dtype_(out.dtype),
      out_stride_(out.strides[static_cast<std::size_t>(column_dim)]),
      column_dim_(column_dim) {
  if (extras.size() > kMaxExtras) {
    throw Error(ErrorKind::kUnavailable, {.area = "cpu",
                                          .what = "an epilogue has too many operands",
                                          .got = std::to_string(extras.size()),
                                          .expected = "at most " + std::to_string(kMaxExtras)});
  }
  for (const auto& extra : extras) strides_.push_back(extra.strides[static_cast<std::size_t>(column_dim)]);
  const Simple simple = gated ? Simple{} : simple_form(expr, extras);
  const bool direct = out.dtype == DType::kFloat32, half = is_float(out.dtype) && !direct;
  const DType added = simple.residual < 0 ? out.dtype : extras[simple.residual].dtype;
  const bool dense = out_stride_ == 1 && (simple.residual < 0 || strides_[simple.residual] == 1);
  in_tile_ = simple.matches && dense && direct && added == DType::kFloat32;
  after_tile_ = simple.matches && dense && half && (added == DType::kFloat32 || added == out.dtype);
  if (in_tile_ || after_tile_) {
    limits_ = simple.limits;
    function_ = simple.function;
    after_ = simple.after;
    residual_ = simple.residual;
    return;
  }
  if (expr.empty()) return;
  std::vector<DType> dtypes(static_cast<std::size_t>(sums_per_result_), DType::kFloat32);
  for (const auto& extra : extras) dtypes.push_back(extra.dtype);
  expression_.emplace(expr, dtypes, out.dtype);
}

void Epilogue::run(float* sums, std::int64_t apart, std::int64_t n, const void* const* at, void* out,
                   std::byte* scratch) const {
  if (after_tile_)
    return finish_tile({sums, n, 1, n, residual_ >= 0 ? at[residual_] : nullptr, n, out, n, at});
  if (!expression_) return store_floats(micro(), out_dtype_, sums, out, out_stride_, n);
  const void* operands[kMaxExtras + 2] = {sums, sums + apart};
  std::int64_t strides[kMaxExtras + 2] = {1, 1};
  const auto first = static_cast<std::size_t>(sums_per_result_);
  for (std::size_t k = 0; k < extras_.size(); ++k) {
    operands[first + k] = at[k];
    strides[first + k] = strides_[k];
  }
  expression_->run(n, operands, strides, out, out_stride_, scratch);
}

void Epilogue::apply_scale(float* results, std::int64_t step, std::int64_t rows, std::int64_t n,
                           const void* const* extras) const {
  const auto number = [&](int extra, float given) {
    return extra < 0 ? given : *static_cast<const float*>(extras[extra]);
  };
  micro().scale_rows(results, step, rows, n, number(after_.scale, after_.by),
                     number(after_.shift, after_.plus));
}

void Epilogue::finish_tile(const Tile& t) const {
  const auto finish = out_dtype_ == DType::kFloat16 ? micro().finish_f16 : micro().finish_bf16;
  HalfTile half{t.sums,          t.sums_step, t.rows,  t.n,     t.residual,
                t.residual_step, true,        limits_, nullptr, t.out_step};
  half.residual_is_half = t.residual != nullptr && residual_dtype() != DType::kFloat32;
  if (function_ != ExprOp::kIn || after_.apply) {
    if (half.residual || half.limits.apply) finish(half);
    apply_function(t.sums, t.sums_step, t.rows, t.n, t.extras);
    half.residual = nullptr;
    half.limits = {};
  }
  half.out = static_cast<std::uint16_t*>(t.out);
  finish(half);
}

void Epilogue::run_rows(const Rows& r, std::byte* scratch) const {
  if (r.n == 0) return;
  if (after_tile_) {
    const bool adds = residual_ >= 0;
    return finish_tile({r.sums, r.sums_step, r.rows, r.n, adds ? r.at[residual_] : nullptr,
                        adds ? r.extra_steps[residual_] : 0, r.out, r.out_step, r.at});
  }
  const auto out_at = [&](std::int64_t row) { return element(r.out, out_dtype_, row * r.out_step); };
  if (!expression_ || 2 * r.n > kExprBlock) {
    const void* at[kMaxExtras];
    for (std::int64_t i = 0; i < r.rows; ++i) {
      for (std::size_t k = 0; k < extras_.size(); ++k)
        at[k] = element(r.at[k], extras_[k].dtype, i * r.extra_steps[k]);
      run(r.sums + i * r.sums_step, r.apart, r.n, at, out_at(i), scratch);
    }
    return;
  }
  const std::int64_t most = kExprBlock / r.n;
  const auto first = static_cast<std::size_t>(sums_per_result_);
  const void* operands[kMaxExtras + 2];
  std::int64_t row_strides[kMaxExtras + 2] = {r.sums_step, r.sums_step}, strides[kMaxExtras + 2] = {1, 1};
  for (std::size_t k = 0; k < extras_.size(); ++k) {
    row_strides[first + k] = r.extra_steps[k];
    strides[first + k] = strides_[k];
  }
  expression_->begin(scratch, most * r.n);
  for (std::int64_t i = 0; i < r.rows; i += most) {
    operands[0] = r.sums + i * r.sums_step;
    operands[1] = r.sums + i * r.sums_step + r.apart;
    for (std::size_t k = 0; k < extras_.size(); ++k)
      operands[first + k] = element(r.at[k], extras_[k].dtype, i * r.extra_steps[k]);
    expression_->run_tile({std::min(most, r.rows - i), r.n, operands, row_strides, strides, nullptr,
                           out_at(i), r.out_step, out_stride_},
                          scratch);
  }
}

}  // namespace npu::cpu
