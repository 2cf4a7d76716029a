// Chooses how a convolution is computed: in blocks, as a product of patches and packed weights; depthwise; or
// directly, where groups are too narrow for blocks or the weights are not known before the run.
#include <algorithm>
#include <cstdlib>

#include "core/machine/thread_pool.h"
#include "gpu/ops/product.h"

namespace npu::gpu {

namespace {

constexpr std::int64_t kFewColumns = 8;  // of a group: too few for a block
constexpr int kGroupsPerCore = 2;        // that keep a core busy

// Three spatial dimensions; missing ones lead.
ConvArgs geometry_of(const Request& r) {
  const auto& attrs = std::get<ConvAttrs>(r.op.attrs);
  const TensorDesc &x = r.inputs[0], &w = r.inputs[1], &out = r.outputs[0];
  const auto count = [&](std::int64_t n) { return count32(r.op, n); };
  ConvArgs args{};
  args.x_batch = x.strides[0];
  args.x_channel = x.strides[1];
  args.groups = count(attrs.groups);
  args.channels = count(x.shape[1] / attrs.groups);
  args.columns = count(out.shape[1] / attrs.groups);
  for (int d = 0; d < 3; ++d) {
    args.in[d] = args.out[d] = args.taps[d] = args.stride[d] = args.dilation[d] = args.up[d] = 1;
  }
  const std::size_t spatial = x.shape.size() - 2;
  for (std::size_t i = 0; i < spatial; ++i) {
    const std::size_t d = 3 - spatial + i;
    args.in[d] = count(x.shape[i + 2]);
    args.out[d] = count(out.shape[i + 2]);
    args.taps[d] = count(w.shape[i + 2]);
    args.stride[d] = count(attrs.stride[i]);
    args.low[d] = count(attrs.padding_low[i]);
    args.dilation[d] = count(attrs.dilation[i]);
    args.up[d] = count(attrs.input_dilation[i]);
    args.x_step[d] = x.strides[i + 2];
    args.weight_step[d] = w.strides[i + 2];
    count(args.low[d] + static_cast<std::int64_t>(args.taps[d]) * args.dilation[d] +
          static_cast<std::int64_t>(args.out[d]) * args.stride[d]);
  }
  args.weight_column = w.strides[0];
  args.weight_channel = w.strides[1];
  args.weight_group = w.strides[0] * args.columns;
  args.pixels = count(out.elements() / out.shape[1]);
  return args;
}

std::int64_t taps(const ConvArgs& args) {
  return static_cast<std::int64_t>(args.taps[0]) * args.taps[1] * args.taps[2];
}

// Weights as [group][tap][channel][column], columns padded to a multiple of 4 in blocks.
class ConvKernel final : public GpuKernel {
 public:
  ConvKernel(std::string name, const TensorDesc& weight, const ConvArgs& args, std::int64_t padded_columns)
      : GpuKernel(std::move(name)), weight_(weight), args_(args), columns_(padded_columns) {}

  int packed_input() const override { return 1; }
  std::size_t packed_bytes() const override {
    return static_cast<std::size_t>(args_.groups * rows() * columns_) * size_of(weight_.dtype);
  }
  std::string packing() const override {
    std::string text =
        "conv columns " + std::to_string(columns_) + " groups " + std::to_string(args_.groups) + " of";
    for (const auto extent : weight_.shape) text += " " + std::to_string(extent);
    for (const auto stride : weight_.strides) text += "," + std::to_string(stride);
    return text;
  }
  void pack(const void* raw, std::byte* packed, ThreadPool& pool) const override {
    pool.run(args_.groups * rows(), [&](std::int64_t row, int) {
      if (size_of(weight_.dtype) == 4) {
        pack_row(static_cast<const std::uint32_t*>(raw), reinterpret_cast<std::uint32_t*>(packed), row);
      } else {
        pack_row(static_cast<const std::uint16_t*>(raw), reinterpret_cast<std::uint16_t*>(packed), row);
      }
    });
  }

 private:
  std::int64_t rows() const { return taps(args_) * args_.channels; }  // of a group

  template <class Word>
  void pack_row(const Word* raw, Word* packed, std::int64_t row) const {
    const std::int64_t group = row / rows(), depth = row % rows();
    const std::int64_t tap = depth / args_.channels, channel = depth % args_.channels;
    const std::int64_t w = tap % args_.taps[2], h = tap / args_.taps[2] % args_.taps[1],
                       d = tap / args_.taps[2] / args_.taps[1];
    const Word* from = raw + group * args_.weight_group + channel * args_.weight_channel +
                       d * args_.weight_step[0] + h * args_.weight_step[1] + w * args_.weight_step[2];
    Word* to = packed + row * columns_;
    for (std::int64_t c = 0; c < args_.columns; ++c) to[c] = from[c * args_.weight_column];
    std::fill(to + args_.columns, to + columns_, Word{0});
  }

  TensorDesc weight_;
  ConvArgs args_;
  std::int64_t columns_;
};

class Maker {
 public:
  Maker(const Request& r, const Epilogue& epilogue)
      : r_(r), args_(geometry_of(r)), product_(r, epilogue, dims(r), 1) {
    args_.product = product_.args();
    args_.product.depth = count32(r.op, taps(args_) * args_.channels);
    args_.product.first[NPU_LEFT] = first_element(r.inputs[0]);
    args_.product.first[NPU_RIGHT] = first_element(r.inputs[1]);
    args_.blocks = count32(r.op, product_.blocks());
  }

  Made make() {
    const bool packs = r_.inputs[1].constant && args_.channels > 0;
    const bool depthwise =
        args_.groups > 1 && args_.channels == 1 && args_.columns == 1 && args_.x_channel == 1;
    const bool blocks =
        r_.caps.matrices && (args_.groups == 1 ? args_.columns >= kFewColumns : wide_groups());
    Made kernel = packs && depthwise ? by_channels() : packs && blocks ? by_blocks() : directly(packs);
    const double sums = static_cast<double>(r_.outputs[0].elements());
    kernel->set_cost(2.0 * args_.product.depth * sums);
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

  Dispatch launch_of(std::string_view library, const std::string& kernel, std::int64_t packed_bytes) const {
    Dispatch launch(library, function_name(kernel, r_.inputs[0].dtype));
    launch.with(args_).input(1, 0, r_);
    if (packed_bytes > 0) {
      launch.packed(2, packed_bytes);
    } else {
      launch.input(2, 1, r_);
    }
    product_.finish(launch);
    const bool spreads = args_.up[0] * args_.up[1] * args_.up[2] != 1;
    return launch.constant(10, spreads).constant(12, short_offsets());
  }

  bool short_offsets() const {
    const TensorDesc& x = r_.inputs[0];
    std::int64_t reach = 0;
    for (std::size_t d = 0; d < x.shape.size(); ++d)
      reach += std::abs(x.strides[d]) * std::max<std::int64_t>(x.shape[d], 1);
    return reach <= std::numeric_limits<std::int32_t>::max();
  }

  Made by_blocks() {
    const std::int64_t rows = product_.rows(), columns = args_.columns, padded = (columns + 3) / 4 * 4;
    const auto groups = [&](std::int64_t down, std::int64_t across) {
      return static_cast<std::int64_t>(ceil_div(rows, down)) * ceil_div(columns, across) * args_.blocks *
             args_.groups;
    };
    const std::int64_t wanted = kGroupsPerCore * r_.caps.cores;
    const bool large = rows > 32 && columns > 32 && groups(64, 64) >= wanted;
    const bool tiny = !large && groups(32, 32) < wanted && args_.product.depth >= 256;
    const std::int64_t down = large ? 64 : tiny ? 16 : 32, across = large ? 64 : 32;
    const bool fours = args_.x_channel == 1 && args_.channels % 4 == 0;
    auto kernel = std::make_unique<ConvKernel>("conv[blocks]", r_.inputs[1], args_, padded);
    Dispatch launch = launch_of("conv",
                                std::string("conv_") +
                                    (large  ? "large"
                                     : tiny ? "tiny"
                                            : "small") +
                                    (fours ? "_fours" : "_any"),
                                static_cast<std::int64_t>(kernel->packed_bytes()));
    launch.constant(11, static_cast<int>(padded));
    launch.grid({ceil_div(columns, across), ceil_div(rows, down),
                 static_cast<std::uint32_t>(args_.blocks * args_.groups)},
                {large ? 128u : 256u, 1, 1});
    kernel->add(std::move(launch));
    return kernel;
  }

  Made by_channels() {
    const std::int64_t width = args_.out[2], lines = args_.pixels / width;
    auto kernel = std::make_unique<ConvKernel>("conv[depthwise]", r_.inputs[1], swapped(), args_.groups);
    Dispatch launch =
        launch_of("conv_direct", "conv_depthwise", static_cast<std::int64_t>(kernel->packed_bytes()));
    const std::int64_t fours = ceil_div(args_.groups, 4), strips = ceil_div(width, 4);
    const std::uint32_t x = fours > 16 ? 32 : fours > 8 ? 16 : 8, y = strips > 4 ? 8 : strips > 2 ? 4 : 2;
    const std::uint32_t z = 256 / (x * y);
    launch.grid({ceil_div(fours, x), ceil_div(strips, y), ceil_div(lines, z)}, {x, y, z});
    kernel->add(std::move(launch));
    return kernel;
  }

  // Channels as the columns of one group, for packing: [tap][channel].
  ConvArgs swapped() const {
    ConvArgs args = args_;
    std::swap(args.groups, args.columns);
    return args;
  }

  Made directly(bool packs) {
    Made kernel;
    std::int64_t bytes = 0;
    if (packs) {
      auto packing = std::make_unique<ConvKernel>("conv[direct]", r_.inputs[1], args_, args_.columns);
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
    const std::int64_t fours = ceil_div(args_.columns, 4);
    const std::uint32_t x = fours > 4 ? 8 : fours > 2 ? 4 : fours > 1 ? 2 : 1;
    const std::uint32_t z = args_.groups > 8 ? 8 : 1, y = 256 / (x * z);
    launch.grid({ceil_div(fours, x), ceil_div(args_.pixels, y), ceil_div(args_.groups, z)}, {x, y, z});
    kernel->add(std::move(launch));
    return kernel;
  }

  const Request& r_;
  ConvArgs args_;
  Product product_;
};

}  // namespace

Made make_conv(const Request& r) {
  if (r.outputs[0].elements() == 0) return std::make_unique<GpuKernel>("conv");
  const auto& attrs = std::get<ConvAttrs>(r.op.attrs);
  const std::optional<Epilogue> epilogue = make_epilogue(r, attrs.epilogue);
  if (epilogue) return Maker(r, *epilogue).make();
  ConvAttrs alone = attrs;
  alone.epilogue.clear();
  return with_separate_epilogue(r, attrs.epilogue, alone, make_conv);
}

}  // namespace npu::gpu
