// Products of few rows with a quantised right side, which is read as it lies.
#include "cpu/ops/row_results.h"

namespace npu::cpu {

namespace {

const QuantizedLoops& loops_of(const Micro& micro, std::int64_t bits, bool pairs) {
  const QuantizedLoops* const of[][3] = {{&micro.fours_f32, &micro.sixes_f32, &micro.eights_f32},
                                         {&micro.fours_pairs, &micro.sixes_pairs, &micro.eights_pairs}};
  return *of[pairs ? 1 : 0][bits / 2 - 2];
}

const QuantizedLoops& row_loops_of(const Micro& micro, std::int64_t bits) {
  const QuantizedLoops* const of[] = {&micro.fours_row, &micro.sixes_row, &micro.eights_row};
  return *of[bits / 2 - 2];
}

class MatmulQuantizedRows final : public HostKernel {
 public:
  explicit MatmulQuantizedRows(const KernelRequest& r)
      : r_(r), g_(geometry_of(r)), micro_(&micro()), right_(quantized_right(r)), results_(r, g_) {
    const std::int64_t bits = right_.how().bits;
    pairs_ = r.inputs[0].dtype == DType::kBFloat16 && loops_of(*micro_, bits, true).multiply != nullptr;
    const QuantizedLoops& row_loops = row_loops_of(*micro_, bits);
    // What the middle adds and takes away is rounded: too much for float32, nothing beside half dtypes.
    const bool is_row =
        g_.rows == 1 && r.inputs[0].dtype != DType::kFloat32 && !pairs_ && row_loops.multiply != nullptr;
    loops_ = is_row ? &row_loops : &loops_of(*micro_, bits, pairs_);
    const std::int64_t lanes = micro_->lanes, block = lanes * quantized_word(static_cast<int>(bits));
    x_stride_ = (g_.depth + block - 1) / block * (block + (is_row ? lanes : 0));
    sums_stride_ = (right_.groups() + lanes - 1) / lanes * lanes;
    pieces_ = results_.pieces(static_cast<double>(right_.how().row_bytes(g_.depth)));
    x_bytes_ = round_up(static_cast<std::size_t>(g_.rows * x_stride_) * sizeof(float));
    sums_bytes_ = round_up(static_cast<std::size_t>(g_.rows * sums_stride_) * sizeof(float));
    row_bytes_ = round_up(static_cast<std::size_t>(2 * g_.depth) * sizeof(float));
    room_bytes_ = round_up(static_cast<std::size_t>(quantized_room(right_.groups(), lanes)) * sizeof(float));
    thread_bytes_ = room_bytes_ + results_.scratch_bytes();
  }

  std::string name() const override {
    return std::string("matmul[quantized rows ") + (pairs_ ? "of pairs " : "") + micro_->name +
           (results_.maps() ? " +map]" : "]");
  }
  std::size_t scratch_bytes() const override {
    return x_bytes_ + sums_bytes_ + row_bytes_ + thread_bytes_ * static_cast<std::size_t>(r_.threads);
  }
  double flops() const override { return results_.flops(); }

  void run(const KernelArgs& args, ThreadPool& pool) const override {
    arrange_rows(args);
    std::byte* const threads = args.scratch + x_bytes_ + sums_bytes_ + row_bytes_;
    pool.run(static_cast<std::int64_t>(pieces_.size()), [&](std::int64_t piece, int thread) {
      std::byte* const scratch = threads + thread_bytes_ * static_cast<std::size_t>(thread);
      const Range range = pieces_[static_cast<std::size_t>(piece)];
      const std::int64_t end = std::min(range.end * RowResults::kGroup, g_.columns);
      for (std::int64_t column = range.begin * RowResults::kGroup; column < end;
           column += RowResults::kChunk) {
        run_chunk(args, column, std::min(RowResults::kChunk, end - column), scratch);
      }
    });
  }

  // Rows of bytes, scales and offsets that follow each other, and groups of whole words that fill vectors or
  // are filled by them.
  static bool fits(const KernelRequest& r) {
    const MatmulGeometry g = geometry_of(r);
    const QuantizedRows right = quantized_right(r);
    const std::int64_t bits = right.how().bits, group = right.group(), lanes = micro().lanes;
    if (g.rows > kGemvRows || g.rows * g.columns * g.depth == 0 || !right.dense()) return false;
    const std::int64_t unit = right.unit_groups(), parts = right.how().unit_parts();
    // Those of a vector of groups are in one vector.
    if (unit != 0 && unit % lanes != 0 && (lanes % unit != 0 || lanes / unit * parts > lanes)) return false;
    if (bits != 4 && bits != 6 && bits != 8) return false;
    const std::int64_t word = quantized_word(static_cast<int>(bits)), words = group / word;
    const bool filled = words >= lanes ? words % lanes == 0 : words == 4 || words == 8;
    return right.groups() == 1 || (group % word == 0 && filled);
  }

 private:
  // The rows as the loops want them, and the sums of their groups.
  void arrange_rows(const KernelArgs& args) const {
    const TensorDesc& a = r_.inputs[0];
    auto* const sums = reinterpret_cast<float*>(args.scratch + x_bytes_);
    auto* const row = reinterpret_cast<float*>(args.scratch + x_bytes_ + sums_bytes_);
    auto* const halves = reinterpret_cast<std::byte*>(row + g_.depth);
    const std::int64_t size = pairs_ ? 2 : 4;
    for (std::int64_t i = 0; i < g_.rows; ++i) {
      const std::byte* const from =
          element(args.inputs[0], a.dtype, row_offset(r_.outputs[0].shape, a.strides, i));
      load_row(a.dtype, from, g_.left_depth, row, g_.depth);
      if (pairs_) copy_row(halves, 1, from, g_.left_depth, g_.depth, 2);
      const void* const x = pairs_ ? static_cast<const void*>(halves) : row;
      loops_->arrange({x, g_.depth, args.scratch + i * x_stride_ * size});
      micro_->group_sums(row, g_.depth, right_.group(), sums + i * sums_stride_);
    }
  }

  void run_chunk(const KernelArgs& args, std::int64_t column, std::int64_t n, std::byte* scratch) const {
    auto* const sums = reinterpret_cast<float*>(scratch + room_bytes_);
    const QuantizedParts parts = quantized_parts(args);
    QuantizedGemvCall call;
    call.rows = static_cast<int>(g_.rows);
    call.is_signed = right_.how().is_signed;
    call.columns = n;
    call.depth = g_.depth;
    call.x = args.scratch;
    call.x_stride = x_stride_;
    call.group_sums = reinterpret_cast<const float*>(args.scratch + x_bytes_);
    call.sums_stride = sums_stride_;
    call.q_stride = r_.inputs[1].strides[0];
    call.scale_dtype = right_.scale_dtype();
    call.offset_dtype = right_.offset_dtype();
    call.scale_stride = r_.inputs[3].strides[0];
    call.offset_stride = r_.inputs[4].present() ? r_.inputs[4].strides[0] : 0;
    call.unit_dtype = right_.unit_dtype();
    call.unit_stride = r_.inputs[5].present() ? r_.inputs[5].strides[0] : 0;
    call.unit_groups = right_.unit_groups();
    call.offset = right_.how().offset;
    call.group = right_.group();
    call.groups = right_.groups();
    call.room = reinterpret_cast<float*>(scratch);
    call.out_stride = results_.sums_stride();
    for (std::int64_t half = 0; half < results_.sums_per_result(); ++half) {
      const QuantizedRows::Row at = quantized_column(r_, half * g_.columns + column);
      call.q = static_cast<const std::uint8_t*>(parts.q) + at.q;
      call.scales = element(parts.scales, call.scale_dtype, at.scales);
      call.offsets = parts.offsets ? element(parts.offsets, call.offset_dtype, at.offsets) : nullptr;
      call.units = parts.units ? element(parts.units, call.unit_dtype, at.units) : nullptr;
      call.out = sums + half * RowResults::kChunk;
      loops_->multiply(call);
    }
    results_.finish(args, 0, column, n, sums);
  }

  KernelRequest r_;
  MatmulGeometry g_;
  const Micro* micro_;
  QuantizedRows right_;
  RowResults results_;
  const QuantizedLoops* loops_ = nullptr;
  bool pairs_ = false;
  std::int64_t x_stride_ = 0, sums_stride_ = 0;
  std::vector<Range> pieces_;  // of the groups of columns
  // Of what all threads share: the rows, the sums of their groups, a row; and of each thread.
  std::size_t x_bytes_ = 0, sums_bytes_ = 0, row_bytes_ = 0, room_bytes_ = 0, thread_bytes_ = 0;
};

}  // namespace

KernelPtr make_matmul_quantized_rows(const KernelRequest& request) {
  return MatmulQuantizedRows::fits(request) ? std::make_unique<MatmulQuantizedRows>(request) : nullptr;
}

}  // namespace npu::cpu
