// Pooling, resizing and sampling beside the CPU's kernels.
#include "metal/constants.h"
#include "support/gpu_against_cpu.h"

using namespace npu;
using namespace npu::test;

namespace {

const Subject kPool{cpu::make_pool, gpu::make_pool, OpKind::kPool};
const Subject kAdaptive{cpu::make_adaptive_pool, gpu::make_adaptive_pool, OpKind::kAdaptivePool};
const Subject kResize{cpu::make_resize, gpu::make_resize, OpKind::kResize};

const Subject kGrid{cpu::make_grid_sample, gpu::make_grid_sample, OpKind::kGridSample};

// As positions are computed where they do not fit into 32 bits.
const gpu::FunctionConstant kWidePositions{gpu::kFcResizeNarrow, gpu::FunctionConstant::Type::kBool, 0};

}  // namespace

TEST(kernels_images, pools) {
  using Kind = PoolAttrs::Kind;
  for (const DType dtype : kFloatTypes) {
    for (const Layout layout : kReadLayouts) {
      Tensor x = random(dtype, {2, 8, 9, 7}, layout), y(dtype, {2, 8, 5, 4}, layout),
             indices(DType::kInt64, {2, 8, 5, 4});
      x.set({0, 0, 1, 1}, NAN);
      for (const bool padding : {false, true}) {
        for (const std::int64_t divisor : {0, 5}) {
          const PoolAttrs attrs{Kind::kAvg, {3, 2}, {2, 2}, {1, 1}, {1, 1}, padding, divisor};
          AGREE(kPool, attrs, (Operands{&x}), (Operands{&y, nullptr}), 1);
        }
      }
      const PoolAttrs attrs{Kind::kMax, {3, 2}, {2, 2}, {1, 1}, {2, 1}, true, 0};
      AGREE(kPool, attrs, (Operands{&x}), (Operands{&y, nullptr}), 0);
      AGREE(kPool, attrs, (Operands{&x}), (Operands{&y, &indices}), 0);
    }
    for (const Shape& shape : {Shape{2, 3, 20}, Shape{1, 4, 6, 5, 8}}) {
      const std::size_t dims = shape.size() - 2;
      const std::vector<std::int64_t> two(dims, 2), one(dims, 1), none(dims, 0);
      Shape out = shape;
      for (std::size_t d = 2; d < shape.size(); ++d) out[d] = shape[d] / 2;
      Tensor x = random(dtype, shape), y(dtype, out);
      AGREE(kPool, (PoolAttrs{Kind::kMax, two, two, none, one, true, 0}), (Operands{&x}),
            (Operands{&y, nullptr}), 0);
    }
  }
}

TEST(kernels_images, pools_adaptively) {
  using Kind = AdaptivePoolAttrs::Kind;
  for (const DType dtype : kFloatTypes) {
    for (const Layout layout : kReadLayouts) {
      for (const Shape& out : {Shape{2, 8, 1, 1}, Shape{2, 8, 3, 4}, Shape{2, 8, 11, 9}}) {
        Tensor x = random(dtype, {2, 8, 9, 7}, layout), y(dtype, out, layout), indices(DType::kInt64, out);
        AGREE(kAdaptive, (AdaptivePoolAttrs{Kind::kAvg}), (Operands{&x}), (Operands{&y, nullptr}), 1);
        AGREE(kAdaptive, (AdaptivePoolAttrs{Kind::kMax}), (Operands{&x}), (Operands{&y, nullptr}), 0);
        AGREE(kAdaptive, (AdaptivePoolAttrs{Kind::kMax}), (Operands{&x}), (Operands{&y, &indices}), 0);
      }
    }
  }
}

TEST(kernels_images, resizes) {
  using Kind = ResizeAttrs::Kind;
  for (const DType dtype : kFloatTypes) {
    for (const Layout layout : kReadLayouts) {
      for (const Kind kind : {Kind::kNearest, Kind::kNearestExact, Kind::kLinear, Kind::kCubic}) {
        for (const bool corners : {false, true}) {
          for (const Shape& out : {Shape{2, 4, 13, 14}, Shape{2, 4, 3, 1}}) {
            Tensor x = random(dtype, {2, 4, 6, 7}, layout), y(dtype, out, layout);
            const double exact = kind == Kind::kNearest || kind == Kind::kNearestExact ? 0 : 2;
            AGREE(kResize, (ResizeAttrs{kind, corners, {0.0, 0.0}}), (Operands{&x}), (Operands{&y}), exact);
          }
        }
      }
      Tensor x = random(dtype, {1, 2, 5, 9, 4}, layout), y(dtype, {1, 2, 8, 9, 9}, layout);
      const ResizeAttrs linear{Kind::kLinear, false, {1.7, 0.0, 2.3}};
      AGREE(kResize, linear, (Operands{&x}), (Operands{&y}), 2);
      AGREE(kResize, linear, (Operands{&x}), (Operands{&y}), 2, {}, {kWidePositions});
    }
  }
}

TEST(kernels_images, samples_at_positions) {
  using Kind = GridSampleAttrs::Kind;
  using Padding = GridSampleAttrs::Padding;
  for (const DType dtype : kFloatTypes) {
    for (const Layout layout : kReadLayouts) {
      for (const Kind kind : {Kind::kNearest, Kind::kLinear, Kind::kCubic}) {
        for (const Padding padding : {Padding::kZeros, Padding::kBorder, Padding::kReflection}) {
          for (const bool corners : {false, true}) {
            const GridSampleAttrs attrs{kind, padding, corners};
            const double exact = kind == Kind::kNearest ? 0 : 4;
            Tensor x = random(dtype, {2, 4, 6, 7}, layout), y(dtype, {2, 4, 5, 3}, layout);
            Tensor grid = random(corners ? DType::kFloat32 : dtype, {2, 5, 3, 2});
            grid.set({0, 0, 1, 1}, NAN);
            grid.set({1, 2, 1, 0}, -INFINITY);
            AGREE(kGrid, attrs, (Operands{&x, &grid}), (Operands{&y}), exact);
            if (kind == Kind::kCubic) continue;
            Tensor deep = random(dtype, {1, 3, 4, 3, 5}, layout), z(dtype, {1, 3, 2, 9, 4}, layout);
            Tensor places = random(DType::kFloat32, {1, 2, 9, 4, 3});
            AGREE(kGrid, attrs, (Operands{&deep, &places}), (Operands{&z}), exact);
          }
        }
      }
    }
  }
}
