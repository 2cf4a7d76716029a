#include "core/geometry/pad.h"

#include <cstring>

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
      for (std::int64_t row = range.begin; row < range.end; ++row) run_row(args, row);
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

  void run_row(const KernelArgs& args, std::int64_t row) const {
    std::int64_t to = 0, from = 0;
    bool inside = true;
    for (std::size_t d = dims_.size() - 1; d-- > 0;) {
      const std::int64_t o = row % dims_[d].out, i = source(dims_[d], o);
      row /= dims_[d].out;
      to += o * dims_[d].y_step;
      from += i * dims_[d].x_step;
      inside = inside && i >= 0;
    }
    const PadDim& d = dims_.back();
    std::byte* y = at(args.outputs[0], to, size_);
    if (!inside) return copy_row(y, d.y_step, fill_, 0, d.out, size_);
    const std::byte* x = at(args.inputs[0], from, size_);
    copy_row(at(y, begin_ * d.y_step, size_), d.y_step, at(x, (begin_ - d.low) * d.x_step, size_), d.x_step,
             end_ - begin_, size_);
    edge(x, y, 0, begin_);
    edge(x, y, end_, d.out);
  }

  void edge(const std::byte* x, std::byte* y, std::int64_t begin, std::int64_t end) const {
    const PadDim& d = dims_.back();
    if (attrs_.kind == PadAttrs::Kind::kConstant) {
      return copy_row(at(y, begin * d.y_step, size_), d.y_step, fill_, 0, end - begin, size_);
    }
    for (std::int64_t o = begin; o < end; ++o) {
      std::memcpy(at(y, o * d.y_step, size_), at(x, source(d, o) * d.x_step, size_), size_);
    }
  }

  PadAttrs attrs_;
  std::size_t size_;
  std::vector<PadDim> dims_;  // the last one is the row
  std::int64_t rows_ = 1, pieces_ = 1;
  std::int64_t begin_ = 0, end_ = 0;  // of the part of a row that is copied
  alignas(8) std::byte fill_[8] = {};
};

}  // namespace

KernelPtr make_pad(const KernelRequest& request) { return std::make_unique<Pad>(request); }

}  // namespace npu::cpu
