// Two arithmetic steps at a time, each rounded as it is alone: this file is compiled without fused
// multiply-adds.
#include "cpu/micro/functions.h"
#include "cpu/micro/table.h"

namespace npu::cpu::NPU_ISA {

namespace {

template <class First>
void chain_of(First first, const ChainCall& s, std::int64_t n) {
  const auto each_of = [&](auto f) {  // f(what the first step gives, c)
    each(s.a, s.b, s.c, s.y, n, [=](F32 u, F32 v, F32 w) { return f(first(u, v), w); });
  };
  switch (s.op) {
    case ExprOp::kAdd:
      return each_of([](F32 u, F32 v) { return u + v; });
    case ExprOp::kSub:
      if (s.form == ChainForm::kSecond) return each_of([](F32 u, F32 v) { return v - u; });
      return each_of([](F32 u, F32 v) { return u - v; });
    case ExprOp::kMul:
      if (s.form == ChainForm::kBoth) return each_of([](F32 u, F32) { return u * u; });
      return each_of([](F32 u, F32 v) { return u * v; });
    case ExprOp::kAbs:
      return each_of([](F32 u, F32) { return absolute(u); });
    default:
      return each_of([](F32 u, F32) { return u < 0.0f ? all(0.0f) : u; });
  }
}

void chain(const ChainCall& s, std::int64_t n) {
  switch (s.first) {
    case ExprOp::kAdd:
      return chain_of([](F32 u, F32 v) { return u + v; }, s, n);
    case ExprOp::kSub:
      return chain_of([](F32 u, F32 v) { return u - v; }, s, n);
    case ExprOp::kMul:
      return chain_of([](F32 u, F32 v) { return u * v; }, s, n);
    default:
      return chain_of([](F32 u, F32 v) { return u / v; }, s, n);
  }
}

void scale_rows(float* y, std::int64_t step, std::int64_t rows, std::int64_t n, float by, float plus) {
  for (std::int64_t i = 0; i < rows; ++i)
    each(y + i * step, y + i * step, n, [=](F32 v) { return v * by + plus; });
}

}  // namespace

void fill_chains(Micro& micro) {
  micro.chain = chain;
  micro.scale_rows = scale_rows;
}

}  // namespace npu::cpu::NPU_ISA
