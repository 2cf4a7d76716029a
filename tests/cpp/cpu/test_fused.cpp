#include "support/cpu_cases.h"

using namespace npu;
using namespace npu::test;

// Random expressions of steps that are fused, beside the same steps one by one in float32: each is rounded as
// it is alone, whatever its neighbours are and however operands lie.
namespace {

void map(const Expr& expr, const std::vector<Tensor*>& inputs, Tensor& out, int threads = 1) {
  run_op(cpu::make_map, OpKind::kMap, MapAttrs{expr}, inputs, {&out}, threads);
}

struct FusedCase {
  Expr expr = {in(0), in(1), in(2), in(3, 'b'), constant(0.75), in(4, 'i'), cast_to(5, DType::kFloat32)};
  std::vector<int> floats = {0, 1, 2, 4, 6}, bools = {3};
  std::uint32_t state;

  explicit FusedCase(std::uint32_t seed) : state(seed * 2654435761u + 1) {
    const int count = 1 + draw(40);
    for (int k = 0; k < count; ++k) add();
    if (expr.back().type == 'b') add_float(cast_to(bools.back(), DType::kFloat32));
  }

  int draw(int n) {
    state = state * 1664525u + 1013904223u;
    return static_cast<int>((state >> 16) % static_cast<std::uint32_t>(n));
  }
  // Often the last value, as in chains.
  int some(const std::vector<int>& of) {
    return draw(2) ? of.back() : of[static_cast<std::size_t>(draw(static_cast<int>(of.size())))];
  }
  void add_float(const ExprStep& s) {
    floats.push_back(static_cast<int>(expr.size()));
    expr.push_back(s);
  }
  void add_bool(const ExprStep& s) {
    bools.push_back(static_cast<int>(expr.size()));
    expr.push_back(s);
  }
  void add() {
    constexpr ExprOp kTwo[] = {ExprOp::kAdd, ExprOp::kSub, ExprOp::kMul,     ExprOp::kDiv,
                               ExprOp::kMax, ExprOp::kMin, ExprOp::kCopysign};
    constexpr ExprOp kOne[] = {ExprOp::kNeg,   ExprOp::kAbs,   ExprOp::kSign,      ExprOp::kRelu,
                               ExprOp::kFloor, ExprOp::kCeil,  ExprOp::kRound,     ExprOp::kTrunc,
                               ExprOp::kSqrt,  ExprOp::kRsqrt, ExprOp::kReciprocal};
    constexpr ExprOp kTests[] = {ExprOp::kEq, ExprOp::kNe, ExprOp::kLt,
                                 ExprOp::kLe, ExprOp::kGt, ExprOp::kGe};
    constexpr ExprOp kLogic[] = {ExprOp::kLand, ExprOp::kLor, ExprOp::kLxor};
    switch (draw(10)) {
      case 0:
        return add_float(step(kOne[draw(11)], 'f', some(floats)));
      case 1:
        return add_bool(step(kTests[draw(6)], 'b', some(floats), some(floats)));
      case 2:
        return add_bool(step(kLogic[draw(3)], 'b', some(bools), some(bools)));
      case 3:
        return add_bool(step(draw(2) ? ExprOp::kIsnan : ExprOp::kIsinf, 'b', some(floats)));
      case 4:
        return add_float(step(ExprOp::kWhere, 'f', some(bools), some(floats), some(floats)));
      case 5:
        if (draw(3)) return add_float(step(ExprOp::kExp, 'f', some(floats)));  // not fused
        return draw(2) ? add_bool(step(ExprOp::kLnot, 'b', some(bools)))
                       : add_bool(cast_to(some(floats), DType::kBool));
      case 6:
        return draw(2) ? add_float(cast_to(some(bools), DType::kFloat32))
                       : add_float(cast_to(some(floats), draw(2) ? DType::kFloat16 : DType::kBFloat16));
      default:
        return add_float(step(kTwo[draw(7)], 'f', some(floats), some(floats)));
    }
  }
};

}  // namespace

TEST(cpu_fused, steps_round_as_alone) {
  const Shape shapes[] = {{3, 5, 200}, {7, 64},  {40, 9},     {1, 3000}, {2, 3, 65},
                          {300, 129},  {20, 24}, {6, 40, 17}, {1}};
  const DType kFloats[] = {DType::kFloat32, DType::kFloat16, DType::kBFloat16};
  const DType kIntegers[] = {DType::kInt8, DType::kInt16, DType::kInt32, DType::kInt64, DType::kUInt8};
  on_every_isa([&] {
    for (std::uint32_t seed = 0; seed < 200; ++seed) {
      FusedCase c(seed);
      const Shape& shape = shapes[seed % std::size(shapes)];
      Shape column(shape.size(), 1);
      std::copy(shape.begin(), shape.end() - 1, column.begin());
      const Layout layout = c.draw(3) ? Layout::kDense : Layout::kSpaced;
      Tensor x = random(DType::kFloat32, shape, layout),
             row = random(DType::kFloat32, {shape.back()}, Layout::kDense, 3),
             one = random(kFloats[c.draw(3)], column, Layout::kDense, 4), flag = random(DType::kBool, shape);
      const bool whole = c.draw(2) != 0;
      Tensor number =
          random(kIntegers[c.draw(5)], whole ? shape : column, whole ? layout : Layout::kDense, 5);
      Tensor rows = row.expanded(shape), columns = one.expanded(shape), numbers = number.expanded(shape);
      Tensor y(DType::kFloat32, shape, c.draw(3) ? Layout::kDense : Layout::kSpaced);
      map(c.expr, {&x, &rows, &columns, &flag, &numbers}, y, 2);
      Expr expr = c.expr;  // a step at a time, each a map of its own
      std::vector<Tensor> values;
      values.reserve(expr.size());
      for (const ExprStep& s : expr) {
        if (s.op == ExprOp::kIn) {
          const Tensor* given[] = {&x, &rows, &columns, &flag, &numbers};
          values.push_back(*given[s.operand]);
          continue;
        }
        Tensor value(s.type == 'b' ? DType::kBool : DType::kFloat32, shape);
        Expr alone;
        std::vector<Tensor*> operands;
        ExprStep copy = s;
        for (int& arg : copy.args) {
          if (arg < 0) continue;
          const auto from = static_cast<std::size_t>(arg);
          alone.push_back(in(static_cast<int>(operands.size()), expr[from].type));
          operands.push_back(&values[from]);
          arg = static_cast<int>(alone.size()) - 1;
        }
        alone.push_back(copy);
        map(alone, operands, value);
        values.push_back(value);
      }
      CHECK_TENSOR(y, ([&](const Shape& i) { return values.back().get(i); }), 0);
    }
  });
}

TEST(cpu_fused, integers_are_rounded_once) {
  const Shape shape = {3, 37};
  on_every_isa([&] {
    Tensor x(DType::kInt64, shape), y(DType::kFloat32, shape);
    for (std::int64_t i = 0; i < 3; ++i) {
      for (std::int64_t j = 0; j < 37; ++j)
        x.set({i, j}, static_cast<double>((std::int64_t{1} << j) + (i - 1) * (j % 5)));
    }
    map({in(0, 'i'), cast_to(0, DType::kFloat32), constant(1), step(ExprOp::kMul, 'f', 1, 2)}, {&x}, y);
    CHECK_TENSOR(y, ([&](const Shape& i) { return static_cast<double>(static_cast<float>(x.get(i))); }), 0);
  });
}
