// Chooses how a matrix product is computed: in blocks on simdgroup matrices, with its depth split where the
// result alone has too few blocks; or, with few rows (or few columns), by streaming the larger factor.
#include "core/geometry/matmul.h"

#include <algorithm>

#include "gpu/ops/norm_rows.h"
#include "gpu/ops/product.h"
#include "gpu/ops/quantized.h"
#include "gpu/ops/stream.h"
#include "gpu/ops/tensor_blocks.h"

namespace npu::gpu {

namespace {

// Estimates: docs/metal.md, Thresholds.
constexpr std::int64_t kFewRows = 8;
constexpr std::int64_t kFewRowsBesideTensors = 4;  // where tensor cores could make them, from 16-bit elements
constexpr int kGroupsPerCore = 4;                  // that keep a core busy, of products with few rows
constexpr int kBlocksPerCore = 2;                  // the same of blocks
constexpr std::int64_t kLeastSplit = 512;          // depth worth a launch of its own to add up

// The product with its roles fixed: rows of `left` times columns of `right`.
struct Factors {
  TensorDesc left, right;
  int left_input = 0, right_input = 1;
  std::size_t row = 0, column = 0;  // dimensions of the result
  std::int64_t depth = 0, left_row = 0, left_depth = 0, right_depth = 0, right_column = 0;
};

Factors factors_of(const Request& r) {
  const MatmulGeometry g = matmul_geometry(r);
  Factors f;
  f.left = r.inputs[0];
  f.right = r.inputs[1];
  if (std::get<MatmulAttrs>(r.op.attrs).bits != 0) f.right.strides.assign(g.rank, 0);  // for all batches
  f.row = g.rank - 2;
  f.column = g.rank - 1;
  f.depth = g.depth;
  f.left_row = g.left_row;
  f.left_depth = g.left_depth;
  f.right_depth = g.right_depth;
  f.right_column = g.right_column;
  return f;
}

// (a b)^T = b^T a^T: few columns are as good as few rows.
void swap_roles(Factors& f) {
  std::swap(f.left, f.right);
  std::swap(f.left_input, f.right_input);
  std::swap(f.row, f.column);
  std::swap(f.left_row, f.right_column);
  std::swap(f.left_depth, f.right_depth);
}

class Maker {
 public:
  Maker(const Request& r, const Epilogue& epilogue)
      : r_(r),
        epilogue_(epilogue),
        out_(r.outputs[0]),
        f_(factors_of(r)),
        how_(quantization_of(std::get<MatmulAttrs>(r.op.attrs))) {
    if (epilogue.gated || quantized()) return;
    const std::int64_t rows = out_.shape[f_.row], columns = out_.shape[f_.column];
    if (columns <= kFewRows && columns < rows && f_.left_depth == 1) swap_roles(f_);
  }

  KernelPtr make() {
    const Product product = product_of();
    args_.product = product.args();
    args_.product.depth = count32(r_.op, f_.depth);
    args_.product.first[NPU_LEFT] = first_element(f_.left);
    args_.product.first[NPU_RIGHT] = first_element(f_.right);
    args_.left_depth = f_.left_depth;
    args_.right_depth = f_.right_depth;
    args_.right_column = f_.right_column;
    args_.splits = args_.simdgroups_per_column = 1;
    args_.split_depth = args_.product.depth;
    args_.blocks = count32(r_.op, product.blocks());
    const std::int64_t most = !quantized() && has_tensor_operands() && size_of(f_.left.dtype) == 2
                                  ? kFewRowsBesideTensors
                                  : kFewRows;
    const bool few = product.rows() <= most && (f_.right_depth == 1 || f_.right_column == 1 || quantized());
    if (!r_.fused.empty()) {
      if (few && f_.left_input == 0) norm_ = norm_of_rows(r_, product.rows(), args_);
      if (!norm_) return nullptr;
    }
    if (quantized() && !(few && reads_integers())) return nullptr;
    KernelPtr kernel = few                     ? by_rows(product)
                       : has_tensor_operands() ? by_tensor_blocks(product)
                       : r_.caps.matrices      ? by_blocks(product)
                                               : one_by_one(product);
    const double sums = static_cast<double>(out_.elements()) * (epilogue_.gated ? 2 : 1);
    kernel->set_cost(2.0 * args_.product.depth * sums + (norm_ ? norm_->flops(*kernel) : 0));
    if (norm_) kernel->set_fused(1);
    return kernel;
  }

 private:
  // Dimensions of batches, then the rows: where one right side is for all of a batch that is longer than the
  // rows, and which does not lie as more of them, the two change places.
  Product product_of() const {
    const std::size_t batches = f_.row < f_.column ? f_.row : f_.column;
    Product product = product_with(batches);
    if (quantized() || f_.left_input != 0) return product;
    std::size_t longest = batches;
    for (std::size_t d = 0; d < batches; ++d) {
      if (f_.right.strides[d] == 0 && (longest == batches || out_.shape[d] > out_.shape[longest]))
        longest = d;
    }
    if (longest == batches || out_.shape[longest] <= product.rows()) return product;
    return product_with(longest);
  }

  // The rows are those of dimension `rows`; with the number of batches, those of the result.
  Product product_with(std::size_t rows) const {
    std::vector<int> dims;
    Shape left, right;
    for (std::size_t d = 0; d + 2 < out_.shape.size(); ++d) {
      dims.push_back(static_cast<int>(d));
      left.push_back(f_.left.strides[d]);
      right.push_back(f_.right.strides[d]);
    }
    dims.push_back(static_cast<int>(f_.row));
    left.push_back(f_.left_row);
    right.push_back(0);
    std::swap(dims[rows], dims.back());
    std::swap(left[rows], left.back());
    return {r_, epilogue_, dims, static_cast<int>(f_.column), left, right};
  }

  Dispatch launch_of(std::string_view library, const std::string& function) const {
    Dispatch launch(library, function);
    return launch.with(args_).input(kBufferLeft, f_.left_input, r_).input(kBufferRight, f_.right_input, r_);
  }

  KernelPtr by_rows(const Product& product) {
    if (const auto how = stream_of(product)) return by_stream(product, *how);
    const std::int64_t rows = product.rows(), columns = args_.product.columns;
    const std::int64_t wanted = kGroupsPerCore * r_.caps.cores;
    const bool k_major = f_.right_depth == 1 || quantized();
    const int tile_rows = rows <= 1 ? 1 : rows <= 2 ? 2 : rows <= 4 ? 4 : 8;
    const auto groups = [&](std::int64_t per_group) { return ceil_div(columns, per_group) * args_.blocks; };
    int tile_columns = 4;
    const int of_result = k_major && epilogue_.gated ? 2 : 1;  // columns
    const auto per_group = [&] {
      return k_major
                 ? std::int64_t{kStreamSimdgroups} / args_.simdgroups_per_column * tile_columns / of_result
                 : std::int64_t{kSimd} * tile_columns;
    };
    if (groups(per_group()) < wanted) tile_columns = of_result;
    // First fewer columns for each simdgroup, then simdgroups that share the depth while each has enough.
    const std::int64_t at_once =
        quantized() ? quantized_step() : 16 / static_cast<std::int64_t>(size_of(f_.right.dtype));
    const std::int64_t pass = std::int64_t{kSimd} * at_once;
    while (k_major && args_.simdgroups_per_column < kStreamSimdgroups && groups(per_group()) < wanted &&
           args_.product.depth >= 2 * pass * args_.simdgroups_per_column * 2)
      args_.simdgroups_per_column *= 2;
    const std::string tile = std::to_string(tile_rows) + "x" + std::to_string(tile_columns);
    const Size grid{ceil_div(columns, per_group()), 1, static_cast<std::uint32_t>(args_.blocks)};
    if (quantized()) return by_quantized_rows(product, tile, grid);
    const std::string form = std::string(k_major ? "k_major_" : "n_major_") + tile;
    const std::string library = norm_ ? "matmul_rows_norm" : "matmul_rows";
    Dispatch launch = launch_of(library, function_name(library + "_" + form, f_.left.dtype));
    product.finish(launch);
    if (norm_) norm_->apply(launch.with(norm_->args(args_)));
    operand_constants(launch);
    launch.grid(grid, {kSimd * kStreamSimdgroups, 1, 1});
    auto kernel = std::make_unique<GpuKernel>(name_of("matmul[rows"));
    kernel->add(std::move(launch));
    return kernel;
  }

  void operand_constants(Dispatch& launch) const {
    launch.constant(kFcMatmulRowsLeftFours, f_.left_depth == 1);
    launch.constant(kFcMatmulRowsRightAligned, has_aligned_rows(f_.right));
    launch.constant(kFcMatmulRowsRightConstant, is_constant({static_cast<std::size_t>(f_.right_input)}));
  }

  // How one row is multiplied by bulk copies of a right side that is there before it.
  std::optional<Stream> stream_of(const Product& product) const {
    const bool one =
        product.rows() == 1 && args_.blocks == 1 && f_.left_depth == 1 && f_.left.alignment >= 16;
    if (!one || quantized() || f_.right_depth != 1 || !has_aligned_rows(f_.right)) return std::nullopt;
    if (!is_constant({static_cast<std::size_t>(f_.right_input)}) || (norm_ && !norm_->is_of_vectors()))
      return std::nullopt;
    return choose_stream({args_.product.columns, f_.depth, epilogue_.gated ? 2 : 1, f_.left.dtype}, r_.caps);
  }

  KernelPtr by_stream(const Product& product, const Stream& how) {
    args_.simdgroups_per_column = how.sharers;
    args_.split_depth = static_cast<std::int32_t>(how.part);
    const std::string library = norm_ ? "matmul_stream_norm" : "matmul_stream";
    Dispatch launch = launch_of(library, function_name(library, f_.left.dtype));
    product.finish(launch);
    if (norm_) norm_->apply(launch.with(norm_->args(args_)));
    operand_constants(launch);
    launch.constant(kFcStreamVectors, how.vectors).constant(kFcStreamStages, how.stages);
    launch.constant(kFcStreamAhead, how.ahead);
    launch.threadgroup_bytes = how.bytes;
    launch.grid({how.groups, 1, 1}, {kSimd * kStreamSimdgroups, 1, 1});
    auto kernel = std::make_unique<GpuKernel>(name_of("matmul[stream"));
    kernel->add(std::move(launch));
    return kernel;
  }

  std::string name_of(const std::string& form) const {
    return (norm_ ? norm_->name() + " + " : "") + form + (epilogue_.gated ? ", halves]" : "]");
  }

  bool quantized() const { return how_.bits != 0; }

  // What a lane takes of a column at once, in elements.
  std::int64_t quantized_step() const {
    return (how_.bits == 6 ? kSixesStep : kQuantizedStep) * 8 / how_.bits;
  }

  // Whether what a lane takes at once is of one group, and follows itself.
  bool reads_integers() const {
    const auto along = [&](std::size_t i) {
      const TensorDesc& x = r_.inputs[i];
      return !x.present() || x.shape.back() <= 1 || x.strides.back() == 1;
    };
    if (how_.bits != 4 && how_.bits != 6 && how_.bits != 8) return false;
    const bool whole = how_.group == 0 || how_.group % quantized_step() == 0;
    return whole && f_.depth > 0 && along(1) && along(3) && along(4) && along(5);
  }

  KernelPtr by_quantized_rows(const Product& product, const std::string& tile, const Size& grid) {
    const TensorDesc &q = r_.inputs[1], &scales = r_.inputs[3], &offsets = r_.inputs[4],
                     &units = r_.inputs[5];
    const auto first = [](const TensorDesc& x) { return x.present() ? first_element(x) : 0; };
    const auto column = [](const TensorDesc& x) { return x.present() ? x.strides[0] : 0; };
    QuantizedArgs right = {first(q),
                           column(q),
                           first(scales),
                           column(scales),
                           first(offsets),
                           column(offsets),
                           first(units),
                           column(units),
                           0,
                           1};
    // A lane's integers are of the group of the first one, also where the depth ends in them.
    const bool one = how_.group == 0 || how_.group >= f_.depth;
    right.group = one ? args_.product.depth : static_cast<std::int32_t>(how_.group);
    if (how_.unit != 0) right.unit = static_cast<std::int32_t>(how_.unit / how_.group);
    const std::string library = norm_ ? "matmul_quantized_norm" : "matmul_quantized";
    const std::string form = library + "_" + std::to_string(how_.bits) + "_" + tile;
    Dispatch launch(library, function_name(form, f_.left.dtype));
    if (norm_) {
      launch.with(NormedQuantizedArgs{norm_->args(args_), right});
      norm_->apply(launch);
    } else {
      launch.with(MatmulQuantizedArgs{args_, right});
    }
    launch.input(kBufferLeft, 0, r_).input(kBufferRight, 1, r_);
    launch.input(kBufferQuantizedScales, 3, r_).input(kBufferQuantizedOffsets, 4, r_);
    launch.input(kBufferQuantizedUnits, 5, r_);
    product.finish(launch);
    launch.constant(kFcMatmulRowsLeftFours, f_.left_depth == 1);
    const std::int64_t word = how_.bits == 6 ? 4 : kQuantizedStep;  // that is read at once
    const bool aligned =
        static_cast<std::int64_t>(q.alignment) >= word && (q.shape[0] <= 1 || q.strides[0] % word == 0);
    launch.constant(kFcMatmulRowsRightAligned, aligned);
    launch.constant(kFcMatmulRowsRightConstant, is_constant({1, 3, 4, 5}));
    quantized_constants(launch, r_, how_, {1, 3, 4, 5});
    launch.grid(grid, {kSimd * kStreamSimdgroups, 1, 1});
    auto kernel = std::make_unique<GpuKernel>(name_of("matmul[quantized rows"));
    kernel->add(std::move(launch));
    return kernel;
  }

  // Whether what kernels read before their inputs are there is never written: these, and the norm's.
  bool is_constant(std::initializer_list<std::size_t> inputs) const {
    const auto changes = [](const TensorDesc& x) { return x.present() && !x.constant; };
    const bool right =
        std::none_of(inputs.begin(), inputs.end(), [&](std::size_t i) { return changes(r_.inputs[i]); });
    return right && (!norm_ || norm_->is_constant());
  }

  KernelPtr by_blocks(const Product& product) {
    const std::int64_t rows = product.rows(), sums = columns_of_sums();
    const auto groups = [&](std::int64_t size) {
      return static_cast<std::int64_t>(ceil_div(sums, size)) * ceil_div(rows, size) * args_.blocks;
    };
    const std::int64_t wanted = kBlocksPerCore * r_.caps.cores;
    const bool large = rows > kSmallBlock && sums > kSmallBlock && groups(kLargeBlock) >= wanted;
    const std::int64_t size = large ? kLargeBlock : kSmallBlock;
    if (!large) split_depth(wanted / groups(size));
    const std::string form =
        std::string(large ? "large" : "small") + (f_.right_depth == 1 ? "_k_major" : "_n_major");
    Dispatch launch = launch_of("matmul", function_name("matmul_" + form, f_.left.dtype));
    const Neighbours left = f_.left_depth == 1 ? Neighbours::kOfDepth
                            : f_.left_row == 1 ? Neighbours::kOfLines
                                               : Neighbours::kNone;
    const Neighbours right = f_.right_depth == 1    ? Neighbours::kOfDepth
                             : f_.right_column == 1 ? Neighbours::kOfLines
                                                    : Neighbours::kNone;
    form_constants(launch, left, right);
    launch.grid({ceil_div(sums, size), ceil_div(rows, size), blocks_and_splits()},
                {large ? kLargeBlockThreads : kSmallBlockThreads, 1, 1});
    return in_blocks(product, std::move(launch), "blocks");
  }

  // Of what tiles on tensor cores are copied from.
  bool has_tensor_operands() const {
    const bool floats = f_.left.dtype == DType::kFloat32;
    return r_.caps.tensor_bytes > 0 && f_.depth >= 8 && f_.left_depth == 1 && has_chunks(f_.left) &&
           has_chunks(f_.right) && (f_.right_depth == 1 || (f_.right_column == 1 && !floats));
  }

  KernelPtr by_tensor_blocks(const Product& product) {
    const std::int64_t rows = product.rows(), sums = columns_of_sums();
    const TensorBlocks tile = choose_tensor_blocks(
        {rows, sums, args_.product.depth, args_.blocks, f_.left.dtype, f_.right_depth == 1}, r_.caps);
    args_.splits = static_cast<std::int32_t>(tile.splits);
    args_.split_depth = tile.splits > 1 ? static_cast<std::int32_t>(tile.split_depth) : args_.product.depth;
    const std::string form = tile.text() + (f_.right_depth == 1 ? "_k_major" : "_n_major");
    Dispatch launch = launch_of("matmul_tensor", function_name("matmul_" + form, f_.left.dtype));
    launch.threadgroup_bytes = tile.threadgroup_bytes;
    launch.early = tile.groups;
    // What is larger is read once.
    const bool rows_first = sums > rows;
    launch.constant(kFcMatmulRowsFirst, rows_first);
    launch.constant(kFcMatmulTensorRightConstant, is_constant({static_cast<std::size_t>(f_.right_input)}));
    const std::uint32_t across = ceil_div(sums, tile.columns), down = ceil_div(rows, tile.rows);
    launch.grid({rows_first ? down : across, rows_first ? across : down, blocks_and_splits()},
                {tile.threads, 1, 1});
    return in_blocks(product, std::move(launch), tile.groups ? "tensor groups" : "tensor blocks");
  }

  // A gate is a column too.
  std::int64_t columns_of_sums() const { return args_.product.columns * (epilogue_.gated ? 2 : 1); }
  std::uint32_t blocks_and_splits() const {
    return static_cast<std::uint32_t>(args_.blocks) * static_cast<std::uint32_t>(args_.splits);
  }

  // Ends a launch of blocks; another one adds up what splits have left.
  KernelPtr in_blocks(const Product& product, Dispatch launch, const std::string& form) {
    const bool splits = args_.splits > 1;
    auto kernel = std::make_unique<GpuKernel>("matmul[" + form +
                                              (splits            ? ", split]"
                                               : epilogue_.gated ? ", halves]"
                                                                 : "]"));
    const std::int64_t bytes =
        splits ? args_.splits * args_.blocks * product.rows() * columns_of_sums() * std::int64_t{4} : 0;
    launch.constant(kFcMatmulSplits, splits);
    if (splits) {
      no_epilogue(launch.scratch(kBufferResult, 0, bytes, false, true), epilogue_.gated);
    } else {
      product.finish(launch);
    }
    kernel->add(std::move(launch));
    if (splits) add_sum(*kernel, product, bytes);
    kernel->set_scratch(bytes);
    return kernel;
  }

  // Into at most `wanted` parts, in which launches add up less than they save.
  void split_depth(std::int64_t wanted) {
    const std::int64_t depth = args_.product.depth;
    const std::int64_t splits =
        std::clamp<std::int64_t>(wanted, 1, std::max<std::int64_t>(1, depth / kLeastSplit));
    if (splits == 1) return;
    args_.split_depth =
        static_cast<std::int32_t>((ceil_div(depth, splits) + kSmallBlock - 1) / kSmallBlock * kSmallBlock);
    args_.splits = static_cast<std::int32_t>(ceil_div(depth, args_.split_depth));
    if (args_.splits == 1) args_.split_depth = args_.product.depth;
  }

  // Of metal/matmul.metal.
  static void form_constants(Dispatch& launch, Neighbours left, Neighbours right) {
    launch.constant(kFcMatmulLeftAlong, static_cast<int>(left));
    launch.constant(kFcMatmulRightAlong, static_cast<int>(right));
  }

  // A thread for each of `columns` x `rows` of every block.
  void over_results(Dispatch& launch, std::int64_t columns, std::int64_t rows) const {
    constexpr std::uint32_t kRows = 8;
    launch.grid({ceil_div(columns, kSimd), ceil_div(rows, kRows), static_cast<std::uint32_t>(args_.blocks)},
                {kSimd, kRows, 1});
  }

  void add_sum(GpuKernel& kernel, const Product& product, std::int64_t bytes) const {
    Dispatch sum("matmul", "matmul_sum");
    sum.with(args_).scratch(kBufferMatmulParts, 0, bytes, true, false);
    product.finish(sum);
    form_constants(sum, {}, {});
    sum.constant(kFcMatmulSplits, false);
    over_results(sum, ceil_div(args_.product.columns, kSumColumns), product.rows());
    kernel.add(std::move(sum));
  }

  KernelPtr one_by_one(const Product& product) {
    Dispatch launch = launch_of("matmul", function_name("matmul_single", f_.left.dtype));
    product.finish(launch);
    form_constants(launch, {}, {});
    launch.constant(kFcMatmulSplits, false);
    over_results(launch, args_.product.columns, product.rows());
    auto kernel = std::make_unique<GpuKernel>("matmul[single]");
    kernel->add(std::move(launch));
    return kernel;
  }

  const Request& r_;
  const Epilogue& epilogue_;
  const TensorDesc& out_;
  Factors f_;
  Quantization how_;
  std::optional<NormOfRows> norm_;
  MatmulArgs args_{};
};

// A launch makes the numbers of the right side, which the product then reads from the scratch.
KernelPtr by_numbers(const Request& r) {
  const auto& attrs = std::get<MatmulAttrs>(r.op.attrs);
  const std::int64_t columns = r.inputs[1].shape[0], depth = r.inputs[0].shape.back();
  TensorDesc rows;
  rows.dtype = r.inputs[0].dtype;
  rows.shape = {columns, depth};
  rows.strides = {depth, 1};
  rows.present_ = true;
  Op op = r.op;
  auto& plain = std::get<MatmulAttrs>(op.attrs);
  plain = MatmulAttrs{attrs.halves, attrs.epilogue};
  Request product{{op, r.inputs, r.outputs, r.threads}, r.caps};
  TensorDesc& right = product.inputs[1];
  right = rows;
  right.shape = r.outputs[0].shape;
  right.strides.assign(right.shape.size(), 0);
  const std::size_t last = right.shape.size() - 1;
  right.shape[last - 1] = depth;
  right.shape[last] = columns;
  right.strides[last - 1] = 1;
  right.strides[last] = depth;
  product.inputs[3] = product.inputs[4] = product.inputs[5] = {};
  const KernelPtr multiplies = make_matmul(product);

  const auto at = (static_cast<std::int64_t>(multiplies->scratch_bytes()) + 15) / 16 * 16;
  const std::int64_t bytes =
      std::max<std::int64_t>(16, columns * depth * static_cast<std::int64_t>(size_of(rows.dtype)));
  auto kernel = std::make_unique<GpuKernel>("dequantize + " + multiplies->name());
  if (depth > 0) {
    Dispatch launch = dequantize_launch(r, quantization_of(attrs), {1, 3, 4, 5}, rows);
    launch.scratch(kBufferY, at, bytes, false, true);
    kernel->add(std::move(launch));
  }
  for (Dispatch launch : multiplies->dispatches()) {
    for (BufferUse& use : launch.buffers) {
      if (use.from != From::kInput || use.index != 1) continue;
      const int slot = use.slot;
      use = {};
      use.slot = slot;
      use.from = From::kScratch;
      use.offset = at;
      use.high = bytes;
      use.reads = true;
    }
    kernel->add(std::move(launch));
  }
  kernel->set_scratch(at + bytes);
  kernel->set_cost(multiplies->flops());
  return kernel;
}

}  // namespace

KernelPtr make_matmul(const Request& r) {
  if (r.outputs[0].elements() == 0) return r.fused.empty() ? std::make_unique<GpuKernel>("matmul") : nullptr;
  if (!is_float(r.outputs[0].dtype)) return r.fused.empty() ? make_integer_matmul(r) : nullptr;
  const auto& attrs = std::get<MatmulAttrs>(r.op.attrs);
  const std::optional<Epilogue> epilogue = make_epilogue(r, attrs.epilogue, attrs.halves);
  if (attrs.bits != 0) {
    KernelPtr kernel = epilogue ? Maker(r, *epilogue).make() : nullptr;
    return kernel || !r.fused.empty() ? std::move(kernel) : by_numbers(r);
  }
  if (!epilogue && !r.fused.empty()) return nullptr;
  if (!epilogue) return with_separate_epilogue(r, attrs.epilogue, MatmulAttrs{}, make_matmul, attrs.halves);
  return Maker(r, *epilogue).make();
}

}  // namespace npu::gpu
