// Copies, padding, gathers, scatters and ranges: what the CPU's kernels give, bit for bit.
#include "metal/args.h"
#include "support/gpu_against_cpu.h"

using namespace npu;
using namespace npu::test;

namespace {

const Subject kCopy{cpu::make_copy, gpu::make_copy, OpKind::kCopy};
const Subject kPad{cpu::make_pad, gpu::make_pad, OpKind::kPad};
const Subject kGather{cpu::make_gather, gpu::make_gather, OpKind::kGather};
const Subject kScatter{cpu::make_scatter, gpu::make_scatter, OpKind::kScatter};
const Subject kIota{cpu::make_iota, gpu::make_iota, OpKind::kIota};

Tensor indices(DType dtype, const Shape& shape, std::int64_t low, std::int64_t high) {
  Tensor t = random(DType::kInt64, shape, Layout::kDense, 7), result(dtype, shape);
  for_each(shape, [&](const Shape& i) {
    const std::int64_t span = high - low, number = static_cast<std::int64_t>(t.get(i)) + 10;
    result.set(i, static_cast<double>(low + number * 31 % span));
  });
  return result;
}

}  // namespace

TEST(kernels_moves, copies_between_any_layouts) {
  for (const DType dtype : kAllTypes) {
    for (const Layout from : kLayouts) {
      for (const Layout to : kLayouts) {
        for (const Shape& shape : {Shape{}, Shape{1, 1}, Shape{37}, Shape{2, 33, 40}, Shape{2, 8, 3, 9}}) {
          Tensor x = random(dtype, shape, from), y(dtype, shape, to);
          AGREE(kCopy, CopyAttrs{}, (Operands{&x}), (Operands{&y}), 0);
        }
      }
    }
  }
}

TEST(kernels_moves, copies_broadcast) {
  for (const DType dtype : {DType::kBool, DType::kFloat16, DType::kFloat32, DType::kInt64}) {
    Tensor row = random(dtype, {40}), column = random(dtype, {5, 1}), y(dtype, {5, 40});
    Tensor a = row.expanded({5, 40}), b = column.expanded({5, 40});
    AGREE(kCopy, CopyAttrs{}, (Operands{&a}), (Operands{&y}), 0);
    AGREE(kCopy, CopyAttrs{}, (Operands{&b}), (Operands{&y}), 0);
  }
}

// Dense rows that come in the order from the last to the first.
TEST(kernels_moves, copies_rows_upside_down) {
  for (const DType dtype : {DType::kBool, DType::kFloat16, DType::kFloat32, DType::kInt64}) {
    Tensor x = random(dtype, {5, 38}), y(dtype, {5, 38}), turned = x, to = y;
    turned.offset = to.offset = 4 * 38;
    turned.strides[0] = to.strides[0] = -38;
    AGREE(kCopy, CopyAttrs{}, (Operands{&turned}), (Operands{&y}), 0);
    AGREE(kCopy, CopyAttrs{}, (Operands{&x}), (Operands{&to}), 0);
  }
}

TEST(kernels_moves, pads_in_every_way) {
  using Kind = PadAttrs::Kind;
  for (const DType dtype : kAllTypes) {
    for (const Layout layout : kReadLayouts) {
      for (const Kind kind : {Kind::kConstant, Kind::kReflect, Kind::kReplicate, Kind::kCircular}) {
        Tensor x = random(dtype, {2, 3, 5, 4}, layout), y(dtype, {2, 3, 7, 5}, layout);
        AGREE(kPad, (PadAttrs{{0, 0, 3, -1}, {0, 0, -1, 2}, kind, 1}), (Operands{&x}), (Operands{&y}), 0);
      }
    }
  }
  Tensor nothing(DType::kFloat32, {0, 3}), y(DType::kFloat32, {2, 3});
  AGREE(kPad, (PadAttrs{{1, 0}, {1, 0}, Kind::kConstant, -2.5}), (Operands{&nothing}), (Operands{&y}), 0);
}

TEST(kernels_moves, gathers_rows_and_elements) {
  for (const DType dtype : kAllTypes) {
    for (const DType index : {DType::kInt64, DType::kInt32, DType::kInt16, DType::kInt8}) {
      for (const Layout layout : kReadLayouts) {
        Tensor x = random(dtype, {9, 24}, layout), rows = indices(index, {5, 1}, -9, 9), y(dtype, {5, 24});
        Tensor wide = rows.expanded({5, 24}), each = indices(index, {5, 24}, -9, 9);
        AGREE(kGather, (GatherAttrs{{0}, {-1, 1}, true}), (Operands{&x, &wide}), (Operands{&y}), 0);
        AGREE(kGather, (GatherAttrs{{0}, {-1, 1}, true}), (Operands{&x, &each}), (Operands{&y}), 0);
      }
    }
  }
}

TEST(kernels_moves, gathers_by_several_indices) {
  Tensor x = random(DType::kFloat16, {4, 5, 6, 8}), y(DType::kFloat16, {7, 8});
  Tensor a = indices(DType::kInt64, {7, 1}, 0, 4).expanded({7, 8}),
         b = indices(DType::kInt32, {1, 8}, 0, 5).expanded({7, 8});
  Tensor c = indices(DType::kUInt8, {7, 8}, 0, 6);
  AGREE(kGather, (GatherAttrs{{0, 1, 2}, {-1, -1, -1, 1}, false}), (Operands{&x, &a, &b, &c}), (Operands{&y}),
        0);
}

TEST(kernels_moves, as_many_indices_as_there_can_be) {
  for (std::size_t axes = 1; axes <= 8; ++axes) {
    Tensor x = random(DType::kFloat32, Shape(axes, 2)), y(DType::kFloat32, {9});
    std::vector<Tensor> index_operands;
    std::vector<std::int64_t> which(axes), rest(axes, -1);
    for (std::size_t k = 0; k < axes; ++k) {
      which[k] = static_cast<std::int64_t>(k);
      index_operands.push_back(random(DType::kBool, {9}, Layout::kDense, k + 1));
      Tensor number(DType::kInt64, {9});
      for_each({9}, [&](const Shape& i) { number.set(i, index_operands[k].get(i)); });
      index_operands[k] = number;
    }
    Operands operands{&x};
    for (Tensor& t : index_operands) operands.push_back(&t);
    AGREE(kGather, (GatherAttrs{which, rest, false}), operands, (Operands{&y}), 0);
  }
}

TEST(kernels_moves, reports_an_index_out_of_range) {
  Tensor x = random(DType::kFloat32, {4, 8}), rows(DType::kInt64, {2, 1}), y(DType::kFloat32, {2, 8});
  rows.set({0, 0}, 3);
  rows.set({1, 0}, -1);
  Tensor wide = rows.expanded({2, 8});
  GpuRun run;
  run_gpu(gpu::make_gather, OpKind::kGather, GatherAttrs{{0}, {-1, 1}, false}, {&x, &wide}, {&y}, run);
  gpu::Status status{};
  std::memcpy(&status, run.status.data(), sizeof status);
  CHECK_EQ(status.dimension, 1);
  CHECK_EQ(status.index, -1);
  CHECK_EQ(y.get({0, 5}), x.get({3, 5}));
  CHECK_EQ(y.get({1, 5}), 0.0);
}

TEST(kernels_moves, scatters_in_order) {
  using Kind = ScatterAttrs::Kind;
  for (const DType dtype : kAllTypes) {
    for (const Kind kind : {Kind::kSet, Kind::kAdd, Kind::kMul, Kind::kMax, Kind::kMin}) {
      if (dtype == DType::kBool && kind != Kind::kSet) continue;
      for (const Layout layout : kReadLayouts) {
        Tensor x = random(dtype, {3, 5, 8}, layout), y(dtype, {3, 5, 8}, layout),
               u = random(dtype, {3, 9, 8}, layout, 3);
        Tensor rows = indices(DType::kInt64, {1, 9, 1}, -5, 5).expanded({3, 9, 8});
        Tensor each = indices(DType::kInt32, {3, 9, 8}, 0, 5);
        AGREE(kScatter, (ScatterAttrs{kind, {1}, {0, -1, 2}, true}), (Operands{&x, &u, &rows}),
              (Operands{&y}), 0);
        AGREE(kScatter, (ScatterAttrs{kind, {1}, {0, -1, 2}, false}), (Operands{&x, &u, &each}),
              (Operands{&y}), 0);
      }
    }
  }
}

// So many updates that they are sorted by target, in one block and in several.
TEST(kernels_moves, scatters_many_updates_in_order) {
  using Kind = ScatterAttrs::Kind;
  for (const std::int64_t updates : {200, 3000}) {
    for (const Kind kind : {Kind::kSet, Kind::kAdd}) {
      Tensor x = random(DType::kFloat16, {50, 4}), y(DType::kFloat16, {50, 4}),
             u = random(DType::kFloat16, {updates, 4});
      Tensor rows = indices(DType::kInt64, {updates, 1}, 0, 50).expanded({updates, 4});
      Tensor each = indices(DType::kInt64, {updates, 4}, 0, 50);
      const ScatterAttrs attrs{kind, {0}, {-1, 1}, false};
      CHECK(AGREE(kScatter, attrs, (Operands{&x, &u, &rows}), (Operands{&y}), 0).launches >= 4);
      CHECK(AGREE(kScatter, attrs, (Operands{&x, &u, &each}), (Operands{&y}), 0).launches >= 4);
    }
  }
}

TEST(kernels_moves, ranges_are_rounded_once) {
  for (const DType dtype : kAllTypes) {
    if (dtype == DType::kBool) continue;
    Tensor y(dtype, {1000});
    AGREE(kIota, (IotaAttrs{-3, 2}), Operands{}, (Operands{&y}), 0);
    if (is_float(dtype)) AGREE(kIota, (IotaAttrs{0.1, 1.0 / 3}), Operands{}, (Operands{&y}), 0);
  }
}
