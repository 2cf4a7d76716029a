#include "cpu/indexed.h"

namespace npu::cpu {

namespace {

using Kind = ScatterAttrs::Kind;

template <class R>
R combined(Kind kind, R old, R update) {
  if constexpr (std::is_same_v<R, bool>) {
    if (kind == Kind::kSet) return update;
    return kind == Kind::kAdd || kind == Kind::kMax ? old || update : old && update;
  } else {
    if (old != old || update != update) return kind == Kind::kSet ? update : old + update;  // NaN
    switch (kind) {
      case Kind::kAdd:
        if constexpr (std::is_same_v<R, float>) return old + update;
        return static_cast<R>(static_cast<std::uint64_t>(old) + static_cast<std::uint64_t>(update));
      case Kind::kMul:
        if constexpr (std::is_same_v<R, float>) return old * update;
        return static_cast<R>(static_cast<std::uint64_t>(old) * static_cast<std::uint64_t>(update));
      case Kind::kMax:
        return std::max(old, update);
      case Kind::kMin:
        return std::min(old, update);
      case Kind::kSet:
        break;
    }
    return update;
  }
}

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
    for (std::int64_t row = 0; row < nest.rows; ++row, cursor.advance()) {
      if (indexed_.whole_rows()) {
        put_row(args, cursor, indexed_.row_offset(args, cursor));
      } else {
        put(args, cursor);
      }
    }
  }

 private:
  void put_row(const KernelArgs& args, const Cursor& cursor, std::int64_t offset) const {
    const Nest& nest = indexed_.nest();
    const std::int64_t n = nest.inner(), from = nest.step(0), to = nest.step(1);
    const auto* update = at(args.inputs[1], cursor.offset[0], size_);
    auto* out = at(args.outputs[0], offset, size_);
    if (kind_ == Kind::kSet) return copy_row(out, to, update, from, n, size_);
    if (kind_ == Kind::kAdd && dtype_ == DType::kFloat32 && from == 1 && to == 1) {
      return micro_->add_into(reinterpret_cast<const float*>(update), reinterpret_cast<float*>(out), n);
    }
    if (is_float(dtype_) && from == 1 && to == 1) return combine_row(update, out, n);
    visit_dtype(dtype_, [&](auto zero) {
      using T = decltype(zero);
      const T* u = reinterpret_cast<const T*>(update);
      T* y = reinterpret_cast<T*>(out);
      for (std::int64_t i = 0; i < n; ++i) {
        y[i * to] = static_cast<T>(combined<Register<T>>(kind_, y[i * to], u[i * from]));
      }
    });
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
      if (kind_ == Kind::kAdd && dtype_ == DType::kFloat32) {
        const float* u = static_cast<const float*>(args.inputs[1]) + cursor.offset[0] + i * step;
        float* y = static_cast<float*>(args.outputs[0]);
        for (std::int64_t j = 0; j < n; ++j) y[offsets[j]] += u[j * step];
        continue;
      }
      visit_dtype(dtype_, [&](auto zero) {
        using T = decltype(zero);
        const T* u = static_cast<const T*>(args.inputs[1]) + cursor.offset[0] + i * step;
        T* y = static_cast<T*>(args.outputs[0]);
        for (std::int64_t j = 0; j < n; ++j) {
          y[offsets[j]] = kind_ == Kind::kSet
                              ? u[j * step]
                              : static_cast<T>(combined<Register<T>>(kind_, y[offsets[j]], u[j * step]));
        }
      });
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
