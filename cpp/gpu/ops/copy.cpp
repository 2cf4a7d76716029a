#include "gpu/ops/copy.h"

#include <cstdlib>

#include "gpu/ops/ops.h"

namespace npu::gpu {

namespace {

constexpr std::int64_t kLargestPart = std::int64_t{1} << 30;  // words of a dense copy in one launch

// The dimension along which x is contiguous, when it is another one than y's and tiles are worth it; or -1.
int tiled_dim(const Nest& nest) {
  constexpr std::int64_t kWorthwhile = 8;  // an estimate: docs/metal.md, Thresholds
  if (nest.inner() < kWorthwhile || std::abs(nest.step(1)) <= 1 || std::abs(nest.step(0)) != 1) return -1;
  for (int d = 0; d + 1 < nest.rank; ++d) {
    const auto i = static_cast<std::size_t>(d);
    if (std::abs(nest.strides[1][i]) == 1 && nest.extent[i] >= kWorthwhile) return d;
  }
  return -1;
}

std::int64_t first_of(const TensorDesc& desc, std::size_t word) {
  return bytes_before(desc) / static_cast<std::int64_t>(word);
}

Dispatch transposed(const Request& r, const TensorDesc& y, const TensorDesc& x, const Nest& nest, int dim) {
  const DType dtype = y.dtype;
  const auto d = static_cast<std::size_t>(dim);
  TransposeArgs args{};
  args.across = count32(r.op, nest.inner());
  args.down = count32(r.op, nest.extent[d]);
  args.y_across = nest.step(0);
  args.x_across = nest.step(1);
  args.y_down = nest.strides[0][d];
  args.x_down = nest.strides[1][d];
  args.y_first = first_of(y, size_of(dtype));
  args.x_first = first_of(x, size_of(dtype));
  const Nest rest = without_dim(without_dim(nest, nest.rank - 1), dim);
  args.rest = nest_of<2>(r.op, rest);
  Dispatch launch("copy", Moved{nest, size_of(dtype), false}.function("copy_transposed"));
  launch.with(args)
      .constant(kFcCopyDense, false)
      .grid({ceil_div(args.across, kCopyTile), ceil_div(args.down, kCopyTile),
             static_cast<std::uint32_t>(rest.elements())},
            {kCopyTile, 8, 1});
  return launch;
}

Dispatch along_rows(const Request& r, const TensorDesc& y, const TensorDesc& x, const Moved& some) {
  Dispatch launch("copy", some.function("copy_rows"));
  launch.with(CopyArgs{nest_of<2>(r.op, some.nest), first_of(y, some.word), first_of(x, some.word)})
      .constant(kFcCopyDense, some.dense);
  over_rows(launch, some.columns(), some.nest.rows);
  return launch;
}

}  // namespace

void add_copy(GpuKernel& kernel, const Request& r, int output, int input) {
  const auto& y = r.outputs[static_cast<std::size_t>(output)];
  const auto& x = r.inputs[static_cast<std::size_t>(input)];
  const Nest nest = make_nest(y.shape, {y.strides, x.strides});
  if (nest.elements() == 0) return;
  const auto add = [&](Dispatch launch) -> Dispatch& {
    launch.input(kBufferX, input, r).output(kBufferY, output, r);
    if (nest.alike()) launch.unless_same(output, input);
    return kernel.add(std::move(launch));
  };
  if (const int dim = tiled_dim(nest); dim >= 0) {
    add(transposed(r, y, x, nest, dim));
    return;
  }
  const Moved all = moved(nest, y.dtype, std::min(y.alignment, x.alignment));
  if (!all.dense || all.nest.rank > 1 || all.nest.inner() <= kLargestPart) {
    add(along_rows(r, y, x, all));
    return;
  }
  for (std::int64_t first = 0; first < all.nest.inner(); first += kLargestPart) {
    Moved part = all;
    part.nest.extent[0] = std::min(kLargestPart, all.nest.inner() - first);
    for (BufferUse& use : add(along_rows(r, y, x, part)).buffers) {
      use.offset = first * static_cast<std::int64_t>(all.word);
      use.high = part.nest.inner() * static_cast<std::int64_t>(all.word);
    }
  }
}

KernelPtr make_copy(const Request& r) {
  const Nest nest = make_nest(r.outputs[0].shape, {r.outputs[0].strides, r.inputs[0].strides});
  const bool whole = nest.rank == 1 && dense(nest, 0) && dense(nest, 1);
  auto kernel = std::make_unique<GpuKernel>(whole ? "copy" : "copy[strided]");
  add_copy(*kernel, r, 0, 0);
  return kernel;
}

}  // namespace npu::gpu
