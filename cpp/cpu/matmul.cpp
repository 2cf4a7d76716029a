// Matrix products with any strides: few rows as dot products over weights as they lie, more as blocked
// products.
#include <algorithm>
#include <cstring>

#include "gemm.h"
#include "npu/error.h"
#include "ops.h"

namespace npu::cpu {

namespace {

// Rows are counted through the batch dimensions when every batch has the same right-hand side.
class MatmulOperands final : public GemmOperands {
 public:
  MatmulOperands(const KernelRequest& r, const Epilogue& epilogue, std::int64_t first_row, const void* a,
                 const void* b, bool pairs)
      : r_(r),
        epilogue_(epilogue),
        first_row_(first_row),
        a_(a),
        b_(b),
        rank_(r.outputs[0].shape.size()),
        pairs_(pairs),
        depth_(r.inputs[0].shape[rank_ - 1]) {}

  // The offset of a row (a position in all dimensions but the last) in an operand with these strides.
  static std::int64_t offset(const Shape& shape, const Shape& strides, std::int64_t row) {
    std::int64_t at = 0;
    for (std::size_t d = shape.size() - 1; d-- > 0;) {
      at += row % shape[d] * strides[d];
      row /= shape[d];
    }
    return at;
  }

  void pack_rows(std::int64_t row, std::int64_t count, std::int64_t k, std::int64_t length,
                 float* to) const override {
    const TensorDesc& a = r_.inputs[0];
    for (std::int64_t i = 0; i < count; ++i, to += kPackedStride) {
      const std::int64_t at = offset(r_.outputs[0].shape, a.strides, first_row_ + row + i);
      if (pairs_) {
        load_pairs(a_, at, a.strides[rank_ - 1], k, length, to, 1);
        continue;
      }
      load_row(a.dtype, element(a_, a.dtype, at + k * a.strides[rank_ - 1]), a.strides[rank_ - 1], to,
               length);
    }
  }

  const float* rows_in_place(std::int64_t row, std::int64_t count, std::int64_t* stride) const override {
    const TensorDesc& a = r_.inputs[0];
    if (a.dtype != DType::kFloat32 || a.strides[rank_ - 1] != 1) return nullptr;
    const auto place = [&](std::int64_t i) {
      return offset(r_.outputs[0].shape, a.strides, first_row_ + row + i);
    };
    const std::int64_t first = place(0), step = count > 1 ? place(1) - first : kPackedStride;
    if (shares_cache_set(step)) return nullptr;
    for (std::int64_t i = 2; i < count; ++i) {
      if (place(i) != first + i * step) return nullptr;
    }
    *stride = step;
    return static_cast<const float*>(a_) + first;
  }

  void pack_panel(std::int64_t column, std::int64_t count, std::int64_t k, std::int64_t length, int nr,
                  float* to) const override {
    const TensorDesc& b = r_.inputs[1];
    const std::int64_t down = b.strides[rank_ - 2], across = b.strides[rank_ - 1];
    if (pairs_) {
      for (std::int64_t j = 0; j < count; ++j) {
        load_pairs(b_, (column + j) * across, down, k, length, to + j, nr);
      }
      for (std::int64_t i = 0; i < length; ++i) std::fill(to + i * nr + count, to + (i + 1) * nr, 0.0f);
      return;
    }
    if (across == 1 || down != 1) {
      for (std::int64_t i = 0; i < length; ++i, to += nr) {
        load_row(b.dtype, element(b_, b.dtype, (k + i) * down + column * across), across, to, count);
        std::memset(to + count, 0, sizeof(float) * static_cast<std::size_t>(nr - count));
      }
      return;
    }
    // Each column is contiguous, as linear's weights are: read along them, write across.
    float wide[kPackedK];
    for (std::int64_t j = 0; j < count; ++j) {
      load_row(b.dtype, element(b_, b.dtype, k + (column + j) * across), 1, wide, length);
      for (std::int64_t i = 0; i < length; ++i) to[i * nr + j] = wide[i];
    }
    for (std::int64_t j = count; j < nr; ++j) {
      for (std::int64_t i = 0; i < length; ++i) to[i * nr + j] = 0;
    }
  }

  void locate(std::int64_t row, std::int64_t* out, std::int64_t* extras) const override {
    const TensorDesc& o = r_.outputs[0];
    *out = offset(o.shape, o.strides, first_row_ + row);
    const auto& descs = epilogue_.extras();
    for (std::size_t e = 0; e < descs.size(); ++e)
      extras[e] = offset(o.shape, descs[e].strides, first_row_ + row);
  }

 private:
  // Words [k, k + length) of the column or row that starts at element `at`, to places `spread` words apart.
  void load_pairs(const void* from, std::int64_t at, std::int64_t step, std::int64_t k, std::int64_t length,
                  float* to, std::int64_t spread) const {
    const auto* x = static_cast<const std::uint16_t*>(from) + at + 2 * k * step;
    for (std::int64_t i = 0; i < length; ++i, x += 2 * step) {
      const bool whole = 2 * (k + i) + 1 < depth_;
      const Bf16Pair pair{x[0], whole ? x[step] : std::uint16_t{0}};
      std::memcpy(to + i * spread, &pair, sizeof pair);
    }
  }

  const KernelRequest& r_;
  const Epilogue& epilogue_;
  std::int64_t first_row_;
  const void* a_;
  const void* b_;
  std::size_t rank_;
  bool pairs_;
  std::int64_t depth_;
};

constexpr std::int64_t kFewRows = 4;

class Matmul final : public HostKernel {
 public:
  explicit Matmul(const KernelRequest& r)
      : r_(r),
        micro_(&micro()),
        epilogue_(std::get<MatmulAttrs>(r.op.attrs).epilogue, extras(r), r.outputs[0],
                  static_cast<int>(r.outputs[0].shape.size()) - 1, std::get<MatmulAttrs>(r.op.attrs).halves) {
    const TensorDesc &a = r_.inputs[0], &b = r_.inputs[1], &out = r_.outputs[0];
    rank_ = out.shape.size();
    for (std::size_t d = 0; d + 2 < rank_; ++d) {
      batches_ *= out.shape[d];
      if (out.shape[d] > 1 && b.strides[d] != 0) shared_ = false;
    }
    rows_ = out.shape[rank_ - 2];
    if (shared_) {
      rows_ *= batches_;
      batches_ = 1;
    }
    depth_ = a.shape[rank_ - 1];
    few_ = rows_ <= kFewRows && b.strides[rank_ - 2] == 1 && depth_ > 0;
    pairs_ = !few_ && multiplies_pairs(*micro_, a.dtype, b.dtype);
    shape_ = {rows_, out.shape[rank_ - 1], words(depth_, pairs_), epilogue_.halves()};
    grid_ = plan_gemm(*micro_, shape_, r.threads, batches_);
    if (few_) {
      row_floats_ = static_cast<std::size_t>((depth_ * rows_ + 15) / 16 * 16);
      scratch_ = align((row_floats_ + 3 * kChunk) * sizeof(float) + epilogue_.scratch_bytes());
    } else {
      scratch_ = align(gemm_scratch(*micro_, shape_, grid_, epilogue_));
    }
  }

  std::string name() const override {
    return std::string(few_     ? "matmul[rows "
                       : pairs_ ? "matmul[pairs "
                                : "matmul[gemm ") +
           micro_->name + (epilogue_.in_tile() ? "]" : " +map]");
  }
  std::size_t scratch_bytes() const override { return scratch_ * static_cast<std::size_t>(r_.threads); }
  double flops() const override {
    return 2.0 * static_cast<double>(batches_ * rows_ * shape_.halves) *
           static_cast<double>(shape_.columns * depth_);
  }

  // What is widened is so panel by panel instead: a packed copy would double the weights.
  bool packs() const {
    return !few_ && shared_ && r_.inputs[1].constant && (pairs_ || r_.inputs[1].dtype == DType::kFloat32);
  }
  int packed_input() const override { return packs() ? 1 : -1; }
  std::size_t packed_bytes() const override {
    return packs() ? shape_.packed_floats(*micro_) * sizeof(float) : 0;
  }
  std::string packing() const override {
    const TensorDesc& b = r_.inputs[1];
    return std::string(pairs_ ? "matmul pairs " : "matmul panels ") + std::to_string(micro_->nr) + " of " +
           std::to_string(depth_) + "x" + (shape_.halves > 1 ? "2*" : "") + std::to_string(shape_.columns) +
           "," + std::to_string(b.strides[rank_ - 2]) + "," + std::to_string(b.strides[rank_ - 1]);
  }
  void pack(const void* raw, std::byte* packed, ThreadPool& pool) const override {
    const MatmulOperands operands(r_, epilogue_, 0, nullptr, raw, pairs_);
    pack_panels(*micro_, shape_, operands, reinterpret_cast<float*>(packed), pool);
  }

  void run(const KernelArgs& args, ThreadPool& pool) const override {
    if (rows_ * shape_.columns * batches_ == 0) return;
    if (few_) return run_few(args, pool);
    pool.run(batches_ * grid_.pieces(), [&](std::int64_t piece, int thread) {
      const std::int64_t batch = piece / grid_.pieces();
      const MatmulOperands operands(r_, epilogue_, batch * rows_, args.inputs[0], right(args, batch), pairs_);
      GemmCall call;
      call.micro = micro_;
      call.shape = shape_;
      call.pairs = pairs_;
      call.operands = &operands;
      call.packed = reinterpret_cast<const float*>(args.packed);
      call.epilogue = &epilogue_;
      call.out_dtype = r_.outputs[0].dtype;
      call.out = args.outputs[0];
      call.out_stride = r_.outputs[0].strides[rank_ - 1];
      call.extras = args.inputs + 3;
      if (args.inputs[2]) {
        const TensorDesc& bias = r_.inputs[2];
        call.bias = element(args.inputs[2], bias.dtype, bias_at(batch * rows_));
        call.bias_dtype = bias.dtype;
        call.bias_stride = bias.strides[rank_ - 1];
      }
      gemm_piece(call, grid_, piece % grid_.pieces(),
                 args.scratch + scratch_ * static_cast<std::size_t>(thread));
    });
  }

  static bool fits(const KernelRequest& r) {
    return !r.inputs[2].present() || !moves_with_rows(r.inputs[2], r);
  }

 private:
  static constexpr std::size_t kChunk = 256;  // columns finished at a time when rows are few
  static std::size_t align(std::size_t bytes) { return (bytes + 63) / 64 * 64; }
  static std::vector<TensorDesc> extras(const KernelRequest& r) {
    return {r.inputs.begin() + 3, r.inputs.end()};
  }

  static bool moves_with_rows(const TensorDesc& bias, const KernelRequest& r) {
    const Shape& shape = r.outputs[0].shape;
    for (std::size_t d = 0; d + 1 < shape.size(); ++d) {
      if (shape[d] > 1 && bias.strides[d] != 0) return true;
    }
    return false;
  }
  std::int64_t bias_at(std::int64_t row) const {
    return MatmulOperands::offset(r_.outputs[0].shape, r_.inputs[2].strides, row);
  }

  const void* right(const KernelArgs& args, std::int64_t batch) const {
    const TensorDesc& b = r_.inputs[1];
    std::int64_t at = 0;
    for (std::size_t d = rank_ - 2; d-- > 0;) {
      at += batch % r_.outputs[0].shape[d] * b.strides[d];
      batch /= r_.outputs[0].shape[d];
    }
    return shared_ ? args.inputs[1] : element(args.inputs[1], b.dtype, at);
  }

  void run_few(const KernelArgs& args, ThreadPool& pool) const {
    const std::int64_t chunks =
        (shape_.columns + static_cast<std::int64_t>(kChunk) - 1) / static_cast<std::int64_t>(kChunk);
    const bool worth = shape_.halves * shape_.columns * depth_ * rows_ * batches_ > 30000;
    const std::int64_t per_batch = worth ? std::min<std::int64_t>(chunks, 4 * r_.threads) : 1;
    pool.run(batches_ * per_batch, [&](std::int64_t piece, int thread) {
      const std::int64_t batch = piece / per_batch;
      const Range range = split(chunks, per_batch, piece % per_batch);
      std::byte* const scratch = args.scratch + scratch_ * static_cast<std::size_t>(thread);
      const MatmulOperands operands(r_, epilogue_, batch * rows_, args.inputs[0], nullptr, false);
      float* const x = reinterpret_cast<float*>(scratch);
      const TensorDesc& a = r_.inputs[0];
      for (std::int64_t i = 0; i < rows_; ++i) {
        const std::int64_t at = MatmulOperands::offset(r_.outputs[0].shape, a.strides, batch * rows_ + i);
        load_row(a.dtype, element(args.inputs[0], a.dtype, at), a.strides[rank_ - 1], x + i * depth_, depth_);
      }
      for (std::int64_t chunk = range.begin; chunk < range.end; ++chunk) {
        few_chunk(args, operands, batch, chunk * static_cast<std::int64_t>(kChunk), x, scratch);
      }
    });
  }

  void few_chunk(const KernelArgs& args, const MatmulOperands& operands, std::int64_t batch,
                 std::int64_t column, const float* x, std::byte* scratch) const {
    const TensorDesc &b = r_.inputs[1], &out = r_.outputs[0], &bias = r_.inputs[2];
    const std::int64_t across = b.strides[rank_ - 1];
    const std::int64_t n = std::min<std::int64_t>(kChunk, shape_.columns - column);
    float* const sums = reinterpret_cast<float*>(scratch) + row_floats_;
    float* const other = sums + 2 * kChunk;
    for (std::int64_t i = 0; i < rows_; ++i) {
      const std::int64_t row = batch * rows_ + i;
      for (std::int64_t half = 0; half < shape_.halves; ++half) {
        const std::int64_t first = half * shape_.columns + column;
        float* const to = sums + half * static_cast<std::int64_t>(kChunk);
        dot(b.dtype, static_cast<int>(n), element(right(args, batch), b.dtype, first * across), across,
            x + i * depth_, to);
        if (!args.inputs[2]) continue;
        const std::int64_t step = bias.strides[rank_ - 1];
        load_row(bias.dtype, element(args.inputs[2], bias.dtype, bias_at(row) + first * step), step, other,
                 n);
        micro_->add_into(other, to, n);
      }
      std::int64_t at = 0, offsets[kMaxExtras];
      const void* pointers[kMaxExtras] = {};
      operands.locate(i, &at, offsets);
      const auto& descs = epilogue_.extras();
      for (std::size_t k = 0; k < descs.size(); ++k) {
        pointers[k] =
            element(args.inputs[3 + k], descs[k].dtype, offsets[k] + column * descs[k].strides[rank_ - 1]);
      }
      const std::int64_t step = out.strides[rank_ - 1];
      void* const to = element(args.outputs[0], out.dtype, at + column * step);
      if (epilogue_.in_tile()) {
        if (epilogue_.residual() >= 0) {
          micro_->add_into(static_cast<const float*>(pointers[epilogue_.residual()]), sums, n);
        }
        if (epilogue_.relu()) micro_->unary(ExprOp::kRelu, sums, sums, n);
        store_row(out.dtype, sums, to, step, n);
      } else {
        epilogue_.run(sums, kChunk, n, pointers, to, scratch + (row_floats_ + 3 * kChunk) * sizeof(float));
      }
    }
  }

  void dot(DType dtype, int n, const void* w, std::int64_t stride, const float* x, float* out) const {
    if (dtype == DType::kFloat32)
      return micro_->gemv_f32(n, static_cast<const float*>(w), stride, x, depth_, out);
    const auto f = dtype == DType::kBFloat16 ? micro_->gemv_bf16 : micro_->gemv_f16;
    f(n, static_cast<const std::uint16_t*>(w), stride, x, depth_, out);
  }

  KernelRequest r_;
  const Micro* micro_;
  Epilogue epilogue_;
  std::size_t rank_ = 2;
  std::int64_t batches_ = 1, rows_ = 0;
  bool shared_ = true, few_ = false, pairs_ = false;
  std::int64_t depth_ = 0;
  GemmShape shape_;
  GemmGrid grid_;
  std::size_t scratch_ = 0, row_floats_ = 0;
};

}  // namespace

Made make_matmul(const KernelRequest& request) {
  // A bias that differs between rows is an addend like any other: an extra of the epilogue.
  if (request.inputs[2].present() && !Matmul::fits(request)) {
    throw Error(ErrorKind::kUnavailable,
                {.area = "cpu",
                 .what = "the bias of a matmul differs between rows; got op '" + request.op.name + "'"});
  }
  return std::make_unique<Matmul>(request);
}

}  // namespace npu::cpu
