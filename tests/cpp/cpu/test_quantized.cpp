// Quantised operands: as numbers, and in products, beside sums in double.
#include "core/program/quantization.h"
#include "support/cpu_cases.h"

using namespace npu;
using namespace npu::test;

namespace {

constexpr DType kFloats[] = {DType::kFloat32, DType::kFloat16, DType::kBFloat16};
using Offset = Quantization::Offset;

// Integers, scales and offsets, and the numbers that they stand for.
struct Quantized {
  Quantization how;
  Tensor q, scales, offsets, units;
  std::int64_t depth;

  Quantized(const Quantization& how_, const Shape& shape, DType scale_dtype, DType offset_dtype,
            Layout layout = Layout::kDense)
      : how(how_), depth(shape.back()) {
    Shape bytes = shape, groups = shape;
    bytes.back() = how.row_bytes(depth);
    groups.back() = how.groups(depth);
    q = random(DType::kUInt8, bytes, layout, 1);
    std::uint64_t state = 7;
    for_each(bytes, [&](const Shape& at) {
      state = state * 6364136223846793005ull + 1442695040888963407ull;
      q.set(at, static_cast<double>(state >> 56));
    });
    const auto multiples = how.unit == 0 ? std::nullopt : std::optional(DType::kInt8);
    scales = random(multiples.value_or(scale_dtype), groups, layout, 2);
    offsets = random(multiples.value_or(offset_dtype), groups, layout, 3);
    if (how.unit == 0) return;
    Shape of_units = shape;
    of_units.back() = how.units(depth);
    units = random(scale_dtype, of_units, layout, 8);
    for_each(of_units, [&](const Shape& at) { units.set(at, units.get(at) / 128); });
    for (Tensor* x : {&scales, &offsets}) {
      for_each(groups, [&](const Shape& at) {
        state = state * 6364136223846793005ull + 1442695040888963407ull;
        x->set(at, static_cast<double>(state >> 56) - 128);
      });
    }
  }

  Tensor* offsets_or_null() { return how.offset == Offset::kNone ? nullptr : &offsets; }
  Tensor* units_or_null() { return how.unit == 0 ? nullptr : &units; }

  double number(Shape at) const {
    const std::int64_t k = at.back(), bits = how.bits;
    std::int64_t integer = 0;
    for (std::int64_t b = 0; b < bits; ++b) {
      at.back() = (k * bits + b) / 8;
      const auto byte = static_cast<std::int64_t>(q.get(at));
      integer |= (byte >> ((k * bits + b) % 8) & 1) << b;
    }
    if (how.is_signed && integer >> (bits - 1) != 0) integer -= std::int64_t{1} << bits;
    at.back() = how.group == 0 ? 0 : k / how.group;
    double scale = scales.get(at), offset = how.offset == Offset::kNone ? 0 : offsets.get(at);
    if (how.unit != 0) {
      at.back() = k / how.unit * how.unit_parts();
      scale *= units.get(at);
      at.back() += how.unit_parts() - 1;
      offset *= units.get(at);
    }
    if (how.offset == Offset::kNone) return scale * static_cast<double>(integer);
    return how.offset == Offset::kPoint ? scale * (static_cast<double>(integer) - offset)
                                        : scale * static_cast<double>(integer) + offset;
  }
};

double largest(const Quantization& how) { return 3.0 * (static_cast<double>(1 << how.bits) + 4); }

void check_dequantize(const Quantization& how, const Shape& shape, DType out_dtype, DType scale_dtype,
                      Layout layout) {
  Quantized x(how, shape, scale_dtype, DType::kFloat32, layout);
  Tensor out(out_dtype, shape, layout);
  DequantizeAttrs attrs{how.bits, how.group, static_cast<DequantizeAttrs::Offset>(how.offset), how.is_signed,
                        how.unit};
  run_op(cpu::make_dequantize, OpKind::kDequantize, attrs,
         {&x.q, &x.scales, x.offsets_or_null(), x.units_or_null()}, {&out}, 2);
  CHECK_TENSOR(
      out, [&](const Shape& at) { return x.number(at); }, out_dtype == DType::kFloat32 ? largest(how) : 1.5);
}

struct ProductCase {
  std::int64_t rows = 1, columns = 1, depth = 1;
  Quantization how;
  bool halves = false, bias = false;
  Layout layout = Layout::kDense;
  DType scales = DType::kFloat16;
};

void check_product(const ProductCase& c, DType dtype) {
  const std::int64_t sums = c.halves ? 2 * c.columns : c.columns;
  Quantized b(c.how, {sums, c.depth}, c.scales, DType::kBFloat16, c.layout);
  Tensor a = random(dtype, {2, c.rows, c.depth}, c.layout, 4);
  Tensor bias = random(DType::kFloat32, {sums}, Layout::kDense, 5).expanded({2, c.rows, sums});
  const Shape shape = {2, c.rows, c.columns};
  Tensor extra = random(dtype, shape, c.layout, 6), out(dtype, shape, c.layout);
  MatmulAttrs attrs{
      c.halves,        {},        c.how.bits, c.how.group, static_cast<MatmulAttrs::Offset>(c.how.offset),
      c.how.is_signed, c.how.unit};
  std::vector<Tensor*> inputs = {
      &a, &b.q, c.bias ? &bias : nullptr, &b.scales, b.offsets_or_null(), b.units_or_null()};
  if (c.halves) {  // the difference of both, and the extra
    attrs.epilogue = {in(0), in(1), step(ExprOp::kSub, 'f', 0, 1), in(2), step(ExprOp::kAdd, 'f', 2, 3)};
    inputs.push_back(&extra);
  }
  run_op(cpu::make_matmul, OpKind::kMatmul, attrs, inputs, {&out}, 2);
  const auto sum = [&](const Shape& at, std::int64_t column) {
    double total = c.bias ? bias.get({at[0], at[1], column}) : 0;
    for (std::int64_t k = 0; k < c.depth; ++k) total += a.get({at[0], at[1], k}) * b.number({column, k});
    return total;
  };
  // What is added up, and in float32 the scale that a group's sum is multiplied by.
  const double scale = std::sqrt(static_cast<double>(c.depth) + 1) * largest(c.how);
  CHECK_TENSOR(
      out,
      [&](const Shape& at) {
        if (!c.halves) return sum(at, at[2]);
        return sum(at, at[2]) - sum(at, at[2] + c.columns) + extra.get(at);
      },
      dtype == DType::kFloat32 ? 4 * scale : 0.5 * scale);
}

}  // namespace

TEST(cpu_quantized, numbers) {
  on_every_isa([] {
    for (const std::int64_t bits : {2, 3, 4, 6, 8}) {
      for (const Offset offset : {Offset::kNone, Offset::kPoint, Offset::kBias}) {
        for (const bool is_signed : {false, true}) {
          for (const std::int64_t group : {0, 1, 5, 16, 32, 100}) {
            const Quantization how{bits, group, offset, is_signed};
            check_dequantize(how, {3, 77}, DType::kFloat32, DType::kFloat16, Layout::kDense);
            check_dequantize(how, {2, 2, 16}, DType::kBFloat16, DType::kFloat32, Layout::kDense);
          }
        }
      }
    }
  });
}

TEST(cpu_quantized, numbers_of_any_layout) {
  on_every_isa([] {
    for (const Layout layout : kLayouts) {
      for (const DType dtype : kFloats) {
        for (const std::int64_t bits : {3, 4, 8}) {
          const Quantization how{bits, 7, Offset::kBias, false};
          check_dequantize(how, {2, 3, 40}, dtype, dtype, layout);
          check_dequantize(how, {3000}, dtype, DType::kBFloat16, layout);
        }
      }
      check_dequantize({4, 0, Offset::kNone, true}, {0, 5}, DType::kFloat32, DType::kFloat32, layout);
      check_dequantize({4, 0, Offset::kNone, true}, {5, 0}, DType::kFloat32, DType::kFloat32, layout);
      check_dequantize({4, 0, Offset::kNone, true}, {1}, DType::kFloat32, DType::kFloat32, layout);
    }
  });
}

TEST(cpu_quantized, numbers_of_units) {
  on_every_isa([] {
    for (const Layout layout : kLayouts) {
      for (const Offset offset : {Offset::kNone, Offset::kPoint, Offset::kBias}) {
        for (const std::int64_t group : {1, 5, 16, 32}) {
          for (const std::int64_t groups : {1, 3, 8}) {
            const Quantization how{group % 2 == 0 ? 6 : 4, group, offset, true, groups * group};
            check_dequantize(how, {3, 77}, DType::kFloat32, DType::kFloat16, layout);
            check_dequantize(how, {2, 2, 700}, DType::kBFloat16, DType::kFloat32, layout);
          }
        }
      }
    }
  });
}

TEST(cpu_quantized, products_of_units) {
  on_every_isa([] {
    for (const DType dtype : kFloats) {
      for (const std::int64_t rows : {1, 2, 5, 10}) {
        for (const std::int64_t unit : {32, 64, 96, 128, 256, 512}) {
          for (const std::int64_t depth : {768, 201}) {
            const auto offset = static_cast<Offset>((rows + unit / 32) % 3);
            check_product(
                {.rows = rows,
                 .columns = 21,
                 .depth = depth,
                 .how = {unit % 64 == 0 ? 6 : 4, unit % 64 == 0 ? 16 : 32, offset, rows % 2 == 0, unit},
                 .bias = rows % 2 == 0,
                 .scales = kFloats[rows % 3]},
                dtype);
            check_product({.rows = rows,
                           .columns = 6,
                           .depth = depth,
                           .how = {4, 32, Offset::kBias, false, unit},
                           .halves = true,
                           .layout = kLayouts[unit / 32 % 2]},
                          dtype);
          }
        }
      }
    }
  });
}

TEST(cpu_quantized, products_of_few_rows_and_of_many) {
  on_every_isa([] {
    for (const DType dtype : kFloats) {
      for (const std::int64_t rows : {1, 2, 3, 4, 5, 10}) {
        for (const std::int64_t bits : {4, 6, 8}) {
          for (const std::int64_t group : {0, 16, 32, 64, 128, 96}) {
            for (const std::int64_t depth : {256, 201}) {
              const auto offset = static_cast<Offset>((rows + group / 32) % 3);
              check_product({.rows = rows,
                             .columns = 21,
                             .depth = depth,
                             .how = {bits, group, offset, (rows + bits / 4) % 2 == 0},
                             .halves = depth == 201,
                             .bias = rows % 2 == 0,
                             .scales = kFloats[rows % 3]},
                            dtype);
            }
          }
        }
      }
    }
  });
}

TEST(cpu_quantized, products_of_any_layout) {
  on_every_isa([] {
    for (const DType dtype : kFloats) {
      for (const Layout layout : kLayouts) {
        for (const std::int64_t rows : {1, 7}) {
          for (const std::int64_t bits : {3, 4, 6, 8}) {
            check_product({.rows = rows,
                           .columns = 9,
                           .depth = 70,
                           .how = {bits, 32, Offset::kBias, false},
                           .halves = true,
                           .layout = layout},
                          dtype);
          }
        }
      }
    }
  });
}

TEST(cpu_quantized, products_of_nothing) {
  on_every_isa([] {
    const Quantization how{4, 32, Offset::kPoint, false};
    for (const std::int64_t rows : {0, 1, 20}) {
      check_product({.rows = rows, .columns = 5, .depth = 0, .how = how, .bias = true}, DType::kFloat32);
      check_product({.rows = rows, .columns = 0, .depth = 5, .how = how, .bias = true}, DType::kFloat32);
    }
  });
}
