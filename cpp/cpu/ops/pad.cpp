#include "core/geometry/pad.h"

#include <cstring>
#include <utility>

#include "cpu/element.h"
#include "cpu/ops/ops.h"
#include "cpu/strided.h"

namespace npu::cpu {

namespace {

class Pad : public HostKernel {
 public:
  explicit Pad(const KernelRequest& r)
      : attrs_(std::get<PadAttrs>(r.op.attrs)),
        size_(size_of(r.outputs[0].dtype)),
        dims_(pad_dims(attrs_, r.outputs[0], r.inputs[0])) {
    for (std::size_t d = 0; d + 1 < dims_.size(); ++d) rows_ *= dims_[d].out;
    const PadDim& row = dims_.back();
    begin_ = std::min(std::max<std::int64_t>(row.low, 0), row.out);
    end_ = std::max(begin_, std::min(row.out, row.low + row.in));
    if (row.out == 0) rows_ = 0;
    for (std::int64_t o = 0; o < row.out && attrs_.kind != PadAttrs::Kind::kConstant; ++o) {
      if (o < begin_ || o >= end_) edges_.emplace_back(o * row.y_step, source(row, o) * row.x_step);
    }
    pieces_ = piece_count(rows_, 4 + 0.5 * static_cast<double>(row.out), r.threads);
    visit_dtype(r.outputs[0].dtype, [&](auto zero) {
      using T = decltype(zero);
      T value;
      if constexpr (kIsFloat<T>) {
        value = static_cast<T>(static_cast<float>(attrs_.value));
      } else if constexpr (std::is_same_v<T, bool>) {
        value = attrs_.value != 0;
      } else {
        value = to_integer<T>(attrs_.value);
      }
      std::memcpy(fill_, &value, sizeof value);
    });
  }

  std::string name() const override { return "pad"; }

  void run(const KernelArgs& args, ThreadPool& pool) const override {
    pool.run(pieces_, [&](std::int64_t piece, int) {
      const Range range = split(rows_, pieces_, piece);
      visit_size(size_, [&](auto zero) { run_rows<decltype(zero)>(args, range); });
    });
  }

 private:
  // Where position o of a padded dimension comes from, or -1.
  std::int64_t source(const PadDim& d, std::int64_t o) const {
    std::int64_t i = o - d.low;
    if (i >= 0 && i < d.in) return i;
    switch (attrs_.kind) {
      case PadAttrs::Kind::kConstant:
        return -1;
      case PadAttrs::Kind::kReflect:
        i = i < 0 ? -i : 2 * (d.in - 1) - i;
        break;
      case PadAttrs::Kind::kReplicate:
        break;
      case PadAttrs::Kind::kCircular:
        i = (i % d.in + d.in) % d.in;
        break;
    }
    return std::clamp<std::int64_t>(i, 0, d.in - 1);
  }

  // Where a row lies: the sums over the dimensions up to each.
  struct Row {
    std::int64_t at[kMaxRank + 1] = {};  // positions
    std::int64_t to[kMaxRank + 1] = {}, from[kMaxRank + 1] = {};
    bool inside[kMaxRank + 1] = {};
  };

  void locate(Row& row, std::size_t first) const {
    for (std::size_t d = first; d + 1 < dims_.size(); ++d) {
      const std::int64_t i = source(dims_[d], row.at[d]);
      row.to[d + 1] = row.to[d] + row.at[d] * dims_[d].y_step;
      row.from[d + 1] = row.from[d] + i * dims_[d].x_step;
      row.inside[d + 1] = row.inside[d] && i >= 0;
    }
  }

  template <class T>
  void run_rows(const KernelArgs& args, Range range) const {
    const std::size_t last = dims_.size() - 1;
    Row row;
    row.inside[0] = true;
    for (std::int64_t d = static_cast<std::int64_t>(last) - 1, rest = range.begin; d >= 0; --d) {
      row.at[d] = rest % dims_[d].out;
      rest /= dims_[d].out;
    }
    locate(row, 0);
    for (std::int64_t r = range.begin; r < range.end; ++r) {
      T* const y = static_cast<T*>(args.outputs[0]) + row.to[last];
      if (row.inside[last]) {
        run_row(static_cast<const T*>(args.inputs[0]) + row.from[last], y);
      } else {
        fill(y, 0, dims_[last].out);
      }
      std::size_t d = last;
      while (d > 0 && ++row.at[d - 1] == dims_[d - 1].out) row.at[--d] = 0;
      if (d > 0) locate(row, d - 1);
    }
  }

  template <class T>
  void run_row(const T* x, T* y) const {
    const PadDim& d = dims_.back();
    const T* const from = x + (begin_ - d.low) * d.x_step;
    T* const to = y + begin_ * d.y_step;
    const std::int64_t n = end_ - begin_;
    if (d.y_step == 1 && d.x_step == 1 && n > kShort) {
      std::memcpy(to, from, static_cast<std::size_t>(n) * sizeof(T));
    } else if (n > kShort) {
      micro().copy_strided(sizeof(T), from, d.x_step, to, d.y_step, n);
    } else {
      for (std::int64_t i = 0; i < n; ++i) to[i * d.y_step] = from[i * d.x_step];
    }
    if (attrs_.kind == PadAttrs::Kind::kConstant) {
      fill(y, 0, begin_);
      fill(y, end_, d.out);
      return;
    }
    for (const auto& [position, offset] : edges_) y[position] = x[offset];
  }

  template <class T>
  void fill(T* y, std::int64_t begin, std::int64_t end) const {
    T value;
    std::memcpy(&value, fill_, sizeof value);
    const std::int64_t step = dims_.back().y_step;
    if (end - begin > kShort)
      return micro().copy_strided(sizeof(T), &value, 0, y + begin * step, step, end - begin);
    for (std::int64_t o = begin; o < end; ++o) y[o * step] = value;
  }

  static constexpr std::int64_t kShort = 16;  // elements that are not worth a call

  PadAttrs attrs_;
  std::size_t size_;
  std::vector<PadDim> dims_;  // the last one is the row
  std::int64_t rows_ = 1, pieces_ = 1;
  std::int64_t begin_ = 0, end_ = 0;                          // of the part of a row that is copied
  std::vector<std::pair<std::int64_t, std::int64_t>> edges_;  // offsets in y and x of the rest of a row
  alignas(8) std::byte fill_[8] = {};
};

}  // namespace

KernelPtr make_pad(const KernelRequest& request) { return std::make_unique<Pad>(request); }

}  // namespace npu::cpu
