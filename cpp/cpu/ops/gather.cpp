#include "cpu/indexed.h"

namespace npu::cpu {

namespace {

class Gather : public HostKernel {
 public:
  Gather(const KernelRequest& r, const GatherAttrs& attrs)
      : indexed_(r, gather_geometry(r, attrs), r.outputs[0], attrs.wrap, 1, true),
        size_(size_of(r.outputs[0].dtype)) {
    const Nest& nest = indexed_.nest();
    const std::int64_t n = nest.inner();
    chunks_ = indexed_.whole_rows() ? 1 : std::max<std::int64_t>(1, (n + kChunk - 1) / kChunk);
    const double cost =
        indexed_.whole_rows() ? 8 + static_cast<double>(n) : 4 * static_cast<double>(std::min(n, kChunk));
    pieces_ = piece_count(nest.rows * chunks_, cost, r.threads);
  }

  std::string name() const override { return indexed_.whole_rows() ? "gather[rows]" : "gather"; }

  void run(const KernelArgs& args, ThreadPool& pool) const override {
    const Nest& nest = indexed_.nest();
    pool.run(pieces_, [&](std::int64_t piece, int) {
      const Range range = split(nest.rows * chunks_, pieces_, piece);
      Cursor cursor(nest, range.begin / chunks_);
      for (std::int64_t u = range.begin; u < range.end; ++u) {
        const std::int64_t chunk = u % chunks_;
        if (indexed_.whole_rows()) {
          copy_row(at(args.outputs[0], cursor.offset[0], size_), nest.step(0),
                   at(args.inputs[0], indexed_.row_offset(args, cursor), size_), nest.step(1), nest.inner(),
                   size_);
        } else {
          pick(args, cursor, chunk * kChunk, std::min(nest.inner(), (chunk + 1) * kChunk));
        }
        if (chunk == chunks_ - 1) cursor.advance();
      }
    });
  }

 private:
  // Elements of a long row that one unit of work takes: some microseconds. 2048 to 32768
  // are level for 20000 rows of 64.
  static constexpr std::int64_t kChunk = 8192;

  void pick(const KernelArgs& args, const Cursor& cursor, std::int64_t first, std::int64_t end) const {
    std::int64_t offsets[Indexed::kBlock];
    const std::int64_t step = indexed_.nest().step(0);
    for (std::int64_t i = first; i < end; i += Indexed::kBlock) {
      const std::int64_t n = std::min(Indexed::kBlock, end - i);
      indexed_.offsets(args, cursor, i, n, offsets);
      visit_size(size_, [&](auto zero) {
        using T = decltype(zero);
        const T* x = static_cast<const T*>(args.inputs[0]);
        T* y = static_cast<T*>(args.outputs[0]) + cursor.offset[0] + i * step;
        for (std::int64_t j = 0; j < n; ++j) y[j * step] = x[offsets[j]];
      });
    }
  }

  Indexed indexed_;
  std::size_t size_;
  std::int64_t chunks_ = 1, pieces_ = 1;
};

}  // namespace

KernelPtr make_gather(const KernelRequest& request) {
  return std::make_unique<Gather>(request, std::get<GatherAttrs>(request.op.attrs));
}

}  // namespace npu::cpu
