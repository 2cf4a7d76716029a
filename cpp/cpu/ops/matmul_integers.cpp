// Products of integers: blocks of both factors are widened to words, whose products wrap as those of the
// elements do.
#include <algorithm>

#include "cpu/element.h"
#include "cpu/ops/matmul.h"
#include "cpu/strided.h"

namespace npu::cpu {

namespace {

// A block of the right factor has 64 KB of words at most, and one of the left twice that: half of a
// second-level cache.
constexpr std::int64_t kRows = 128, kDepth = 128, kColumns = 64;

// Where a factor lies, and how far apart its rows, or columns, and the elements of their depth are.
struct Factor {
  DType dtype = DType::kInt64;
  Shape strides;
  int input = 0;
  std::int64_t across = 0, depth = 0;
};

template <class Word>
class IntegerMatmul final : public HostKernel {
 public:
  IntegerMatmul(const KernelRequest& r, const IntegerLoops<Word>& loops)
      : name_(std::string("matmul[integers ") + micro().name + "]"),
        loops_(loops),
        shape_(r.outputs[0].shape),
        threads_(r.threads) {
    const TensorDesc &a = r.inputs[0], &b = r.inputs[1], &out = r.outputs[0];
    const std::size_t last = shape_.size() - 1;
    out_ = {out.dtype, out.strides, 0, out.strides[last - 1], out.strides[last]};
    left_ = {a.dtype, a.strides, 0, a.strides[last - 1], a.strides[last]};
    right_ = {b.dtype, b.strides, 1, b.strides[last], b.strides[last - 1]};
    rows_ = shape_[last - 1];
    columns_ = shape_[last];
    depth_ = a.shape[last];
    if (columns_ < rows_ && columns_ < kFew) {  // (a b)^T = b^T a^T: vectors run along the longer side
      std::swap(left_, right_);
      std::swap(rows_, columns_);
      std::swap(out_.across, out_.depth);
    }
    for (std::size_t d = 0; d + 1 < last; ++d) batches_ *= shape_[d];
    row_blocks_ = (rows_ + kRows - 1) / kRows;
    const double cost =
        static_cast<double>(std::min(rows_, kRows) * columns_) * (1 + 0.25 * static_cast<double>(depth_));
    pieces_ = piece_count(batches_ * row_blocks_, cost, r.threads);
    flops_ = 2.0 * static_cast<double>(batches_ * rows_) * static_cast<double>(columns_ * depth_);
    dots_ = rows_ <= kFewest && right_.depth == 1;
    block_depth_ = std::min(depth_, dots_ ? kLongest : kDepth);
    block_rows_ = std::min(rows_, kRows);
    const std::int64_t words =
        block_rows_ * block_depth_ + (dots_ ? 0 : block_depth_ * kColumns) + block_rows_ * kColumns;
    thread_bytes_ = round_up(static_cast<std::size_t>(words) * sizeof(Word));
  }

  std::string name() const override { return name_; }
  std::size_t scratch_bytes() const override { return thread_bytes_ * static_cast<std::size_t>(threads_); }
  double flops() const override { return flops_; }

  void run(const KernelArgs& args, ThreadPool& pool) const override {
    if (batches_ * rows_ * columns_ == 0) return;
    pool.run(pieces_, [&](std::int64_t piece, int thread) {
      std::byte* const scratch = args.scratch + thread_bytes_ * static_cast<std::size_t>(thread);
      const Range range = split(batches_ * row_blocks_, pieces_, piece);
      for (std::int64_t u = range.begin; u < range.end; ++u) {
        const std::int64_t row = u % row_blocks_ * kRows;
        for (std::int64_t column = 0; column < columns_; column += kColumns)
          run_block(args, u / row_blocks_, row, column, scratch);
      }
    });
  }

 private:
  static constexpr std::int64_t kFew = 16;  // columns, of which vectors would have too few
  // Rows whose products with columns that lie along the depth are not worth a transposition, and how much of
  // the depth these take at a time.
  static constexpr std::int64_t kFewest = 2, kLongest = 2048;

  void run_block(const KernelArgs& args, std::int64_t batch, std::int64_t row, std::int64_t column,
                 std::byte* scratch) const {
    IntegerProduct<Word> p;
    p.rows = std::min(kRows, rows_ - row);
    p.columns = std::min(kColumns, columns_ - column);
    auto* const a = reinterpret_cast<Word*>(scratch);
    p.y = a + block_rows_ * block_depth_;
    Word* const b = p.y + block_rows_ * kColumns;
    p.y_stride = kColumns;
    std::fill_n(p.y, p.rows * kColumns, Word{0});
    const std::int64_t left = outer_offset(shape_, left_.strides, batch, 2) + row * left_.across;
    const std::int64_t right = outer_offset(shape_, right_.strides, batch, 2) + column * right_.across;
    for (std::int64_t k = 0; k < depth_; k += block_depth_) {
      p.depth = std::min(block_depth_, depth_ - k);
      p.a = words(args, left_, left + k * left_.depth, left_.across, p.rows, left_.depth, p.depth, a,
                  &p.a_stride);
      if (dots_) {
        add_dots(args, right + k * right_.depth, p);
        continue;
      }
      p.b = words(args, right_, right + k * right_.depth, right_.depth, p.depth, right_.across, p.columns, b,
                  &p.b_stride);
      loops_.multiply(p);
    }
    const std::int64_t to = outer_offset(shape_, out_.strides, batch, 2) + row * out_.across;
    for (std::int64_t i = 0; i < p.rows; ++i) {
      store(p.y + i * kColumns, p.columns,
            element(args.outputs[0], out_.dtype, to + i * out_.across + column * out_.depth));
    }
  }

  void add_dots(const KernelArgs& args, std::int64_t right, const IntegerProduct<Word>& p) const {
    for (std::int64_t j = 0; j < p.columns; ++j) {
      const auto* const column = element(args.inputs[right_.input], right_.dtype, right + j * right_.across);
      for (std::int64_t i = 0; i < p.rows; ++i) {
        Word& sum = p.y[i * p.y_stride + j];
        sum = static_cast<Word>(sum + loops_.dot(right_.dtype, column, p.a + i * p.a_stride, p.depth));
      }
    }
  }

  // `rows` rows of n elements: as they lie, where these are words side by side, or widened to `copy`.
  const Word* words(const KernelArgs& args, const Factor& f, std::int64_t first, std::int64_t row_step,
                    std::int64_t rows, std::int64_t step, std::int64_t n, Word* copy,
                    std::int64_t* stride) const {
    const std::byte* const from = element(args.inputs[f.input], f.dtype, first);
    if (size_of(f.dtype) == sizeof(Word) && (step == 1 || n == 1)) {
      *stride = row_step;
      return reinterpret_cast<const Word*>(from);
    }
    *stride = n;
    visit_dtype(f.dtype, [&](auto zero) {
      using T = decltype(zero);
      if constexpr (!kIsFloat<T>) {
        const T* const x = reinterpret_cast<const T*>(from);
        for (std::int64_t i = 0; i < rows; ++i) {
          for (std::int64_t j = 0; j < n; ++j)
            copy[i * n + j] = static_cast<Word>(x[i * row_step + j * step]);
        }
      }
    });
    return copy;
  }

  void store(const Word* sums, std::int64_t n, std::byte* to) const {
    visit_size(size_of(out_.dtype), [&](auto zero) {
      using T = decltype(zero);
      T* const y = reinterpret_cast<T*>(to);
      for (std::int64_t j = 0; j < n; ++j) y[j * out_.depth] = static_cast<T>(sums[j]);
    });
  }

  std::string name_;
  IntegerLoops<Word> loops_;
  Shape shape_;
  Factor left_, right_, out_;  // of the result `across` is from row to row, `depth` from column to column
  std::int64_t batches_ = 1, rows_ = 0, columns_ = 0, depth_ = 0;
  std::int64_t row_blocks_ = 0, block_rows_ = 0, block_depth_ = 0, pieces_ = 0;
  bool dots_ = false;
  int threads_ = 1;
  double flops_ = 0;
  std::size_t thread_bytes_ = 0;
};

}  // namespace

KernelPtr make_matmul_integers(const KernelRequest& r) {
  const Micro& m = micro();
  const std::size_t size = size_of(r.outputs[0].dtype);
  if (size == 8) return std::make_unique<IntegerMatmul<std::uint64_t>>(r, m.words_64);
  if (size == 4) return std::make_unique<IntegerMatmul<std::uint32_t>>(r, m.words_32);
  return std::make_unique<IntegerMatmul<std::uint16_t>>(r, m.words_16);
}

}  // namespace npu::cpu
