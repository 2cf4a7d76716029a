#include "cpu/indexed.h"

namespace npu::cpu {

namespace {

using Kind = ScatterAttrs::Kind;

// Updates are applied one after the other: their order matters where they meet.
class Scatter : public HostKernel {
 public:
  Scatter(const KernelRequest& r, const ScatterAttrs& attrs)
      : micro_(&micro()),
        kind_(attrs.kind),
        dtype_(r.outputs[0].dtype),
        size_(size_of(dtype_)),
        indexed_(r, scatter_geometry(r, attrs), r.inputs[1], attrs.wrap, 2, false),
        copy_(r.outputs[0].shape, r.outputs[0].strides, r.inputs[0].strides, size_, r.threads) {}

  std::string name() const override {
    static constexpr const char* kNames[] = {"scatter[set]", "scatter[add]", "scatter[mul]", "scatter[max]",
                                             "scatter[min]"};
    return kNames[static_cast<int>(kind_)];
  }

  void run(const KernelArgs& args, ThreadPool& pool) const override {
    if (args.outputs[0] != args.inputs[0]) copy_.run(args.outputs[0], args.inputs[0], pool);
    const Nest& nest = indexed_.nest();
    if (nest.rows == 0) return;
    Cursor cursor(nest, 0);
    if (indexed_.whole_rows()) {
      return indexed_.each_row(args, cursor, nest.rows, [&](std::int64_t update, std::int64_t offset) {
        put_row(args, update, offset);
      });
    }
    for (std::int64_t row = 0; row < nest.rows; ++row, cursor.advance()) put(args, cursor);
  }

 private:
  void put_row(const KernelArgs& args, std::int64_t update_at, std::int64_t offset) const {
    const Nest& nest = indexed_.nest();
    const std::int64_t n = nest.inner(), from = nest.step(0), to = nest.step(1);
    const auto* update = at(args.inputs[1], update_at, size_);
    auto* out = at(args.outputs[0], offset, size_);
    if (kind_ == Kind::kSet) return copy_row(out, to, update, from, n, size_);
    if (kind_ == Kind::kAdd && dtype_ == DType::kFloat32 && from == 1 && to == 1) {
      return micro_->add_into(reinterpret_cast<const float*>(update), reinterpret_cast<float*>(out), n);
    }
    if (is_float(dtype_) && from == 1 && to == 1) return combine_row(update, out, n);
    micro_->scatter(
        {.kind = kind_, .dtype = dtype_, .updates = update, .step = from, .y = out, .y_step = to, .n = n});
  }

  void combine_row(const std::byte* update, std::byte* out, std::int64_t n) const {
    static constexpr ExprOp kOps[] = {ExprOp::kIn, ExprOp::kAdd, ExprOp::kMul, ExprOp::kMax, ExprOp::kMin};
    const ExprOp op = kOps[static_cast<int>(kind_)];
    float a[Indexed::kBlock], b[Indexed::kBlock];
    for (std::int64_t i = 0; i < n; i += Indexed::kBlock) {
      const std::int64_t m = std::min(Indexed::kBlock, n - i);
      std::byte* const to = at(out, i, size_);
      load_floats(*micro_, dtype_, to, 1, m, a);
      load_floats(*micro_, dtype_, at(update, i, size_), 1, m, b);
      micro_->binary(op, a, b, a, m);
      store_floats(*micro_, dtype_, a, to, 1, m);
    }
  }

  void put(const KernelArgs& args, const Cursor& cursor) const {
    std::int64_t offsets[Indexed::kBlock];
    const Nest& nest = indexed_.nest();
    const std::int64_t step = nest.step(0);
    for (std::int64_t i = 0; i < nest.inner(); i += Indexed::kBlock) {
      const std::int64_t n = std::min(Indexed::kBlock, nest.inner() - i);
      indexed_.offsets(args, cursor, i, n, offsets);
      micro_->scatter({.kind = kind_,
                       .dtype = dtype_,
                       .updates = at(args.inputs[1], cursor.offset[0] + i * step, size_),
                       .step = step,
                       .y = args.outputs[0],
                       .offsets = offsets,
                       .n = n});
    }
  }

  const Micro* micro_;
  Kind kind_;
  DType dtype_;
  std::size_t size_;
  Indexed indexed_;
  StridedCopy copy_;
};

}  // namespace

KernelPtr make_scatter(const KernelRequest& request) {
  return std::make_unique<Scatter>(request, std::get<ScatterAttrs>(request.op.attrs));
}

}  // namespace npu::cpu
