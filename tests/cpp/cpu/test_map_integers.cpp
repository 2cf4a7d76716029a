// Elementwise expressions in the width of their integers.
#include "support/cpu_cases.h"

using namespace npu;
using namespace npu::test;

namespace {

void map(const Expr& expr, const std::vector<Tensor*>& inputs, Tensor& out) {
  run_op(cpu::make_map, OpKind::kMap, MapAttrs{expr}, inputs, {&out});
}

// The ends of a dtype and what is near them and zero, in pairs; no second one is 0.
constexpr std::int64_t kEnds[] = {
    0,   1,   -1,   2,   -2,  3,     -7,     31,        32,        63,
    100, 127, -128, 200, 255, 32767, -32768, INT32_MAX, INT32_MIN, INT32_MIN + 1};
constexpr auto kEndCount = static_cast<std::int64_t>(std::size(kEnds));
constexpr std::int64_t kPairs = 4 * kEndCount * kEndCount + 5;  // several blocks

std::int64_t integer_at(const Tensor& t, std::int64_t i) {
  return cpu::visit_dtype(t.dtype, [&](auto value) -> std::int64_t {
    std::memcpy(&value, t.data.data() + t.where({i}), sizeof value);
    if constexpr (std::is_integral_v<decltype(value)>) return static_cast<std::int64_t>(value);
    return 0;
  });
}

// In the width of the operands, and in int64, wrapped in the end.
void check_narrow(const Expr& expr, DType dtype, DType result) {
  Tensor a(dtype, {kPairs}), b(dtype, {kPairs}), wide_a(DType::kInt64, {kPairs}),
      wide_b(DType::kInt64, {kPairs});
  for (std::int64_t i = 0; i < kPairs; ++i) {
    a.set({i}, static_cast<double>(kEnds[i % kEndCount]));
    b.set({i}, static_cast<double>(kEnds[i / kEndCount % kEndCount]));
    if (integer_at(b, i) == 0) b.set({i}, 5);
    wide_a.set({i}, a.get({i}));
    wide_b.set({i}, b.get({i}));
  }
  Tensor got(result, {kPairs}), want(result == dtype ? DType::kInt64 : result, {kPairs});
  map(expr, {&a, &b}, got);
  // Casts to the dtype stay, so that what wraps on the way does so here too.
  map(expr, {&wide_a, &wide_b}, want);
  for (std::int64_t i = 0; i < kPairs; ++i) {
    Tensor stored(result, {1});
    const std::int64_t exact = integer_at(want, i);
    std::memcpy(stored.data.data(), &exact, size_of(result));
    if (integer_at(got, i) == integer_at(stored, 0)) continue;
    std::ostringstream text;
    text << cpu::micro().name << " " << dtype_name(dtype) << " "
         << kExprOps[static_cast<int>(expr.back().op)].name << " of " << integer_at(a, i) << " and "
         << integer_at(b, i) << ": " << integer_at(got, i) << ", not " << integer_at(stored, 0);
    return report_failure(__FILE__, __LINE__, text.str());
  }
}

constexpr DType kNarrow[] = {DType::kInt8, DType::kUInt8, DType::kInt16, DType::kInt32};

}  // namespace

TEST(cpu_map, narrow_integers_wrap_as_wide_ones) {
  on_every_isa([] {
    for (const DType dtype : kNarrow) {
      for (int i = static_cast<int>(ExprOp::kAdd); i < static_cast<int>(std::size(kExprOps)); ++i) {
        const std::string_view takes = kExprOps[i].takes;
        const bool compares = kExprOps[i].gives == 'b';
        const ExprStep done = takes.size() == 2 ? step(static_cast<ExprOp>(i), compares ? 'b' : 'i', 0, 1)
                                                : step(static_cast<ExprOp>(i), compares ? 'b' : 'i', 0);
        if (takes != "nn" && takes != "ii" && takes != "n" && takes != "i") continue;
        check_narrow({in(0, 'i'), in(1, 'i'), done}, dtype, compares ? DType::kBool : dtype);
      }
    }
  });
}

// What the low bits of a sum or product do not tell.
TEST(cpu_map, narrow_integers_are_widened_where_high_bits_matter) {
  on_every_isa([] {
    for (const DType dtype : kNarrow) {
      const auto check = [&](ExprOp first, ExprOp second, DType result) {
        const char gives = result == DType::kBool ? 'b' : 'i';
        check_narrow({in(0, 'i'), in(1, 'i'), step(first, 'i', 0, 1), step(second, gives, 2, 1)}, dtype,
                     result);
        check_narrow(
            {in(0, 'i'), in(1, 'i'), step(first, 'i', 0, 1), cast_to(2, dtype), step(second, gives, 3, 1)},
            dtype, result);
      };
      for (const ExprOp first :
           {ExprOp::kAdd, ExprOp::kMul, ExprOp::kSub, ExprOp::kAnd, ExprOp::kMax, ExprOp::kShl}) {
        for (const ExprOp second :
             {ExprOp::kAdd, ExprOp::kMax, ExprOp::kShr, ExprOp::kIdivFloor, ExprOp::kXor, ExprOp::kIpow})
          check(first, second, dtype);
        for (const ExprOp second : {ExprOp::kLt, ExprOp::kEq}) check(first, second, DType::kBool);
      }
      for (const double number : {1.0, 127.0, 128.0, -1.0, 256.0, 65536.0, 0x1p40}) {
        check_narrow({in(0, 'i'), constant(number, 'i'), step(ExprOp::kAdd, 'i', 0, 1)}, dtype, dtype);
        check_narrow({in(0, 'i'), constant(number, 'i'), step(ExprOp::kMin, 'i', 0, 1)}, dtype, dtype);
        check_narrow({in(0, 'i'), constant(number, 'i'), step(ExprOp::kEq, 'b', 0, 1)}, dtype, DType::kBool);
      }
    }
  });
}
