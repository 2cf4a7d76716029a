// Products in all dtypes, with epilogues, and of two halves.
#include <memory>

#include "npu/buffer.h"
#include "support/cpu_cases.h"

using namespace npu;
using namespace npu::test;

namespace {

constexpr DType kFloats[] = {DType::kFloat32, DType::kFloat16, DType::kBFloat16};

struct ProductCase {
  std::int64_t batch = 1, rows = 1, columns = 1, depth = 1;
  bool halves = true, transposed = true, shared = true, constant = false, bias = true, extra = true,
       add = false;
  Layout layout = Layout::kDense;
  int threads = 1;
};

// silu(first) * second + extra, or first + second; of one sum: silu(sum) + extra.
MatmulAttrs attributes(const ProductCase& c) {
  if (c.add) return {.halves = true, .epilogue = {in(0), in(1), step(ExprOp::kAdd, 'f', 0, 1)}};
  Expr expr = {in(0), step(ExprOp::kSilu, 'f', 0)};
  if (c.halves) {
    expr.push_back(in(1));
    expr.push_back(step(ExprOp::kMul, 'f', 1, 2));
  }
  if (c.extra) {
    const int last = static_cast<int>(expr.size()) - 1;
    expr.push_back(in(c.halves ? 2 : 1));
    expr.push_back(step(ExprOp::kAdd, 'f', last, last + 1));
  }
  return {.halves = c.halves, .epilogue = expr};
}

void run_packed(const ProductCase& c, const std::vector<Tensor*>& inputs, Tensor& out) {
  Op op;
  op.kind = OpKind::kMatmul;
  op.name = "tested";
  op.attrs = attributes(c);
  KernelRequest request{op, {}, {describe(&out)}, c.threads};
  std::vector<const void*> in;
  for (Tensor* t : inputs) {
    request.inputs.push_back(describe(t));
    in.push_back(t == nullptr ? nullptr : t->first());
  }
  request.inputs[1].constant = c.constant;
  const auto kernel = cpu::make_matmul(request);
  ThreadPool pool(c.threads);
  const auto room = [](std::size_t bytes) {
    return Buffer::allocate(DType::kUInt8, {static_cast<std::int64_t>(bytes)});
  };
  Buffer scratch = room(kernel->scratch_bytes()), packed = room(kernel->packed_bytes());
  if (kernel->packed_input() >= 0) {
    kernel->pack(in[1], static_cast<std::byte*>(packed.data()), pool);
    in[1] = nullptr;  // run() must not read it
  }
  void* to[] = {out.first()};
  kernel->run({in.data(), to, static_cast<std::byte*>(scratch.data()),
               kernel->packed_input() >= 0 ? static_cast<std::byte*>(packed.data()) : nullptr},
              pool);
}

void check_matmul(const ProductCase& c, DType dtype) {
  const std::int64_t sums = c.halves ? 2 * c.columns : c.columns, b_batch = c.shared ? 1 : c.batch;
  Tensor a = random(dtype, {c.batch, c.rows, c.depth}, c.layout, 1);
  Tensor b = c.transposed ? random(dtype, {b_batch, sums, c.depth}, c.layout, 2)
                          : random(dtype, {b_batch, c.depth, sums}, c.layout, 2);
  if (c.transposed) {
    std::swap(b.shape[1], b.shape[2]);
    std::swap(b.strides[1], b.strides[2]);
  }
  b = b.expanded({c.batch, c.depth, sums});
  if (c.shared) b.strides[0] = 0;
  Tensor bias = random(DType::kFloat32, {sums}, Layout::kDense, 3).expanded({c.batch, c.rows, sums});
  const Shape shape = {c.batch, c.rows, c.columns};
  Tensor extra = random(dtype, shape, Layout::kDense, 4), out = random(dtype, shape, c.layout, 5);
  std::vector<Tensor*> inputs = {&a, &b, c.bias ? &bias : nullptr, nullptr, nullptr, nullptr};
  if (c.extra) inputs.push_back(&extra);
  run_packed(c, inputs, out);
  const auto sum = [&](const Shape& at, std::int64_t column) {
    double total = c.bias ? bias.get({at[0], at[1], column}) : 0;
    for (std::int64_t k = 0; k < c.depth; ++k) total += a.get({at[0], at[1], k}) * b.get({at[0], k, column});
    return total;
  };
  const auto silu = [](double x) { return x / (1 + std::exp(-x)); };
  double scale = std::sqrt(static_cast<double>(c.depth) + 1);  // what sums are rounded to
  if (c.halves) scale *= scale;
  CHECK_TENSOR(
      out,
      [&](const Shape& at) {
        if (c.add) return sum(at, at[2]) + sum(at, at[2] + c.columns);
        double y = silu(sum(at, at[2]));
        if (c.halves) y *= sum(at, at[2] + c.columns);
        return y + (c.extra ? extra.get(at) : 0);
      },
      3 + (dtype == DType::kFloat32 ? 4 : 0.1) * scale);
}

}  // namespace

TEST(cpu_products, halves) {
  on_every_isa([] {
    for (const DType dtype : kFloats) {
      for (const std::int64_t rows : {1, 3, 8, 9, 17}) {
        for (const std::int64_t columns : {1, 70, 133}) {
          for (int options = 0; options < 16; ++options) {
            ProductCase c{.rows = rows,
                          .columns = columns,
                          .depth = columns == 1    ? 520
                                   : columns == 70 ? 37
                                                   : 21};
            c.transposed = options & 1, c.constant = options & 2, c.bias = options & 4;
            c.extra = !c.bias, c.threads = options & 8 ? 2 : 1;
            check_matmul(c, dtype);
          }
        }
      }
    }
  });
}

TEST(cpu_products, every_dtype_and_stride) {
  on_every_isa([] {
    for (const DType dtype : kFloats) {
      for (const Layout layout : kLayouts) {
        for (const bool halves : {false, true}) {
          for (const bool shared : {false, true}) {
            for (const std::int64_t rows : {1, 5, 20}) {
              check_matmul({.batch = 2,
                            .rows = rows,
                            .columns = 45,
                            .depth = 70,
                            .halves = halves,
                            .transposed = layout != Layout::kSpaced,
                            .shared = shared,
                            .layout = layout,
                            .threads = 2},
                           dtype);
            }
          }
        }
      }
    }
  });
}

// What tiles could add to a single sum.
TEST(cpu_products, halves_added) {
  on_every_isa([] {
    for (const DType dtype : kFloats) {
      for (const std::int64_t rows : {1, 20})
        check_matmul({.rows = rows, .columns = 40, .depth = 30, .extra = false, .add = true}, dtype);
    }
  });
}

// Depths that are taken in parts, and rows of weights that follow each other in memory.
TEST(cpu_products, long_rows) {
  on_every_isa([] {
    for (const DType dtype : kFloats) {
      for (const std::int64_t rows : {1, 2, 4, 8, 9}) {
        for (const std::int64_t depth : {200, 3071, 5300}) {
          check_matmul({.rows = rows, .columns = 12, .depth = depth, .halves = false, .threads = 2}, dtype);
        }
      }
      check_matmul({.rows = 1, .columns = 4, .depth = 25000, .halves = false}, dtype);
    }
  });
}

TEST(cpu_products, sums_of_nothing) {
  on_every_isa([] {
    for (const DType dtype : kFloats) {
      for (const std::int64_t rows : {0, 1, 20}) {
        check_matmul({.rows = rows, .columns = 40, .depth = 0}, dtype);
        check_matmul({.rows = rows, .columns = 0, .depth = 5}, dtype);
      }
    }
  });
}
