#include "support/cpu_cases.h"

using namespace npu;
using namespace npu::test;

namespace {

Tensor indices(DType dtype, const Shape& shape, std::int64_t extent, std::uint64_t seed,
               bool negative = false) {
  Tensor t(dtype, shape);
  std::uint64_t state = seed;
  for_each(shape, [&](const Shape& i) {
    state = state * 6364136223846793005ull + 1442695040888963407ull;
    const auto v = static_cast<std::int64_t>((state >> 33) % static_cast<std::uint64_t>(extent));
    t.set(i, static_cast<double>(negative && (state & (1u << 20)) ? v - extent : v));
  });
  return t;
}

std::int64_t wrapped(double v, std::int64_t extent) {
  return static_cast<std::int64_t>(v < 0 ? v + static_cast<double>(extent) : v);
}

}  // namespace

TEST(cpu_index, embedding) {
  for (const DType dtype : {DType::kFloat32, DType::kBFloat16, DType::kInt8, DType::kInt64}) {
    for (const Layout layout : {Layout::kDense, Layout::kReversed, Layout::kSpaced}) {
      for (const DType itype : {DType::kInt64, DType::kInt32}) {
        Tensor table = random(dtype, {50, 24}, layout), ids = indices(itype, {3, 7}, 50, 5),
               y(dtype, {3, 7, 24}, layout);
        Tensor wide = ids;
        wide.shape = {3, 7, 24};
        wide.strides.push_back(0);
        run_op(cpu::make_gather, OpKind::kGather, GatherAttrs{{0}, {-1, 2}, false}, {&table, &wide}, {&y}, 2);
        CHECK_TENSOR(y, ([&](const Shape& i) {
                       return table.get({static_cast<std::int64_t>(ids.get({i[0], i[1]})), i[2]});
                     }));
      }
    }
  }
}

TEST(cpu_index, gather_elements) {
  for (const Layout layout : kLayouts) {
    const Shape shape = {4, 5, 6};
    Tensor x = random(DType::kFloat32, shape, layout), ids = indices(DType::kInt64, {4, 3, 6}, 5, 7, true),
           y(DType::kFloat32, {4, 3, 6}, layout);
    run_op(cpu::make_gather, OpKind::kGather, GatherAttrs{{1}, {0, -1, 2}, true}, {&x, &ids}, {&y});
    CHECK_TENSOR(y, ([&](const Shape& i) { return x.get({i[0], wrapped(ids.get(i), 5), i[2]}); }));
    // Two index operands, as in x[a, :, b], and a long row.
    Tensor a = indices(DType::kInt32, {900}, 4, 8), b = indices(DType::kInt64, {900}, 6, 9),
           z(DType::kFloat32, {900, 5}, layout);
    Tensor wide_a = a, wide_b = b;
    for (Tensor* t : {&wide_a, &wide_b}) t->shape = {900, 5}, t->strides = {1, 0};
    run_op(cpu::make_gather, OpKind::kGather, GatherAttrs{{0, 2}, {-1, 1, -1}, false}, {&x, &wide_a, &wide_b},
           {&z}, 2);
    CHECK_TENSOR(z, ([&](const Shape& i) {
                   return x.get({static_cast<std::int64_t>(a.get({i[0]})), i[1],
                                 static_cast<std::int64_t>(b.get({i[0]}))});
                 }));
  }
}

TEST(cpu_index, out_of_range) {
  Tensor x = random(DType::kFloat32, {5, 4}), ids(DType::kInt64, {3}), y(DType::kFloat32, {3, 4}),
         up = random(DType::kFloat32, {3, 4});
  Tensor wide = ids;
  const auto with = [&](double v) {
    ids.set({1}, v);
    wide = ids;
    wide.shape = {3, 4};
    wide.strides = {1, 0};
  };
  for (const double bad : {5.0, -1.0, 1e15}) {
    with(bad);
    CHECK_THROWS(
        run_op(cpu::make_gather, OpKind::kGather, GatherAttrs{{0}, {-1, 1}, false}, {&x, &wide}, {&y}),
        "\"tested\" is out of range");
    Tensor out = x;
    CHECK_THROWS(
        run_op(cpu::make_scatter, OpKind::kScatter,
               ScatterAttrs{ScatterAttrs::Kind::kSet, {0}, {-1, 1}, false}, {&x, &up, &wide}, {&out}),
        "out of range");
  }
  with(-6);
  CHECK_THROWS(run_op(cpu::make_gather, OpKind::kGather, GatherAttrs{{0}, {-1, 1}, true}, {&x, &wide}, {&y}),
               "from -5 to 4");
  with(-5);
  run_op(cpu::make_gather, OpKind::kGather, GatherAttrs{{0}, {-1, 1}, true}, {&x, &wide}, {&y});
  // Element by element, too.
  Tensor single(DType::kInt64, {2, 4}), z(DType::kFloat32, {2, 4});
  single.set({1, 2}, 5);
  CHECK_THROWS(
      run_op(cpu::make_gather, OpKind::kGather, GatherAttrs{{0}, {-1, 1}, false}, {&x, &single}, {&z}),
      "got 5");
}

TEST(cpu_index, scatter) {
  using Kind = ScatterAttrs::Kind;
  const auto apply = [](Kind kind, double a, double u) {
    switch (kind) {
      case Kind::kAdd:
        return a + u;
      case Kind::kMul:
        return a * u;
      case Kind::kMax:
        return std::max(a, u);
      case Kind::kMin:
        return std::min(a, u);
      default:
        return u;
    }
  };
  for (const Kind kind : {Kind::kSet, Kind::kAdd, Kind::kMul, Kind::kMax, Kind::kMin}) {
    for (const DType dtype : {DType::kFloat32, DType::kFloat16, DType::kInt32, DType::kInt64}) {
      for (const Layout layout : {Layout::kDense, Layout::kReversed, Layout::kBackwards}) {
        for (const bool rows : {true, false}) {
          for (const bool in_place : {true, false}) {
            Tensor x = random(dtype, {6, 33}, layout), up = random(dtype, {5, 33}, layout, 3),
                   y(dtype, {6, 33}, layout);
            Tensor ids = indices(DType::kInt64, rows ? Shape{5, 1} : Shape{5, 33}, 6, 11, true);
            Tensor wide = ids.expanded({5, 33}), want(DType::kFloat32, {6, 33});
            for_each(want.shape, [&](const Shape& i) { want.set(i, x.get(i)); });
            for_each(up.shape, [&](const Shape& i) {
              const Shape c = {wrapped(wide.get(i), 6), i[1]};
              want.set(c, apply(kind, want.get(c), up.get(i)));
            });
            Tensor& out = in_place ? x : y;
            run_op(cpu::make_scatter, OpKind::kScatter, ScatterAttrs{kind, {0}, {-1, 1}, true},
                   {&x, &up, &wide}, {&out});
            CHECK_TENSOR(out, ([&](const Shape& i) { return want.get(i); }), 8);
          }
        }
      }
    }
  }
}

// Of updates to one element the last one, in row-major order, stays.
TEST(cpu_index, scatter_order) {
  Tensor x(DType::kInt64, {4}), up(DType::kInt64, {3, 5}, Layout::kReversed), ids(DType::kInt64, {3, 5}),
      y(DType::kInt64, {4});
  std::int64_t next = 1;
  for_each(up.shape, [&](const Shape& i) {
    up.set(i, static_cast<double>(next));
    ids.set(i, static_cast<double>(next++ % 2));
  });
  run_op(cpu::make_scatter, OpKind::kScatter, ScatterAttrs{ScatterAttrs::Kind::kSet, {0}, {-1}, false},
         {&x, &up, &ids}, {&y});
  CHECK_TENSOR(y, ([](const Shape& i) { return i[0] == 0 ? 14.0 : i[0] == 1 ? 15.0 : 0.0; }));
}

TEST(cpu_index, scatter_bools) {
  Tensor x(DType::kBool, {4}), up(DType::kBool, {2}), ids(DType::kInt64, {2}), y(DType::kBool, {4});
  up.set({0}, 1);
  ids.set({0}, 3);
  run_op(cpu::make_scatter, OpKind::kScatter, ScatterAttrs{ScatterAttrs::Kind::kAdd, {0}, {-1}, false},
         {&x, &up, &ids}, {&y});
  CHECK_TENSOR(y, ([](const Shape& i) { return i[0] == 3; }));
}
