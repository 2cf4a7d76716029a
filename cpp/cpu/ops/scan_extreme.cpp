#include "core/geometry/axis.h"
#include "cpu/element.h"
#include "cpu/ops/ops.h"
#include "cpu/strided.h"

namespace npu::cpu {

namespace {

constexpr std::int64_t kColumns = 64;  // neighbouring rows that advance together

class ScanExtreme : public HostKernel {
 public:
  explicit ScanExtreme(const KernelRequest& r)
      : dtype_(r.inputs[0].dtype),
        maximum_(std::get<ScanExtremeAttrs>(r.op.attrs).kind == ScanExtremeAttrs::Kind::kMax) {
    const AxisCut cut =
        cut_axis(std::get<ScanExtremeAttrs>(r.op.attrs).axis, {&r.inputs[0], &r.outputs[0], &r.outputs[1]});
    n_ = cut.extent;
    for (std::size_t k = 0; k < 3; ++k) steps_[k] = cut.steps[k];
    nest_ = cut.rows;
    columns_ = steps_[0] == 1 ? 1 : std::min(kColumns, std::max<std::int64_t>(nest_.inner(), 1));
    blocks_ = (nest_.inner() + columns_ - 1) / columns_;
    pieces_ = piece_count(nest_.rows * blocks_, 4 * static_cast<double>(n_ * columns_), r.threads);
  }

  std::string name() const override { return maximum_ ? "scan_extreme[max]" : "scan_extreme[min]"; }

  void run(const KernelArgs& args, ThreadPool& pool) const override {
    if (n_ == 0) return;
    visit_dtype(dtype_, [&](auto zero) {
      using T = decltype(zero);
      maximum_ ? run_typed<T, true>(args, pool) : run_typed<T, false>(args, pool);
    });
  }

 private:
  template <class T>
  struct Rows {
    const T* x;
    T* values;  // or null, as the next
    std::int64_t* indices;
  };

  template <class T, bool maximum>
  void run_typed(const KernelArgs& args, ThreadPool& pool) const {
    pool.run(pieces_, [&](std::int64_t piece, int) {
      const Range range = split(nest_.rows * blocks_, pieces_, piece);
      Cursor cursor(nest_, range.begin / blocks_);
      for (std::int64_t u = range.begin; u < range.end; ++u) {
        const std::int64_t first = u % blocks_ * columns_;
        const auto place = [&](int k) { return cursor.offset[k] + first * nest_.step(k); };
        auto* values = static_cast<T*>(args.outputs[0]);
        auto* indices = static_cast<std::int64_t*>(args.outputs[1]);
        const Rows<T> rows{static_cast<const T*>(args.inputs[0]) + place(0),
                           values ? values + place(1) : nullptr, indices ? indices + place(2) : nullptr};
        const std::int64_t columns = std::min(columns_, nest_.inner() - first);
        columns == 1 ? scan_one<T, maximum>(rows) : scan<T, maximum>(rows, columns);
        if (u % blocks_ == blocks_ - 1) cursor.advance();
      }
    });
  }

  // A NaN comes after everything, and nothing but another one after it.
  template <bool maximum, class R>
  static bool replaces(R value, R best) {
    return (maximum ? value >= best : value <= best) || value != value;
  }

  // From one extreme to the next: between them results only repeat.
  template <class T, bool maximum>
  void scan_one(const Rows<T>& rows) const {
    for (std::int64_t i = 0, next = 0; i < n_; i = next) {
      const T kept = rows.x[i * steps_[0]];
      const auto best = static_cast<Register<T>>(kept);
      const auto ends = [&](std::int64_t k) {
        return replaces<maximum>(static_cast<Register<T>>(rows.x[k * steps_[0]]), best);
      };
      next = i + 1;
      while (next < n_ && !ends(next)) ++next;
      if (rows.values) fill(rows.values, steps_[1], i, next, kept);
      if (rows.indices) fill(rows.indices, steps_[2], i, next, i);
    }
  }
  template <class V>
  static void fill(V* to, std::int64_t step, std::int64_t begin, std::int64_t end, V value) {
    if (step == 1) {
      std::fill(to + begin, to + end, value);
    } else {
      for (std::int64_t i = begin; i < end; ++i) to[i * step] = value;
    }
  }

  template <class T, bool maximum>
  void scan(const Rows<T>& rows, std::int64_t columns) const {
    T kept[kColumns];
    std::int64_t index[kColumns] = {};
    for (std::int64_t c = 0; c < columns; ++c) kept[c] = rows.x[c * nest_.step(0)];
    for (std::int64_t i = 0; i < n_; ++i) {
      const T* from = rows.x + i * steps_[0];
      for (std::int64_t c = 0; c < columns; ++c) {
        const T now = from[c * nest_.step(0)];
        const bool later =
            replaces<maximum>(static_cast<Register<T>>(now), static_cast<Register<T>>(kept[c]));
        kept[c] = later ? now : kept[c];
        index[c] = later ? i : index[c];
      }
      if (rows.values) {
        for (std::int64_t c = 0; c < columns; ++c) rows.values[i * steps_[1] + c * nest_.step(1)] = kept[c];
      }
      if (rows.indices) {
        for (std::int64_t c = 0; c < columns; ++c) rows.indices[i * steps_[2] + c * nest_.step(2)] = index[c];
      }
    }
  }

  DType dtype_;
  bool maximum_;
  Nest nest_;  // of x, values and indices, over the other dimensions
  std::int64_t n_ = 1, steps_[3] = {1, 1, 1}, columns_ = 1, blocks_ = 1, pieces_ = 1;
};

}  // namespace

KernelPtr make_scan_extreme(const KernelRequest& request) { return std::make_unique<ScanExtreme>(request); }

}  // namespace npu::cpu
