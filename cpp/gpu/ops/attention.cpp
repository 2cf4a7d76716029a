// Chooses how attention is computed.
#include "core/geometry/attention.h"

#include <algorithm>
#include <bit>
#include <iterator>

#include "gpu/ops/launch.h"
#include "gpu/ops/ops.h"

namespace npu::gpu {

namespace {

enum Input : std::uint8_t { kQ, kK, kV, kMask, kKeyScales, kValueScales, kInputs };

// Estimates: docs/metal.md, Thresholds.
constexpr std::int64_t kGroupsPerCore = 2;
constexpr std::int64_t kFewRows = 8;

template <std::size_t rank>
void take_steps(std::int64_t (&steps)[rank], const TensorDesc& operand) {
  if (operand.present()) std::copy(operand.strides.begin(), operand.strides.end(), steps);
}

AttentionArgs arguments(const Request& r) {
  const TensorDesc &q = r.inputs[kQ], &k = r.inputs[kK], &v = r.inputs[kV];
  AttentionArgs args{};
  take_steps(args.q_step, q);
  take_steps(args.k_step, k);
  take_steps(args.v_step, v);
  take_steps(args.mask_step, r.inputs[kMask]);
  take_steps(args.out_step, r.outputs[0]);
  take_steps(args.key_scale_step, r.inputs[kKeyScales]);
  take_steps(args.value_scale_step, r.inputs[kValueScales]);
  const AttentionGeometry g = attention_geometry(q, k, v);
  args.groups = count32(r.op, g.groups);
  args.batch = count32(r.op, g.batch);
  args.shared = count32(r.op, g.heads_of_group());
  args.rows = count32(r.op, g.queries);
  args.length = count32(r.op, g.keys);
  args.width = count32(r.op, g.width);
  args.value_width = count32(r.op, g.value_width);
  args.splits = 1;
  args.scale = static_cast<float>(std::get<AttentionAttrs>(r.op.attrs).scale);
  return args;
}

MaskKind mask_kind(const TensorDesc& mask) {
  if (!mask.present()) return MaskKind::kNone;
  return mask.dtype == DType::kBool      ? MaskKind::kBool
         : mask.dtype == DType::kFloat32 ? MaskKind::kFloat
                                         : MaskKind::kOwn;
}

// Whether every row starts at a multiple of 16 bytes and is made of such.
bool in_vectors(const TensorDesc& x) {
  const auto of_vector = 16 / static_cast<std::int64_t>(size_of(x.dtype));
  for (std::size_t d = 0; d < 3; ++d) {
    if (x.shape[d] > 1 && x.strides[d] % of_vector != 0) return false;
  }
  return x.shape[3] > 0 && x.shape[3] % of_vector == 0 && x.strides[3] == 1 && x.alignment >= 16;
}

class Maker {
 public:
  explicit Maker(const Request& r) : r_(r), args_(arguments(r)) {}

  KernelPtr make() {
    KernelPtr kernel = many_rows() && fits_tensor_tiles() ? by_tensor_tiles()
                       : many_rows() && fits_tiles()      ? by_tiles()
                       : fits_rows()                      ? by_rows()
                                                          : by_any();
    const double products =
        static_cast<double>(r_.inputs[kK].shape[2]) * static_cast<double>(args_.width + args_.value_width);
    kernel->set_cost(2.0 * products * args_.batch * args_.groups * args_.shared * args_.rows);
    return kernel;
  }

 private:
  // One of metal/attention_rows.metal; all function constants of a file want a value.
  Dispatch of_rows(std::string_view kernel, bool splits = false) const {
    Dispatch launch("attention_rows", function_name(kernel, r_.inputs[kQ].dtype));
    common_constants(launch.with(args_));
    launch.constant(kFcFewRowsWideKeys, in_vectors(r_.inputs[kK]));
    launch.constant(kFcFewRowsWideValues, in_vectors(r_.inputs[kV]));
    launch.constant(kFcFewRowsKeyLanes, lanes(args_.width));
    launch.constant(kFcFewRowsValueLanes, lanes(args_.value_width));
    launch.constant(kFcFewRowsSimdgroups, simdgroups());
    return launch.constant(kFcFewRowsParts, splits);
  }

  void common_constants(Dispatch& launch) const {
    launch.constant(kFcAttentionMask, static_cast<std::int32_t>(mask_kind(r_.inputs[kMask])));
    launch.constant(kFcAttentionCausal, attrs().causal).constant(kFcAttentionNanRows, nan_rows());
    launch.constant(kFcAttentionInt8, r_.inputs[kKeyScales].present());
  }

  void bind_operands(Dispatch& launch) const {
    launch.input(kBufferAttentionQ, kQ, r_).input(kBufferAttentionK, kK, r_);
    launch.input(kBufferAttentionV, kV, r_).input(kBufferAttentionMask, kMask, r_);
    launch.input(kBufferAttentionKeyScales, kKeyScales, r_);
    launch.input(kBufferAttentionValueScales, kValueScales, r_);
  }

  const AttentionAttrs& attrs() const { return std::get<AttentionAttrs>(r_.op.attrs); }
  bool nan_rows() const { return attrs().masked_rows == AttentionAttrs::MaskedRows::kNan; }
  std::int64_t shared_rows() const { return std::int64_t{args_.rows} * args_.shared; }
  std::uint32_t groups() const {
    return static_cast<std::uint32_t>(count32(r_.op, std::int64_t{args_.batch} * args_.groups));
  }

  // 16 bytes are a vector; a simdgroup holds one for each lane, of floats two.
  std::int64_t vectors(std::int64_t width) const {
    return ceil_div(width, 16 / static_cast<std::int64_t>(size_of(r_.inputs[kQ].dtype)));
  }
  std::int64_t most_vectors() const { return std::max(vectors(args_.width), vectors(args_.value_width)); }
  bool fits_rows() const {
    return most_vectors() <= (r_.inputs[kQ].dtype == DType::kFloat32 ? 2 : 1) * std::int64_t{kSimd};
  }

  std::int32_t lanes(std::int64_t width) const {
    const auto all = static_cast<std::uint64_t>(std::clamp<std::int64_t>(vectors(width), 4, kSimd));
    return static_cast<std::int32_t>(std::bit_ceil(all));
  }

  // Of a threadgroup of few rows. Of many columns, where launches overlap, less leave registers of a core to
  // the launches that follow.
  std::int32_t simdgroups() const {
    const bool many = args_.length > 2 * kFewRowsSimdgroups * kFewRowsColumns;
    return r_.caps.stream_bytes > 0 && many ? kFewRowsSimdgroups / 2 : kFewRowsSimdgroups;
  }

  // Few columns are the work of one threadgroup; of many, each gets at least a block for every simdgroup.
  void split_columns(std::int64_t row_groups) {
    const std::int64_t wanted = ceil_div(kGroupsPerCore * r_.caps.cores, row_groups);
    const std::int64_t most = ceil_div(args_.length, simdgroups() * kFewRowsColumns);
    args_.splits = static_cast<std::int32_t>(most <= 2 ? 1 : std::min(wanted, most));
  }

  KernelPtr by_rows() {
    int tile_rows = shared_rows() <= 1 ? 1 : shared_rows() <= 2 ? 2 : shared_rows() <= 4 ? 4 : 8;
    const auto blocks_of = [&] { return ceil_div(count32(r_.op, shared_rows()), tile_rows); };
    split_columns(std::int64_t{blocks_of()} * groups());
    // Fewer rows in more threadgroups, rather than idle cores.
    const auto too_few = [&] { return std::int64_t{blocks_of()} * groups() * args_.splits < r_.caps.cores; };
    while (r_.caps.rereads && tile_rows > 2 && too_few()) tile_rows /= 2;
    const std::uint32_t blocks = blocks_of();
    const std::int64_t results = shared_rows() * groups() * args_.splits;
    const std::int64_t peaks = results * 8;
    const std::int64_t sums = (results * args_.value_width * 4 + 255) / 256 * 256;
    const bool splits = args_.splits > 1;
    auto kernel = std::make_unique<GpuKernel>(splits ? "attention[rows, split]" : "attention[rows]");
    const std::string form = std::to_string(tile_rows) + "x" + (most_vectors() > kSimd ? "2" : "1");
    Dispatch launch = of_rows("attention_rows_" + form, splits);
    bind_operands(launch);
    if (splits) {
      launch.nothing(kBufferAttentionOut).scratch(kBufferAttentionParts, 0, sums, false, true);
      launch.scratch(kBufferAttentionPeaks, sums, peaks, false, true);
    } else {
      launch.output(kBufferAttentionOut, 0, r_).nothing(kBufferAttentionParts);
      launch.nothing(kBufferAttentionPeaks);
    }
    launch.grid({blocks, static_cast<std::uint32_t>(args_.splits), groups()},
                {static_cast<std::uint32_t>(simdgroups()) * kSimd, 1, 1});
    kernel->add(std::move(launch));
    if (!splits) return kernel;
    kernel->set_scratch(sums + peaks);
    Dispatch join = of_rows("attention_join");
    join.scratch(kBufferAttentionParts, 0, sums, true, false);
    join.scratch(kBufferAttentionPeaks, sums, peaks, true, false).output(kBufferAttentionOut, 0, r_);
    over_rows(join, args_.value_width, shared_rows() * groups());
    kernel->add(std::move(join));
    return kernel;
  }

  // Rows that are few are made by simdgroups that share the columns, however many heads share these.
  bool many_rows() const { return args_.rows > kFewRows && shared_rows() > 2 * kFewRows; }
  bool fits_tiles() const {
    return r_.caps.matrices && std::max(args_.width, args_.value_width) <= *std::rbegin(kAttentionTiles);
  }

  std::int32_t widest() const { return std::max(args_.width, args_.value_width); }
  bool fits_tensor_tiles() const {
    return r_.caps.tensor_bytes > 0 && size_of(r_.inputs[kQ].dtype) == 2 &&
           !r_.inputs[kKeyScales].present() && widest() <= *std::rbegin(kTensorHeads) &&
           in_vectors(r_.inputs[kQ]) && in_vectors(r_.inputs[kK]) && in_vectors(r_.inputs[kV]);
  }

  // Whether 16 bools of the mask can be read at once, wherever there are as many.
  bool has_wide_mask() const {
    constexpr std::int64_t kEach = 16;
    const TensorDesc& mask = r_.inputs[kMask];
    if (mask_kind(mask) != MaskKind::kBool || mask.alignment < kEach || mask.strides[3] != 1) return false;
    return std::all_of(mask.strides.begin(), mask.strides.end() - 1,
                       [](std::int64_t stride) { return stride % kEach == 0; });
  }

  KernelPtr by_tensor_tiles() const {
    constexpr std::int32_t kColumns = 64, kStages = 2;  // of k and v
    const std::int32_t width = *std::lower_bound(std::begin(kTensorHeads), std::end(kTensorHeads), widest());
    Dispatch launch("attention_tensor",
                    function_name("attention_tensor_" + std::to_string(width), r_.inputs[kQ].dtype));
    common_constants(launch.with(args_));
    launch.constant(kFcTensorAttentionWideMask, has_wide_mask());
    launch.input(kBufferAttentionQ, kQ, r_).input(kBufferAttentionK, kK, r_);
    launch.input(kBufferAttentionV, kV, r_).input(kBufferAttentionMask, kMask, r_);
    launch.output(kBufferAttentionOut, 0, r_);
    launch.threadgroup_bytes = 2 * kStages * kColumns * width * 2;
    launch.grid({ceil_div(count32(r_.op, shared_rows()), kTensorQueries), 1, groups()},
                {kTensorQueries / 16 * kSimd, 1, 1});
    auto kernel = std::make_unique<GpuKernel>("attention[tensor tiles]");
    kernel->add(std::move(launch));
    return kernel;
  }

  KernelPtr by_tiles() const {
    const DType dtype = r_.inputs[kQ].dtype;
    const int width = *std::lower_bound(std::begin(kAttentionTiles), std::end(kAttentionTiles),
                                        std::max(args_.width, args_.value_width));
    const bool widest = width == *std::rbegin(kAttentionTiles) && dtype == DType::kFloat32;
    const std::uint32_t simdgroups = widest ? kWideTileSimdgroups : kTileSimdgroups;
    const auto is_dense = [&](Input input) { return r_.inputs[input].strides[3] == 1; };
    Dispatch launch("attention", function_name("attention_" + std::to_string(width), dtype));
    common_constants(launch.with(args_));
    launch.constant(kFcTilesDenseQueries, is_dense(kQ)).constant(kFcTilesDenseKeys, is_dense(kK));
    launch.constant(kFcTilesDenseValues, is_dense(kV));
    bind_operands(launch);
    launch.output(kBufferAttentionOut, 0, r_);
    launch.grid({ceil_div(count32(r_.op, shared_rows()), kTileRows * simdgroups), 1, groups()},
                {kSimd * simdgroups, 1, 1});
    auto kernel = std::make_unique<GpuKernel>("attention[tiles]");
    kernel->add(std::move(launch));
    return kernel;
  }

  KernelPtr by_any() const {
    constexpr std::uint32_t kRows = 4;  // of a threadgroup, a simdgroup for each
    auto kernel = std::make_unique<GpuKernel>("attention[any]");
    Dispatch launch = of_rows("attention_any");
    bind_operands(launch);
    launch.output(kBufferAttentionOut, 0, r_);
    launch.grid({ceil_div(count32(r_.op, shared_rows()), kRows), ceil_div(args_.value_width, kAnyPartOfRow),
                 groups()},
                {kSimd * kRows, 1, 1});
    kernel->add(std::move(launch));
    return kernel;
  }

  const Request& r_;
  AttentionArgs args_;
};

}  // namespace

KernelPtr make_attention(const Request& request) {
  Request r = request;
  r.inputs.resize(kInputs);
  if (r.outputs[0].elements() == 0) return std::make_unique<GpuKernel>("attention");
  return Maker(r).make();
}

}  // namespace npu::gpu
