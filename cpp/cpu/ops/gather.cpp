#include <cstring>

#include "cpu/indexed.h"

namespace npu::cpu {

namespace {

class Gather : public HostKernel {
 public:
  Gather(const KernelRequest& r, const GatherAttrs& attrs)
      : micro_(&micro()),
        indexed_(r, gather_geometry(r, attrs), r.outputs[0], attrs.wrap, 1, true),
        size_(size_of(r.outputs[0].dtype)),
        outer_(indexed_.nest()) {
    const Nest& nest = indexed_.nest();
    const std::int64_t n = nest.inner();
    chunks_ = indexed_.whole_rows() ? 1 : std::max<std::int64_t>(1, (n + kChunk - 1) / kChunk);
    if (!indexed_.whole_rows() && nest.rank > 1) share_offsets();
    const double cost = indexed_.whole_rows() ? 8 + static_cast<double>(n)
                                              : static_cast<double>((3 + repeats_) * std::min(n, kChunk));
    pieces_ = piece_count(outer_.rows * chunks_, cost, r.threads);
  }

  std::string name() const override { return indexed_.whole_rows() ? "gather[rows]" : "gather"; }

  void run(const KernelArgs& args, ThreadPool& pool) const override {
    pool.run(pieces_, [&](std::int64_t piece, int) {
      const Range range = split(outer_.rows * chunks_, pieces_, piece);
      Cursor cursor(outer_, range.begin / chunks_);
      if (indexed_.whole_rows()) return move_rows(args, cursor, range.end - range.begin);
      for (std::int64_t u = range.begin; u < range.end; ++u) {
        const std::int64_t chunk = u % chunks_;
        pick(args, cursor, chunk * kChunk, std::min(outer_.inner(), (chunk + 1) * kChunk));
        if (chunk == chunks_ - 1) cursor.advance();
      }
    });
  }

 private:
  // Elements of a long row that one unit of work takes: some microseconds. 2048 to 32768
  // are level for 20000 rows of 64.
  static constexpr std::int64_t kChunk = 8192;

  // Rows that take the same elements of their own parts, such as channels of an image, share their offsets.
  void share_offsets() {
    const int d = outer_.rank - 2;
    for (std::size_t k = 2; k < outer_.strides.size(); ++k) {
      if (outer_.strides[k][d] != 0) return;
    }
    repeats_ = outer_.extent[d];
    to_step_ = outer_.strides[0][d];
    from_step_ = outer_.strides[1][d];
    if (repeats_ > 1) outer_.rows /= repeats_;
    outer_.extent[d] = 1;
  }

  static constexpr std::int64_t kShort = 16;  // elements of a row that are not worth a call of their own

  void move_rows(const KernelArgs& args, Cursor& cursor, std::int64_t rows) const {
    const std::int64_t n = outer_.inner(), to = outer_.step(0), from = outer_.step(1);
    const void* const x = args.inputs[0];
    void* const y = args.outputs[0];
    if (n > kShort && to == 1 && from == 1) {
      indexed_.each_row(
          args, cursor, rows,
          [&, bytes = static_cast<std::size_t>(n) * size_](std::int64_t y_at, std::int64_t x_at) {
            std::memcpy(at(y, y_at, size_), at(x, x_at, size_), bytes);
          });
    } else if (n > kShort) {
      indexed_.each_row(args, cursor, rows, [&](std::int64_t y_at, std::int64_t x_at) {
        copy_row(at(y, y_at, size_), to, at(x, x_at, size_), from, n, size_);
      });
    } else {
      visit_size(size_, [&](auto zero) {
        using T = decltype(zero);
        indexed_.each_row(args, cursor, rows, [&](std::int64_t y_at, std::int64_t x_at) {
          for (std::int64_t i = 0; i < n; ++i)
            static_cast<T*>(y)[y_at + i * to] = static_cast<const T*>(x)[x_at + i * from];
        });
      });
    }
  }

  void pick(const KernelArgs& args, const Cursor& cursor, std::int64_t first, std::int64_t end) const {
    std::int64_t offsets[Indexed::kBlock];
    const std::int64_t step = outer_.step(0);
    for (std::int64_t i = first; i < end; i += Indexed::kBlock) {
      const std::int64_t n = std::min(Indexed::kBlock, end - i);
      indexed_.offsets(args, cursor, i, n, offsets);
      for (std::int64_t r = 0; r < repeats_; ++r) {
        pick_block(at(args.inputs[0], r * from_step_, size_), offsets,
                   at(args.outputs[0], cursor.offset[0] + i * step + r * to_step_, size_), n);
      }
    }
  }

  void pick_block(const std::byte* from, const std::int64_t* offsets, std::byte* to, std::int64_t n) const {
    const std::int64_t step = outer_.step(0);
    if (size_ == 4 && step == 1) return micro_->pick_words(from, offsets, to, n);
    visit_size(size_, [&](auto zero) {
      using T = decltype(zero);
      const T* x = reinterpret_cast<const T*>(from);
      T* y = reinterpret_cast<T*>(to);
      for (std::int64_t j = 0; j < n; ++j) y[j * step] = x[offsets[j]];
    });
  }

  const Micro* micro_;
  Indexed indexed_;
  std::size_t size_;
  Nest outer_;  // that of `indexed_`, where rows share offsets without the dimension that tells them apart
  std::int64_t repeats_ = 1, to_step_ = 0, from_step_ = 0;
  std::int64_t chunks_ = 1, pieces_ = 1;
};

}  // namespace

KernelPtr make_gather(const KernelRequest& request) {
  return std::make_unique<Gather>(request, std::get<GatherAttrs>(request.op.attrs));
}

}  // namespace npu::cpu
