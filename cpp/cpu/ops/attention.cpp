// Attention without the matrix of its scores: blocks of columns one after the other, with a running maximum
// and sum for each row.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <utility>

#include "cpu/element.h"
#include "cpu/ops/attention_products.h"
#include "cpu/ops/ops.h"
#include "cpu/strided.h"

namespace npu::cpu {

namespace {

// With AVX-512, the scores of 8 tiles of rows by 128 columns are 56 KB. 512 rows and columns, 8 heads of
// 64: 3.5 ms, with 32 columns 8.4, with 512 3.1.
constexpr std::int64_t kBlockColumns = 128;
constexpr std::int64_t kBlockTiles = 8;
constexpr float kLeast = -std::numeric_limits<float>::infinity();

std::int64_t padded(std::int64_t floats) { return (floats + 15) / 16 * 16; }

// What a thread works in, in floats from the start of its scratch.
struct Room {
  std::int64_t queries = 0, scores = 0, panels = 0, scales = 0, addends = 0, peaks = 0, totals = 0, sums = 0,
               all = 0;
};

class Attention final : public HostKernel {
 public:
  explicit Attention(const KernelRequest& r)
      : micro_(&micro()),
        r_(r),
        attrs_(std::get<AttentionAttrs>(r.op.attrs)),
        shape_(plan(r)),
        mask_(r.inputs[3], attrs_.causal, shape_, r.threads),
        block_rows_((shape_.rows_of_group() + shape_.row_blocks - 1) / shape_.row_blocks),
        products_(r, shape_, block_rows_) {
    // Whole panels are stored, zeros at their end too.
    sums_stride_ = padded((shape_.value_width + micro_->nr - 1) / micro_->nr * micro_->nr);
    splits_ = plan_splits();
    std::int64_t at = 0;
    const auto take = [&](std::int64_t floats) { return std::exchange(at, at + padded(floats)); };
    room_.queries = take(products_.query_floats());
    room_.scores = take(block_rows_ * kBlockColumns);
    room_.panels = take(products_.panel_floats());
    room_.scales = take(products_.scale_floats());
    room_.addends = take(mask_.buffer_floats());
    room_.peaks = take(block_rows_);
    room_.totals = take(block_rows_);
    room_.sums = take(block_rows_ * sums_stride_);
    room_.all = at;
  }

  std::string name() const override {
    return std::string("attention[") + products_.form() + micro_->name + (attrs_.causal ? ", causal]" : "]");
  }
  std::size_t scratch_bytes() const override {
    std::int64_t floats = room_.all * r_.threads + mask_.buffer_floats() * r_.threads;
    if (splits_ > 1) floats += shape_.units() * splits_ * part_floats();
    return mask_.table_bytes() + static_cast<std::size_t>(padded(floats)) * sizeof(float);
  }
  double flops() const override {
    const double scores = static_cast<double>(shape_.batch * shape_.heads) *
                          static_cast<double>(shape_.queries) * static_cast<double>(shape_.keys);
    return 2.0 * scores * static_cast<double>(shape_.width + shape_.value_width) * (attrs_.causal ? 0.5 : 1);
  }

  void run(const KernelArgs& args, ThreadPool& pool) const override {
    if (shape_.units() * shape_.rows_of_group() * shape_.value_width == 0) return;
    auto* const table = reinterpret_cast<std::uint8_t*>(args.scratch);
    auto* const rooms = reinterpret_cast<float*>(args.scratch + mask_.table_bytes());
    float* const buffers = rooms + room_.all * r_.threads;
    float* const parts = buffers + mask_.buffer_floats() * r_.threads;
    mask_.find(args.inputs[3], table, buffers, pool);
    const std::int64_t pieces = shape_.units() * splits_;
    pool.run(pieces, [&](std::int64_t piece, int thread) {
      // From the end: with a causal mask, the most expensive ones first.
      const std::int64_t reversed = pieces - 1 - piece;
      run_unit(args, table, unit(reversed / splits_), reversed % splits_, rooms + thread * room_.all,
               splits_ > 1 ? parts + reversed * part_floats() : nullptr);
    });
    if (splits_ == 1) return;
    pool.run(shape_.units(), [&](std::int64_t piece, int) {
      combine(args, unit(piece), parts + piece * splits_ * part_floats());
    });
  }

 private:
  struct Work {
    const KernelArgs& args;
    AttentionUnit unit;
    float *queries, *scores;
    AttentionProducts::Room room;
    float *addends, *peaks, *totals, *sums;
    std::int64_t rows() const { return unit.rows.end - unit.rows.begin; }
  };

  static AttentionShape plan(const KernelRequest& r) {
    AttentionShape s{attention_geometry(r.inputs[0], r.inputs[1], r.inputs[2])};
    s.block_columns = kBlockColumns;
    const std::int64_t most = kBlockTiles * micro().mr;
    s.row_blocks = std::max<std::int64_t>(1, (s.rows_of_group() + most - 1) / most);
    return s;
  }

  // Where there are too few row blocks for the threads, columns are shared out too.
  std::int64_t plan_splits() const {
    const std::int64_t units = shape_.units(), threads = r_.threads;
    if (threads == 1 || units == 0 || units >= 4 * threads || units % threads == 0) return 1;
    const std::int64_t worth = shape_.column_blocks() * units * block_rows_ / 16;
    const std::int64_t most = std::min(shape_.column_blocks(), worth / std::max<std::int64_t>(units, 1));
    return std::clamp<std::int64_t>((2 * threads + units - 1) / units, 1, std::max<std::int64_t>(1, most));
  }

  AttentionUnit unit(std::int64_t index) const {
    const std::int64_t block = index % shape_.row_blocks, group = index / shape_.row_blocks;
    return {group / shape_.groups, group % shape_.groups, block,
            split(shape_.rows_of_group(), shape_.row_blocks, block)};
  }

  std::int64_t part_floats() const { return 2 * padded(block_rows_) + block_rows_ * sums_stride_; }
  std::int64_t offset_of(const TensorDesc& t, const AttentionUnit& u, std::int64_t row) const {
    return u.n * t.strides[0] + shape_.head(u.g, row) * t.strides[1] + shape_.position(row) * t.strides[2];
  }

  void run_unit(const KernelArgs& args, const std::uint8_t* table, const AttentionUnit& unit,
                std::int64_t part, float* room, float* result) const {
    Work w{args,
           unit,
           room + room_.queries,
           room + room_.scores,
           {room + room_.panels, room + room_.scales},
           room + room_.addends,
           result ? result : room + room_.peaks,
           result ? result + padded(block_rows_) : room + room_.totals,
           result ? result + 2 * padded(block_rows_) : room + room_.sums};
    std::fill_n(w.peaks, w.rows(), kLeast);
    std::fill_n(w.totals, w.rows(), 0.0f);
    std::fill_n(w.sums, w.rows() * sums_stride_, 0.0f);
    products_.load_queries(args.inputs[0], unit, w.queries);
    const std::int64_t blocks = shape_.column_blocks();
    std::int64_t seen = 0;
    if (splits_ > 1) {
      for (std::int64_t b = mask_.next_seen(table, unit, 0); b < blocks;
           b = mask_.next_seen(table, unit, b + 1))
        ++seen;
    }
    const Range mine = splits_ > 1 ? split(seen, splits_, part) : Range{0, blocks};
    std::int64_t count = 0;
    for (std::int64_t b = mask_.next_seen(table, unit, 0); b < blocks && count < mine.end;
         b = mask_.next_seen(table, unit, b + 1), ++count) {
      if (count >= mine.begin) run_block(w, b * kBlockColumns);
    }
    if (result) return;
    for (std::int64_t i = 0; i < w.rows(); ++i) finish(w, i);
  }

  void run_block(const Work& w, std::int64_t column) const {
    const std::int64_t count = std::min(kBlockColumns, mask_.columns_end(w.unit) - column);
    products_.make_scores(w.args, w.unit, w.queries, column, count, w.scores, w.room);
    for (std::int64_t i = 0; i < w.rows(); ++i) weigh(w, i, column, count);
    products_.add_values(w.args, w.unit, column, count, w.scores, w.sums, sums_stride_, w.room);
  }

  // Scores become weights relative to the row's maximum so far; what was summed before follows it.
  void weigh(const Work& w, std::int64_t i, std::int64_t column, std::int64_t count) const {
    float* const scores = w.scores + i * kBlockColumns;
    const std::int64_t row = w.unit.rows.begin + i, reach = mask_.reach(row, column, count);
    const float peak = mask_.apply(w.args.inputs[3], w.unit, row, column, reach,
                                   static_cast<float>(attrs_.scale), scores, w.addends);
    const float before = w.peaks[i];
    const float most = peak > before || peak != peak ? peak : before;
    if (most == kLeast) {
      std::fill_n(scores, count, 0.0f);
      return;
    }
    const float total = micro_->weights(scores, most, reach);
    std::fill_n(scores + reach, count - reach, 0.0f);
    if (most != before) {
      const float factor = std::exp(before - most);
      w.totals[i] *= factor;
      float* const sums = w.sums + i * sums_stride_;
      micro_->scale_shift(sums, factor, 0.0f, sums, shape_.value_width);
      w.peaks[i] = most;
    }
    w.totals[i] += total;
  }

  void finish(const Work& w, std::int64_t i) const {
    const TensorDesc& out = r_.outputs[0];
    float* const sums = w.sums + i * sums_stride_;
    constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
    if (w.peaks[i] == kLeast) {  // nothing seen
      const bool nan = attrs_.masked_rows == AttentionAttrs::MaskedRows::kNan && shape_.keys > 0;
      std::fill_n(sums, shape_.value_width, nan ? kNan : 0.0f);
    } else if (!std::isfinite(w.peaks[i])) {  // a score was NaN or +inf: so are all weights NaN
      std::fill_n(sums, shape_.value_width, kNan);
    } else {
      micro_->scale_shift(sums, 1.0f / w.totals[i], 0.0f, sums, shape_.value_width);
    }
    store_floats(*micro_, out.dtype, sums,
                 at(w.args.outputs[0], offset_of(out, w.unit, w.unit.rows.begin + i), size_of(out.dtype)),
                 out.strides[3], shape_.value_width);
  }

  // The parts of a unit's columns become one, in the first of them.
  void combine(const KernelArgs& args, const AttentionUnit& unit, float* parts) const {
    const std::int64_t second = padded(block_rows_);
    Work w{args, unit, nullptr, nullptr, {}, nullptr, parts, parts + second, parts + 2 * second};
    for (std::int64_t i = 0; i < w.rows(); ++i) {
      float most = kLeast;
      for (std::int64_t p = 0; p < splits_; ++p) {
        const float peak = parts[p * part_floats() + i];
        if (peak > most || peak != peak) most = peak;
      }
      float* const sums = w.sums + i * sums_stride_;
      for (std::int64_t p = 0; p < splits_ && most != kLeast; ++p) {
        const float* const part = parts + p * part_floats();
        const float factor = std::exp(part[i] - most), *from = part + 2 * second + i * sums_stride_;
        w.totals[i] = (p > 0 ? w.totals[i] : 0.0f) + factor * part[second + i];
        if (p == 0) {
          micro_->scale_shift(sums, factor, 0.0f, sums, shape_.value_width);
        } else {
          for (std::int64_t e = 0; e < shape_.value_width; ++e) sums[e] += factor * from[e];
        }
      }
      w.peaks[i] = most;
      finish(w, i);
    }
  }

  const Micro* micro_;
  KernelRequest r_;
  AttentionAttrs attrs_;
  AttentionShape shape_;
  AttentionMask mask_;
  std::int64_t block_rows_;
  AttentionProducts products_;
  std::int64_t sums_stride_ = 0, splits_ = 1;
  Room room_;
};

}  // namespace

KernelPtr make_attention(const KernelRequest& request) { return std::make_unique<Attention>(request); }

}  // namespace npu::cpu
