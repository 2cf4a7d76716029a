#include "core/program/op_check.h"

#include <algorithm>
#include <cmath>

#include "core/program/expr_reader.h"
#include "core/program/op_rules.gen.h"
#include "core/program/quantization.h"
#include "core/program/shapes.h"
#include "npu/buffer.h"

namespace npu {

void OpCheck::refuse(const char* rule) const {
  const auto list = [&](const std::vector<Operand>& operands) {
    std::string text;
    for (const Operand& x : operands) {
      text += text.empty() ? "" : ", ";
      text += x.present() ? std::string(dtype_name(dtype(x))) + shape_text(x.shape) : "nothing";
    }
    return "(" + text + ")";
  };
  const std::string name(info_of(op.kind).name);
  spot.refuse("the operands or attributes of this " + name + " do not fit",
              list(op.inputs) + " -> " + list(op.outputs), rule);
}

void OpCheck::need_shape(const Operand& operand, const Shape& shape, const char* name) const {
  if (operand.shape == shape) return;
  refuse(("the shape " + shape_text(shape) + " for '" + name + "'").c_str());
}

void OpCheck::need_dtype(const Operand& operand, DType wanted, const char* name) const {
  if (dtype(operand) == wanted) return;
  refuse(("the dtype " + std::string(dtype_name(wanted)) + " for '" + name + "'").c_str());
}

void OpCheck::need_float(const Operand& operand, const char* name) const {
  if (!is_float(dtype(operand))) refuse(("a floating-point dtype for '" + std::string(name) + "'").c_str());
}

void OpCheck::need_integer(const Operand& operand, const char* name) const {
  if (!is_integer(dtype(operand))) refuse(("an integer dtype for '" + std::string(name) + "'").c_str());
}

void OpCheck::need_axis(std::int64_t axis, const Operand& operand) const {
  need(axis >= 0 && axis < static_cast<std::int64_t>(rank(operand)), "an axis that 'x' has");
}

void OpCheck::need_same(const Operand& a, const Operand& b) const {
  need(a.shape == b.shape && dtype(a) == dtype(b), "'x' and the result of the same shape and dtype");
}

void OpCheck::need_epilogue(const Expr& epilogue) const {
  const DType result = dtype(out());
  const auto first = static_cast<std::size_t>(info_of(op.kind).expr_operand);
  for (std::size_t i = first; i < op.inputs.size(); ++i) need_shape(in(i), out().shape, "extra");
  if (epilogue.empty()) {
    need(op.inputs.size() <= first, "no 'extra' operands without an epilogue");
    need_dtype(out(), dtype(in(0)), "out");
    return;
  }
  need(register_class_of(result) == epilogue.back().type,
       "an epilogue whose result is of the class of 'out'");
}

namespace {

DType reduced_dtype(const OpCheck& c, ReduceAttrs::Kind kind, DType from) {
  using Kind = ReduceAttrs::Kind;
  switch (kind) {
    case Kind::kSum:
    case Kind::kProd:
      return sum_dtype(from);
    case Kind::kAny:
    case Kind::kAll:
      return DType::kBool;
    case Kind::kArgmax:
    case Kind::kArgmin:
      return DType::kInt64;
    case Kind::kMean:
    case Kind::kVar:
    case Kind::kStd:
      c.need_float(c.in(0), "x");
      return from;
    case Kind::kMax:
    case Kind::kMin:
      break;
  }
  return from;
}

void check_sorted(const OpCheck& c, const Shape& shape) {
  const Operand &values = c.out(0), &indices = c.out(1);
  if (values.present()) {
    c.need_shape(values, shape, "values");
    c.need_dtype(values, c.dtype(c.in(0)), "values");
  }
  if (indices.present()) {
    c.need_shape(indices, shape, "indices");
    c.need_dtype(indices, DType::kInt64, "indices");
  }
}

// `positions` is the shape that the indices have; `first` is the first of them among the operands.
void check_indices(const OpCheck& c, const std::vector<std::int64_t>& axes,
                   const std::vector<std::int64_t>& dims, const Shape& positions, std::size_t first) {
  const Operand& x = c.in(0);
  const std::size_t rank = c.rank(x);
  c.need(!axes.empty() && axes.size() == c.op.inputs.size() - first, "an index operand for each of the axes");
  c.need(dims.size() == rank, "'dims' with an entry for each dimension of 'x'");
  std::vector<bool> indexed(rank, false);
  for (const std::int64_t axis : axes) {
    c.need_axis(axis, x);
    c.need(!indexed[static_cast<std::size_t>(axis)], "distinct axes");
    indexed[static_cast<std::size_t>(axis)] = true;
  }
  for (std::size_t d = 0; d < rank; ++d) {
    if (indexed[d]) {
      c.need(dims[d] == -1, "-1 in 'dims' for what is in 'axes'");
      continue;
    }
    c.need(dims[d] >= 0 && dims[d] < static_cast<std::int64_t>(positions.size()),
           "a dimension of the positions in 'dims'");
    c.need(positions[static_cast<std::size_t>(dims[d])] <= x.shape[d],
           "positions inside 'x' along what is not indexed");
  }
  for (std::size_t i = first; i < c.op.inputs.size(); ++i) {
    c.need_shape(c.in(i), positions, "indices");
    c.need_integer(c.in(i), "indices");
  }
}

}  // namespace

void check_map(const OpCheck& c, const MapAttrs& attrs) {
  c.need(!attrs.expr.empty(), "an expression with at least one step");
  for (const Operand& x : c.op.inputs) c.need_shape(x, c.out().shape, "operands");
  c.need(register_class_of(c.dtype(c.out())) == attrs.expr.back().type,
         "an expression whose result is of the class of 'out'");
}

void check_matmul(const OpCheck& c, const MatmulAttrs& attrs) {
  const Operand &a = c.in(0), &b = c.in(1), &bias = c.in(2);
  const Shape& out = c.out().shape;
  const std::size_t rank = out.size();
  const bool quantized = attrs.bits != 0;
  c.need(rank >= 2 && c.rank(a) == rank && (c.rank(b) == rank || quantized),
         "operands of the same rank as 'out', at least 2");
  Shape sums = out;
  if (attrs.halves) sums[rank - 1] *= 2;
  const std::int64_t depth = a.shape[rank - 1];
  Shape left = out, right = sums;
  left[rank - 1] = right[rank - 2] = depth;
  c.need_shape(a, left, "a");
  if (quantized) {
    c.need_float(a, "a");
    c.need_quantized(quantization_of(attrs), {1, 3, 4, 5}, {sums[rank - 1], depth}, "b");
  } else {
    c.need(!c.in(3).present() && !c.in(4).present() && !c.in(5).present(),
           "'bits' for scales, offsets and units");
    c.need_shape(b, right, "b");
    c.need_dtype(b, c.dtype(a), "b");
  }
  c.need(!attrs.halves || !attrs.epilogue.empty(), "an epilogue that combines the two halves");
  if (register_class_of(c.dtype(a)) == 'i') {
    c.need_dtype(c.out(), c.dtype(a), "out");
    c.need(!bias.present() && attrs.epilogue.empty(), "no 'bias' and no epilogue of integers");
    return;
  }
  c.need_float(a, "a");
  if (bias.present()) {
    c.need_shape(bias, sums, "bias");
    c.need_float(bias, "bias");
    for (std::size_t d = 0; d + 1 < rank; ++d) {
      c.need(bias.shape[d] <= 1 || bias.strides[d] == 0, "one 'bias' for all rows");
    }
  }
  c.need_epilogue(attrs.epilogue);
}

void check_norm(const OpCheck& c, const NormAttrs& attrs) {
  const Operand& x = c.in(0);
  const auto rank = static_cast<std::int64_t>(c.rank(x));
  c.need_same(x, c.out());
  c.need_float(x, "x");
  Shape normalised;
  if (attrs.kind == NormAttrs::Kind::kGroup) {
    c.need(rank >= 2 && attrs.groups >= 1 && x.shape[1] % attrs.groups == 0,
           "groups that divide the channels");
    normalised = {x.shape[1]};
  } else {
    c.need(attrs.axes >= 1 && attrs.axes <= rank, "at least one normalised axis, and no more than 'x' has");
    normalised.assign(x.shape.end() - attrs.axes, x.shape.end());
  }
  for (const std::size_t i : {std::size_t{1}, std::size_t{2}}) {
    if (!c.in(i).present()) continue;
    c.need_shape(c.in(i), normalised, i == 1 ? "weight" : "bias");
    const DType dtype = c.dtype(c.in(i));
    c.need(dtype == c.dtype(x) || dtype == DType::kFloat32, "weight and bias of the dtype of 'x' or float32");
  }
}

void check_reduce(const OpCheck& c, const ReduceAttrs& attrs) {
  using Kind = ReduceAttrs::Kind;
  const Operand& x = c.in(0);
  Shape shape = x.shape;
  std::vector<bool> reduced(shape.size(), false);
  std::int64_t count = 1;
  for (const std::int64_t axis : attrs.axes) {
    c.need_axis(axis, x);
    const auto d = static_cast<std::size_t>(axis);
    c.need(!reduced[d], "distinct axes");
    reduced[d] = true;
    if (shape[d] == 0) count = 0;
    shape[d] = 1;
  }
  c.need_shape(c.out(), shape, "out");
  c.need_dtype(c.out(), reduced_dtype(c, attrs.kind, c.dtype(x)), "out");
  c.need(std::isfinite(attrs.correction), "a finite correction");
  const bool index = attrs.kind == Kind::kArgmax || attrs.kind == Kind::kArgmin;
  c.need(!index || attrs.axes.size() == 1, "one axis");
  const bool choice = index || attrs.kind == Kind::kMax || attrs.kind == Kind::kMin;
  c.need(!choice || count > 0 || *elements_of(shape) == 0, "at least one element to choose from");
}

void check_topk(const OpCheck& c, const TopkAttrs& attrs) {
  c.need_axis(attrs.axis, c.in(0));
  const Operand& some = c.out(0).present() ? c.out(0) : c.out(1);
  c.need(c.rank(some) == c.rank(c.in(0)), "results of the same rank as 'x'");
  const auto d = static_cast<std::size_t>(attrs.axis);
  Shape shape = c.in(0).shape;
  c.need(some.shape[d] <= shape[d], "no more results along the axis than 'x' has elements");
  shape[d] = some.shape[d];
  check_sorted(c, shape);
}

void check_gather(const OpCheck& c, const GatherAttrs& attrs) {
  c.need_dtype(c.out(), c.dtype(c.in(0)), "out");
  check_indices(c, attrs.axes, attrs.dims, c.out().shape, 1);
}

void check_scatter(const OpCheck& c, const ScatterAttrs& attrs) {
  c.need_same(c.in(0), c.out());
  c.need_dtype(c.in(1), c.dtype(c.in(0)), "updates");
  c.need(attrs.kind == ScatterAttrs::Kind::kSet || c.dtype(c.in(0)) != DType::kBool,
         "numbers, or kind 'set'");
  check_indices(c, attrs.axes, attrs.dims, c.in(1).shape, 2);
}

void check_iota(const OpCheck& c, const IotaAttrs& attrs) {
  c.need(c.rank(c.out()) == 1 && c.dtype(c.out()) != DType::kBool, "numbers in one dimension");
  c.need(std::isfinite(attrs.start) && std::isfinite(attrs.step), "a finite start and step");
  if (is_float(c.dtype(c.out()))) return;
  constexpr double kExact = 0x1p53;
  const double end = attrs.start + attrs.step * static_cast<double>(c.out().shape[0]);
  const bool exact =
      std::fabs(attrs.start) <= kExact && std::fabs(attrs.step) <= kExact && std::fabs(end) <= kExact;
  c.need(exact && attrs.start == std::trunc(attrs.start) && attrs.step == std::trunc(attrs.step),
         "integers below 2^53 as start, step and end");
}

namespace {
#define NPU_CHECK_OP(name, Name) \
  void check(const OpCheck& c, const Name##Attrs& attrs) { check_##name(c, attrs); }
NPU_FOR_EACH_OP(NPU_CHECK_OP)
#undef NPU_CHECK_OP
}  // namespace

void check_op(const OpCheck& c) {
  std::visit([&](const auto& attrs) { check(c, attrs); }, c.op.attrs);
}

}  // namespace npu
