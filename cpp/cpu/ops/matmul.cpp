// Matrix products with any strides, as blocked products.
#include "cpu/ops/matmul.h"

#include <algorithm>
#include <cstring>
#include <optional>
#include <utility>

#include "npu/error.h"

namespace npu::cpu {

namespace {

// Rows are counted through the batch dimensions when every batch has the same right-hand side.
class MatmulOperands final : public GemmOperands {
 public:
  MatmulOperands(const KernelRequest& r, const Epilogue& epilogue, std::int64_t first_row, const void* a,
                 const void* b, bool pairs, const QuantizedRows* quantized = nullptr,
                 const QuantizedParts& parts = {})
      : r_(r),
        epilogue_(epilogue),
        first_row_(first_row),
        a_(a),
        b_(b),
        rank_(r.outputs[0].shape.size()),
        pairs_(pairs),
        depth_(r.inputs[0].shape[rank_ - 1]),
        quantized_(quantized),
        parts_(parts) {}

  void pack_rows(std::int64_t row, std::int64_t count, std::int64_t k, std::int64_t length,
                 float* to) const override {
    const TensorDesc& a = r_.inputs[0];
    for (std::int64_t i = 0; i < count; ++i, to += kPackedStride) {
      const std::int64_t at = row_offset(r_.outputs[0].shape, a.strides, first_row_ + row + i);
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
    if (!(pairs_ || a.dtype == DType::kFloat32) || a.strides[rank_ - 1] != 1) return nullptr;
    const std::int64_t unit = pairs_ ? 2 : 1;  // elements of a word
    const auto offset = [&](std::int64_t i) {
      return row_offset(r_.outputs[0].shape, a.strides, first_row_ + row + i);
    };
    const std::int64_t first = offset(0), step = count > 1 ? offset(1) - first : unit * kPackedStride;
    if (step % unit != 0 || depth_ % unit != 0 || shares_cache_set(step / unit)) return nullptr;
    for (std::int64_t i = 2; i < count; ++i) {
      if (offset(i) != first + i * step) return nullptr;
    }
    *stride = step / unit;
    return reinterpret_cast<const float*>(element(a_, a.dtype, first));
  }

  const float* panel_in_place(std::int64_t column) const override {
    const TensorDesc& b = r_.inputs[1];
    if (quantized_ || b.strides[rank_ - 2] != 1 || b.strides[rank_ - 1] != depth_) return nullptr;
    return reinterpret_cast<const float*>(element(b_, b.dtype, column * depth_));
  }

  void fetch_columns(std::int64_t column, std::int64_t count, std::int64_t k,
                     std::int64_t length) const override {
    constexpr std::int64_t kLine = 64;
    const TensorDesc& b = r_.inputs[1];
    const std::int64_t unit = pairs_ ? 2 : 1;
    if (quantized_) {
      const std::int64_t bits = quantized_->how().bits;
      for (std::int64_t j = column; j < column + count; ++j) {
        const std::byte* const from =
            static_cast<const std::byte*>(parts_.q) + quantized_column(r_, j).q + k * unit * bits / 8;
        for (std::int64_t at = 0; at < length * unit * bits / 8; at += kLine)
          __builtin_prefetch(from + at, 0, 2);
      }
      return;
    }
    if (b.strides[rank_ - 2] != 1) return;
    const std::int64_t bytes = length * unit * static_cast<std::int64_t>(size_of(b.dtype));
    for (std::int64_t j = column; j < column + count; ++j) {
      const std::byte* const from = element(b_, b.dtype, j * b.strides[rank_ - 1] + k * unit);
      for (std::int64_t at = 0; at < bytes; at += kLine) __builtin_prefetch(from + at, 0, 2);
    }
  }

  void pack_panel(std::int64_t column, std::int64_t count, std::int64_t k, std::int64_t length, int nr,
                  float* to) const override {
    if (quantized_) return pack_numbers(column, count, k, length, nr, to);
    const TensorDesc& b = r_.inputs[1];
    const std::int64_t down = b.strides[rank_ - 2], across = b.strides[rank_ - 1];
    if (pairs_) return pack_pairs(column, count, k, length, nr, to);
    if (across == 1 || down != 1) {
      for (std::int64_t i = 0; i < length; ++i, to += nr) {
        load_row(b.dtype, element(b_, b.dtype, (k + i) * down + column * across), across, to, count);
        std::memset(to + count, 0, sizeof(float) * static_cast<std::size_t>(nr - count));
      }
      return;
    }
    // Each column is contiguous, as linear's weights are.
    const std::byte* const first = element(b_, b.dtype, k + column * across);
    if (b.dtype == DType::kFloat32) {
      return micro().transpose_words(first, across * 4, count, length, to, nr, nr);
    }
    pack_halves(first, across, count, length, nr, to);
  }

  void locate(std::int64_t row, std::int64_t* out, std::int64_t* extras) const override {
    const TensorDesc& o = r_.outputs[0];
    *out = row_offset(o.shape, o.strides, first_row_ + row);
    const auto& descs = epilogue_.extras();
    for (std::size_t e = 0; e < descs.size(); ++e)
      extras[e] = row_offset(o.shape, descs[e].strides, first_row_ + row);
  }

 private:
  // Columns of a quantised right side: words that are laid across and unpacked there, or rows of numbers.
  void pack_numbers(std::int64_t column, std::int64_t count, std::int64_t k, std::int64_t length, int nr,
                    float* to) const {
    constexpr std::int64_t kAtOnce = kPanelColumns;
    const std::int64_t unit = pairs_ ? 2 : 1;
    const bool in_words = quantized_->unpacks(pairs_, k * unit, length * unit);
    float words[kPackedStride * kAtOnce];
    for (std::int64_t j = 0; j < nr; j += kAtOnce) {
      const std::int64_t some = std::clamp<std::int64_t>(count - j, 0, kAtOnce);
      if (in_words) {
        const QuantizedRows::Panel panel{some, std::min<std::int64_t>(nr - j, kAtOnce), to + j, nr};
        quantized_->unpack(parts_, quantized_column(r_, column + j), quantized_column(r_, 1), pairs_,
                           k * unit, length * unit, panel);
        continue;
      }
      for (std::int64_t i = 0; i < some; ++i)
        line_of_numbers(column + j + i, k, length, words + i * kPackedStride);
      micro().transpose_words(words, kPackedStride * 4, some, length, to + j, nr,
                              std::min<std::int64_t>(nr - j, kAtOnce));
    }
  }

  // Words [k, k + length) of one column.
  void line_of_numbers(std::int64_t column, std::int64_t k, std::int64_t length, float* line) const {
    const QuantizedRows::Row row = quantized_column(r_, column);
    if (!pairs_) return quantized_->numbers(parts_, row, k, length, line);
    auto* const halves = reinterpret_cast<std::uint16_t*>(line);
    const std::int64_t some = std::min(2 * length, depth_ - 2 * k);
    quantized_->numbers(parts_, row, 2 * k, some, halves);
    if (some < 2 * length) halves[some] = 0;
  }

  // Columns of halves, as float32: two at a time are a word.
  void pack_halves(const std::byte* first, std::int64_t across, std::int64_t count, std::int64_t length,
                   int nr, float* to) const {
    constexpr std::int64_t kWords = 32, kMostColumns = 64;
    float words[kWords * kMostColumns];
    const DType dtype = r_.inputs[1].dtype;
    for (std::int64_t i0 = 0; i0 < length / 2; i0 += kWords) {
      const std::int64_t n = std::min(kWords, length / 2 - i0);
      micro().transpose_words(first + 4 * i0, 2 * across, count, n, words, nr, nr);
      for (std::int64_t i = 0; i < n; ++i) {
        float* const row = to + 2 * (i0 + i) * nr;
        micro().split_pairs(dtype, words + i * nr, row, row + nr, nr);
      }
    }
    if (length % 2 == 0) return;
    float* const last = to + (length - 1) * nr;
    load_row(dtype, element(first, dtype, length - 1), across, last, count);
    std::fill(last + count, last + nr, 0.0f);
  }

  void pack_pairs(std::int64_t column, std::int64_t count, std::int64_t k, std::int64_t length, int nr,
                  float* to) const {
    const TensorDesc& b = r_.inputs[1];
    const std::int64_t down = b.strides[rank_ - 2], across = b.strides[rank_ - 1];
    const auto* const x = static_cast<const std::uint16_t*>(b_);
    if (down == 1) {
      const std::int64_t whole = std::min(length, depth_ / 2 - k);
      micro().transpose_words(x + column * across + 2 * k, across * 2, count, whole, to, nr, nr);
      if (whole == length) return;
      std::fill_n(to + whole * nr, nr, 0.0f);
      for (std::int64_t j = 0; j < count; ++j)
        load_pairs(b_, (column + j) * across, 1, k + whole, 1, to + whole * nr + j, nr);
      return;
    }
    for (std::int64_t i = 0; i < length; ++i) {
      const std::uint16_t* const first = x + 2 * (k + i) * down + column * across;
      const bool whole = 2 * (k + i) + 1 < depth_;
      if (across == 1) {
        micro().pair_rows(first, whole ? first + down : nullptr, to + i * nr, count);
      } else {
        for (std::int64_t j = 0; j < count; ++j)
          load_pairs(b_, (column + j) * across, down, k + i, 1, to + i * nr + j, nr);
      }
      std::fill(to + i * nr + count, to + (i + 1) * nr, 0.0f);
    }
  }

  // Words [k, k + length) of the column or row that starts at element `at`, to addresses `spread` words
  // apart.
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
  const QuantizedRows* quantized_;
  QuantizedParts parts_;
};

class Matmul final : public HostKernel {
 public:
  explicit Matmul(const KernelRequest& r)
      : r_(r),
        g_(geometry_of(r)),
        micro_(&micro()),
        epilogue_(std::get<MatmulAttrs>(r.op.attrs).epilogue, extras_of(r), r.outputs[0],
                  static_cast<int>(r.outputs[0].shape.size()) - 1, std::get<MatmulAttrs>(r.op.attrs).halves) {
    if (is_quantized(r)) quantized_.emplace(quantized_right(r));
    pairs_ = multiplies_pairs(*micro_, r.inputs[0].dtype, quantized_ ? r.inputs[0].dtype : r.inputs[1].dtype);
    shape_ = {g_.rows, g_.columns, words(g_.depth, pairs_), epilogue_.sums_per_result()};
    grid_ = packs() ? plan_gemm(*micro_, shape_, r.threads, g_.batches)
                    : plan_unpacked_gemm(*micro_, shape_, r.threads, g_.batches);
    scratch_ = align(gemm_scratch(*micro_, shape_, grid_, epilogue_));
  }

  std::string name() const override {
    return std::string(pairs_ ? "matmul[pairs " : "matmul[gemm ") + micro_->name +
           (quantized_ ? " of quantized" : "") +
           (epilogue_.in_tile() || epilogue_.after_tile() ? "]" : " +map]");
  }
  std::size_t scratch_bytes() const override { return scratch_ * static_cast<std::size_t>(r_.threads); }
  double flops() const override {
    return 2.0 * static_cast<double>(g_.batches * g_.rows * shape_.sums_per_result) *
           static_cast<double>(shape_.columns * g_.depth);
  }

  // Half dtypes are packed panel by panel while they are used: a packed copy would double the weights.
  bool packs() const { return g_.shared && r_.inputs[1].constant && r_.inputs[1].dtype == DType::kFloat32; }
  int packed_input() const override { return packs() ? 1 : -1; }
  std::size_t packed_bytes() const override {
    return packs() ? shape_.packed_floats(*micro_) * sizeof(float) : 0;
  }
  std::string packing() const override {
    return "matmul panels " + std::to_string(micro_->nr) + " of " + std::to_string(g_.depth) + "x" +
           (shape_.sums_per_result > 1 ? "2*" : "") + std::to_string(shape_.columns) + "," +
           std::to_string(g_.right_depth) + "," + std::to_string(g_.right_column);
  }
  void pack(const void* raw, std::byte* packed, ThreadPool& pool) const override {
    const MatmulOperands operands(r_, epilogue_, 0, nullptr, raw, pairs_);
    pack_panels(*micro_, shape_, operands, reinterpret_cast<float*>(packed), pool);
  }

  void run(const KernelArgs& args, ThreadPool& pool) const override {
    if (g_.rows * shape_.columns * g_.batches == 0) return;
    pool.run(g_.batches * grid_.pieces(), [&](std::int64_t piece, int thread) {
      const std::int64_t batch = piece / grid_.pieces();
      const MatmulOperands operands(r_, epilogue_, batch * g_.rows, args.inputs[0],
                                    element(args.inputs[1], r_.inputs[1].dtype, right_offset(r_, g_, batch)),
                                    pairs_, quantized_ ? &*quantized_ : nullptr,
                                    quantized_ ? quantized_parts(args) : QuantizedParts{});
      GemmCall call;
      call.micro = micro_;
      call.shape = shape_;
      call.pairs = pairs_;
      call.operands = &operands;
      call.packed = reinterpret_cast<const float*>(args.packed);
      call.epilogue = &epilogue_;
      call.out_dtype = r_.outputs[0].dtype;
      call.out = args.outputs[0];
      call.out_stride = r_.outputs[0].strides[g_.rank - 1];
      call.extras = args.inputs + first_extra(OpKind::kMatmul);
      if (args.inputs[2]) {
        const TensorDesc& bias = r_.inputs[2];
        call.bias = element(args.inputs[2], bias.dtype, bias_at(batch * g_.rows));
        call.bias_dtype = bias.dtype;
        call.bias_stride = bias.strides[g_.rank - 1];
      }
      gemm_piece(call, grid_, piece % grid_.pieces(),
                 args.scratch + scratch_ * static_cast<std::size_t>(thread));
    });
  }

  static bool fits(const KernelRequest& r) {
    return !r.inputs[2].present() || !moves_with_rows(r.inputs[2], r);
  }

 private:
  static std::size_t align(std::size_t bytes) { return (bytes + 63) / 64 * 64; }

  static bool moves_with_rows(const TensorDesc& bias, const KernelRequest& r) {
    const Shape& shape = r.outputs[0].shape;
    for (std::size_t d = 0; d + 1 < shape.size(); ++d) {
      if (shape[d] > 1 && bias.strides[d] != 0) return true;
    }
    return false;
  }
  std::int64_t bias_at(std::int64_t row) const {
    return row_offset(r_.outputs[0].shape, r_.inputs[2].strides, row);
  }

  KernelRequest r_;
  MatmulGeometry g_;
  const Micro* micro_;
  Epilogue epilogue_;
  bool pairs_ = false;
  std::optional<QuantizedRows> quantized_;
  GemmShape shape_;
  GemmGrid grid_;
  std::size_t scratch_ = 0;
};

}  // namespace

QuantizedRows quantized_right(const KernelRequest& r) {
  const auto& attrs = std::get<MatmulAttrs>(r.op.attrs);
  return {
      quantization_of(attrs), r.inputs[0].shape.back(), r.inputs[1], r.inputs[3], r.inputs[4], r.inputs[5]};
}

QuantizedRows::Row quantized_column(const KernelRequest& r, std::int64_t column) {
  const auto at = [&](std::size_t i) { return r.inputs[i].present() ? column * r.inputs[i].strides[0] : 0; };
  return {at(1), at(3), at(4), at(5)};
}

KernelPtr make_matmul(const KernelRequest& request) {
  if (!is_quantized(request) && tiny_products(request)) return make_matmul_tiny(request);
  if (!is_float(request.outputs[0].dtype)) return make_matmul_integers(request);
  // A bias that differs between rows is an addend like any other: an extra of the epilogue.
  if (request.inputs[2].present() && !Matmul::fits(request)) {
    throw Error(ErrorKind::kUnavailable,
                {.area = "cpu",
                 .what = "the bias of a matmul differs between rows; got op '" + request.op.name + "'"});
  }
  if (is_quantized(request)) {
    KernelPtr rows = make_matmul_quantized_rows(request);
    return rows ? std::move(rows) : std::make_unique<Matmul>(request);
  }
  if (one_column(request)) return make_matmul_column(request);
  return few_rows(request) ? make_matmul_rows(request) : std::make_unique<Matmul>(request);
}

}  // namespace npu::cpu
