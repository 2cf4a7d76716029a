// Chooses how a convolution is computed: in blocks, as a product of patches and packed weights; depthwise; or
// directly, where groups are too narrow for blocks or the weights are not known before the run.
#include "core/geometry/conv.h"

#include <algorithm>
#include <cstdlib>

#include "core/machine/thread_pool.h"
#include "gpu/ops/product.h"
#include "gpu/ops/tensor_blocks.h"

namespace npu::gpu {

namespace {

// Estimates: docs/metal.md, Thresholds.
constexpr std::int64_t kFewColumns = 8;   // of a group: too few for a block
constexpr int kGroupsPerCore = 2;         // that keep a core busy
constexpr std::int64_t kTinyDepth = 256;  // from which tiny blocks, whose simdgroups share it, are worth it

constexpr std::uint32_t kThreads = 256;  // of a threadgroup without blocks

ConvGeometry geometry_of(const Request& r) {
  return conv_geometry(std::get<ConvAttrs>(r.op.attrs), r.inputs[0], r.inputs[1], r.outputs[0]);
}

ConvArgs arguments(const Request& r, const ConvGeometry& g) {
  const auto count = [&](std::int64_t n) { return count32(r.op, n); };
  ConvArgs args{};
  args.x_batch = g.x_batch;
  args.x_channel = g.x_channel;
  args.groups = count(g.groups);
  args.channels = count(g.group_in());
  args.columns = count(g.group_out());
  for (std::size_t d = 0; d < 3; ++d) {
    args.in[d] = count(g.in[d]);
    args.out[d] = count(g.out[d]);
    args.taps[d] = count(g.kernel[d]);
    args.stride[d] = count(g.stride[d]);
    args.low[d] = count(g.low[d]);
    args.dilation[d] = count(g.dilation[d]);
    args.up[d] = count(g.up[d]);
    args.x_step[d] = g.x_step[d];
    args.weight_step[d] = g.weight_step[d];
    count(g.low[d] + g.kernel[d] * g.dilation[d] + g.out[d] * g.stride[d]);
  }
  args.weight_column = g.weight_column;
  args.weight_channel = g.weight_channel;
  args.weight_group = g.weight_column * g.group_out();
  args.pixels = count(g.pixels());
  return args;
}

// Weights as [group][tap][channel][column], columns padded to a multiple of 4 in blocks.
class ConvKernel final : public GpuKernel {
 public:
  ConvKernel(std::string name, const TensorDesc& weight, const ConvGeometry& geometry,
             std::int64_t padded_columns)
      : GpuKernel(std::move(name)), weight_(weight), g_(geometry), columns_(padded_columns) {}

  int packed_input() const override { return 1; }
  std::size_t packed_bytes() const override {
    return static_cast<std::size_t>(g_.groups * g_.depth() * columns_) * size_of(weight_.dtype);
  }
  std::string packing() const override {
    return "conv columns " + std::to_string(columns_) + " groups " + std::to_string(g_.groups) + " of" +
           weight_text(weight_);
  }
  void pack(const void* raw, std::byte* packed, ThreadPool& pool) const override {
    pool.run(g_.groups * g_.depth(), [&](std::int64_t row, int) {
      if (size_of(weight_.dtype) == 4) {
        pack_row(static_cast<const std::uint32_t*>(raw), reinterpret_cast<std::uint32_t*>(packed), row);
      } else {
        pack_row(static_cast<const std::uint16_t*>(raw), reinterpret_cast<std::uint16_t*>(packed), row);
      }
    });
  }

 private:
  template <class Word>
  void pack_row(const Word* raw, Word* packed, std::int64_t row) const {
    const std::int64_t group = row / g_.depth(), columns = g_.group_out();
    const Word* from = raw + g_.weight_at(group * columns, row % g_.depth());
    Word* to = packed + row * columns_;
    for (std::int64_t c = 0; c < columns; ++c) to[c] = from[c * g_.weight_column];
    std::fill(to + columns, to + columns_, Word{0});
  }

  TensorDesc weight_;
  ConvGeometry g_;
  std::int64_t columns_;
};

// Weights as [group][column][tap][channel], with zeros after the channels where they are padded.
class TensorConvKernel final : public GpuKernel {
 public:
  TensorConvKernel(std::string name, const TensorDesc& weight, const ConvGeometry& geometry,
                   std::int64_t padded_channels)
      : GpuKernel(std::move(name)), weight_(weight), g_(geometry), channels_(padded_channels) {}

  int packed_input() const override { return 1; }
  std::size_t packed_bytes() const override {
    return static_cast<std::size_t>(g_.groups * g_.group_out() * depth()) * size_of(weight_.dtype);
  }
  std::string packing() const override {
    return "conv depth channels " + std::to_string(channels_) + " groups " + std::to_string(g_.groups) +
           " of" + weight_text(weight_);
  }
  void pack(const void* raw, std::byte* packed, ThreadPool& pool) const override {
    pool.run(g_.groups * g_.group_out(), [&](std::int64_t column, int) {
      if (size_of(weight_.dtype) == 4) {
        pack_column(static_cast<const std::uint32_t*>(raw), reinterpret_cast<std::uint32_t*>(packed), column);
      } else {
        pack_column(static_cast<const std::uint16_t*>(raw), reinterpret_cast<std::uint16_t*>(packed), column);
      }
    });
  }

 private:
  std::int64_t depth() const { return g_.depth() / g_.group_in() * channels_; }

  template <class Word>
  void pack_column(const Word* raw, Word* packed, std::int64_t column) const {
    Word* to = packed + column * depth();
    const std::int64_t channels = g_.group_in();
    for (std::int64_t k = 0; k < depth(); ++k) {
      const std::int64_t tap = k / channels_, channel = k % channels_;
      to[k] = channel < channels ? raw[g_.weight_at(column, tap * channels + channel)] : Word{0};
    }
  }

  TensorDesc weight_;
  ConvGeometry g_;
  std::int64_t channels_;
};

class Maker {
 public:
  Maker(const Request& r, const Epilogue& epilogue)
      : r_(r), g_(geometry_of(r)), args_(arguments(r, g_)), product_(r, epilogue, dims(r), 1) {
    args_.product = product_.args();
    args_.product.depth = count32(r.op, g_.depth());
    args_.product.first[NPU_LEFT] = first_element(r.inputs[0]);
    args_.product.first[NPU_RIGHT] = first_element(r.inputs[1]);
    args_.blocks = count32(r.op, product_.blocks());
  }

  KernelPtr make() {
    const bool packs = r_.inputs[1].constant && args_.channels > 0;
    const bool depthwise = g_.depthwise() && args_.x_channel == 1;
    const bool blocks =
        r_.caps.matrices && (args_.groups == 1 ? args_.columns >= kFewColumns : wide_groups());
    KernelPtr kernel = packs && depthwise                         ? by_channels()
                       : packs && blocks && has_tensor_operands() ? by_tensor_blocks()
                       : packs && blocks && is_worth_chunks()     ? by_tensor_blocks_of_chunks()
                       : packs && blocks                          ? by_blocks()
                                                                  : directly(packs);
    const double sums = static_cast<double>(r_.outputs[0].elements());
    kernel->set_cost(2.0 * static_cast<double>(g_.depth()) * sums);
    return kernel;
  }

 private:
  static std::vector<int> dims(const Request& r) {
    std::vector<int> all = {0};
    for (int d = 2; d < static_cast<int>(r.outputs[0].shape.size()); ++d) all.push_back(d);
    return all;
  }
  bool wide_groups() const {
    return args_.columns >= 2 * kFewColumns && args_.product.depth >= 2 * kFewColumns;
  }

  // Without `finishes`, where the sums go is left open.
  Dispatch launch_of(std::string_view library, const std::string& kernel, std::int64_t packed_bytes,
                     bool finishes = true) const {
    Dispatch launch(library, function_name(kernel, r_.inputs[0].dtype));
    launch.with(args_).input(kBufferLeft, 0, r_);
    if (packed_bytes > 0) {
      launch.packed(kBufferRight, packed_bytes);
    } else {
      launch.input(kBufferRight, 1, r_);
    }
    if (finishes) product_.finish(launch);
    return with_geometry(launch);
  }

  // Of metal/conv_geometry.h.
  Dispatch& with_geometry(Dispatch& launch) const {
    return launch.constant(kFcConvSpreads, g_.spreads()).constant(kFcConvShort, short_offsets());
  }

  bool short_offsets() const {
    const TensorDesc& x = r_.inputs[0];
    std::int64_t reach = 0;
    for (std::size_t d = 0; d < x.shape.size(); ++d)
      reach += std::abs(x.strides[d]) * std::max<std::int64_t>(x.shape[d], 1);
    return reach <= std::numeric_limits<std::int32_t>::max();
  }

  KernelPtr by_blocks() {
    const std::int64_t rows = product_.rows(), columns = args_.columns, padded = (columns + 3) / 4 * 4;
    const auto groups = [&](std::int64_t down, std::int64_t across) {
      return static_cast<std::int64_t>(ceil_div(rows, down)) * ceil_div(columns, across) * args_.blocks *
             args_.groups;
    };
    const std::int64_t wanted = kGroupsPerCore * r_.caps.cores;
    const bool large =
        rows > kSmallBlock && columns > kSmallBlock && groups(kLargeBlock, kLargeBlock) >= wanted;
    const bool tiny =
        !large && groups(kSmallBlock, kSmallBlock) < wanted && args_.product.depth >= kTinyDepth;
    const std::int64_t across = large ? kLargeBlock : kSmallBlock, down = tiny ? kTinyRows : across;
    const bool fours = args_.x_channel == 1 && args_.channels % 4 == 0;
    auto kernel = std::make_unique<ConvKernel>("conv[blocks]", r_.inputs[1], g_, padded);
    Dispatch launch = launch_of("conv",
                                std::string("conv_") +
                                    (large  ? "large"
                                     : tiny ? "tiny"
                                            : "small") +
                                    (fours ? "_fours" : "_any"),
                                static_cast<std::int64_t>(kernel->packed_bytes()));
    launch.constant(kFcConvPaddedColumns, static_cast<int>(padded));
    launch.grid({ceil_div(columns, across), ceil_div(rows, down),
                 static_cast<std::uint32_t>(args_.blocks * args_.groups)},
                {large ? kLargeBlockThreads : kSmallBlockThreads, 1, 1});
    kernel->add(std::move(launch));
    return kernel;
  }

  std::int64_t chunk() const { return 16 / static_cast<std::int64_t>(size_of(r_.inputs[0].dtype)); }

  // Chunks of 16 bytes that are channels of one tap.
  bool has_tensor_operands() const {
    return r_.caps.tensor_bytes > 0 && args_.x_channel == 1 && args_.channels % chunk() == 0 &&
           has_chunks(r_.inputs[0]) && short_offsets();
  }

  std::int64_t pixels_of_input() const {
    return r_.inputs[0].shape[0] * args_.in[0] * args_.in[1] * args_.in[2];
  }

  // Few channels, such as an image's three, of 16 bits, of a convolution that takes longer than it takes to
  // make chunks of them.
  bool is_worth_chunks() const {
    constexpr double kLeast = 1e7;  // multiplications
    const double products = static_cast<double>(r_.outputs[0].elements()) * args_.product.depth;
    return r_.caps.tensor_bytes > 0 && chunk() == 8 && args_.groups == 1 && args_.channels < chunk() &&
           products >= kLeast && pixels_of_input() * chunk() <= std::numeric_limits<std::int32_t>::max();
  }

  // A launch makes chunks of the pixels' channels, in the scratch, which the convolution then reads.
  KernelPtr by_tensor_blocks_of_chunks() {
    Dispatch chunks("conv_tensor", function_name("conv_tensor_pixels", r_.inputs[0].dtype));
    const auto pixels = static_cast<std::int32_t>(pixels_of_input());
    const std::int64_t bytes = std::int64_t{pixels} * 16;
    chunks.with(ConvTensorArgs{args_, 1, args_.product.depth, pixels}).input(kBufferLeft, 0, r_);
    chunks.constant(kFcConvSplits, false);
    no_epilogue(with_geometry(chunks));
    chunks.grid({ceil_div(pixels, kThreads), 1, 1}, {kThreads, 1, 1});

    args_.product.first[NPU_LEFT] = 0;
    args_.product.depth = count32(r_.op, args_.product.depth / args_.channels * chunk());
    args_.channels = static_cast<std::int32_t>(chunk());
    args_.x_channel = 1;
    args_.x_step[2] = chunk();
    args_.x_step[1] = args_.x_step[2] * args_.in[2];
    args_.x_step[0] = args_.x_step[1] * args_.in[1];
    args_.x_batch = args_.x_step[0] * args_.in[0];
    KernelPtr made = by_tensor_blocks();
    auto& kernel = static_cast<GpuKernel&>(*made);
    const auto at = static_cast<std::int64_t>(kernel.scratch_bytes());
    for (BufferUse& use : kernel.edit().front().buffers) {
      if (use.slot != kBufferLeft) continue;
      use = {.slot = kBufferLeft, .from = From::kScratch, .offset = at, .high = bytes, .reads = true};
    }
    chunks.scratch(kBufferConvChunks, at, bytes, false, true);
    kernel.edit().insert(kernel.edit().begin(), std::move(chunks));
    kernel.set_scratch(at + bytes);
    return made;
  }

  KernelPtr by_tensor_blocks() {
    const std::int64_t rows = product_.rows(), columns = args_.columns, parts = args_.blocks * args_.groups;
    const TensorBlocks tile =
        choose_tensor_blocks({rows, columns, args_.product.depth, parts, r_.inputs[0].dtype}, r_.caps);
    const bool splits = tile.splits > 1;
    const ConvTensorArgs args{args_, static_cast<std::int32_t>(tile.splits),
                              splits ? static_cast<std::int32_t>(tile.split_depth) : args_.product.depth, 0};
    const std::string name =
        std::string(tile.groups ? "conv[tensor groups" : "conv[tensor blocks") + (splits ? ", split]" : "]");
    auto kernel = std::make_unique<TensorConvKernel>(name, r_.inputs[1], g_, args_.channels);
    Dispatch launch = launch_of("conv_tensor", "conv_" + tile.text(),
                                static_cast<std::int64_t>(kernel->packed_bytes()), !splits);
    launch.with(args).constant(kFcConvSplits, splits);
    launch.threadgroup_bytes = tile.threadgroup_bytes;
    launch.early = tile.groups;
    launch.grid({ceil_div(columns, tile.columns), ceil_div(rows, tile.rows),
                 static_cast<std::uint32_t>(parts * tile.splits)},
                {tile.threads, 1, 1});
    const std::int64_t bytes = splits ? tile.splits * parts * rows * columns * std::int64_t{4} : 0;
    if (splits) no_epilogue(launch.scratch(kBufferResult, 0, bytes, false, true));
    kernel->add(std::move(launch));
    if (splits) kernel->add(tensor_sum(args, bytes));
    kernel->set_scratch(bytes);
    return kernel;
  }

  // Adds up what splits have left in the scratch.
  Dispatch tensor_sum(const ConvTensorArgs& args, std::int64_t bytes) const {
    constexpr std::uint32_t kRows = 8;
    Dispatch sum("conv_tensor", "conv_tensor_sum");
    sum.with(args).scratch(kBufferMatmulParts, 0, bytes, true, false);
    product_.finish(sum);
    with_geometry(sum).constant(kFcConvSplits, false);
    return sum.grid({ceil_div(ceil_div(args_.columns, kSumColumns), kSimd), ceil_div(product_.rows(), kRows),
                     static_cast<std::uint32_t>(args_.blocks * args_.groups)},
                    {kSimd, kRows, 1});
  }

  KernelPtr by_channels() {
    const std::int64_t width = args_.out[2], lines = args_.pixels / width;
    auto kernel = std::make_unique<ConvKernel>("conv[depthwise]", r_.inputs[1], swapped(), args_.groups);
    Dispatch launch =
        launch_of("conv_direct", "conv_depthwise", static_cast<std::int64_t>(kernel->packed_bytes()));
    const std::int64_t fours = ceil_div(args_.groups, kConvChannels),
                       strips = ceil_div(width, kDepthwisePixels);
    const std::uint32_t x = fours > 16 ? 32 : fours > 8 ? 16 : 8, y = strips > 4 ? 8 : strips > 2 ? 4 : 2;
    const std::uint32_t z = kThreads / (x * y);
    launch.grid({ceil_div(fours, x), ceil_div(strips, y), ceil_div(lines, z)}, {x, y, z});
    kernel->add(std::move(launch));
    return kernel;
  }

  // Channels as the columns of one group, for packing: [tap][channel].
  ConvGeometry swapped() const {
    ConvGeometry g = g_;
    g.groups = g.in_channels = 1;
    return g;
  }

  KernelPtr directly(bool packs) {
    KernelPtr kernel;
    std::int64_t bytes = 0;
    if (packs) {
      auto packing = std::make_unique<ConvKernel>("conv[direct]", r_.inputs[1], g_, args_.columns);
      bytes = static_cast<std::int64_t>(packing->packed_bytes());
      kernel = std::move(packing);
      const std::int64_t columns = args_.columns, taps_of = args_.channels * columns;
      args_.product.first[NPU_RIGHT] = 0;
      args_.weight_column = 1;
      args_.weight_channel = columns;
      args_.weight_step[2] = taps_of;
      args_.weight_step[1] = taps_of * args_.taps[2];
      args_.weight_step[0] = args_.weight_step[1] * args_.taps[1];
      args_.weight_group = args_.weight_step[0] * args_.taps[0];
    } else {
      kernel = std::make_unique<GpuKernel>("conv[direct]");
    }
    Dispatch launch = launch_of("conv_direct", "conv_direct", bytes);
    const std::int64_t fours = ceil_div(args_.columns, kConvChannels);
    const std::uint32_t x = fours > 4 ? 8 : fours > 2 ? 4 : fours > 1 ? 2 : 1;
    const std::uint32_t z = args_.groups > 8 ? 8 : 1, y = kThreads / (x * z);
    launch.grid({ceil_div(fours, x), ceil_div(args_.pixels, y), ceil_div(args_.groups, z)}, {x, y, z});
    kernel->add(std::move(launch));
    return kernel;
  }

  const Request& r_;
  ConvGeometry g_;
  ConvArgs args_;
  Product product_;
};

}  // namespace

KernelPtr make_conv(const Request& r) {
  if (r.outputs[0].elements() == 0) return std::make_unique<GpuKernel>("conv");
  const auto& attrs = std::get<ConvAttrs>(r.op.attrs);
  const std::optional<Epilogue> epilogue = make_epilogue(r, attrs.epilogue);
  if (epilogue) return Maker(r, *epilogue).make();
  ConvAttrs alone = attrs;
  alone.epilogue.clear();
  return with_separate_epilogue(r, attrs.epilogue, alone, make_conv);
}

}  // namespace npu::gpu
