#include "cpu/element.h"
#include "cpu/ops/ops.h"
#include "cpu/strided.h"

namespace npu::cpu {

namespace {

class Iota : public HostKernel {
 public:
  explicit Iota(const KernelRequest& r) : attrs_(std::get<IotaAttrs>(r.op.attrs)), y_(r.outputs[0]) {}
  std::string name() const override { return "iota"; }

  void run(const KernelArgs& args, ThreadPool&) const override {
    const std::int64_t n = product(y_.shape), step = y_.strides.empty() ? 1 : y_.strides[0];
    visit_dtype(y_.dtype, [&](auto zero) {
      using T = decltype(zero);
      T* y = static_cast<T*>(args.outputs[0]);
      if constexpr (kIsFloat<T>) {
        for (std::int64_t i = 0; i < n; ++i) {
          y[i * step] =
              static_cast<T>(static_cast<float>(attrs_.start + static_cast<double>(i) * attrs_.step));
        }
      } else {
        const auto start = static_cast<std::int64_t>(attrs_.start),
                   each = static_cast<std::int64_t>(attrs_.step);
        for (std::int64_t i = 0; i < n; ++i) y[i * step] = static_cast<T>(start + i * each);
      }
    });
  }

 private:
  IotaAttrs attrs_;
  TensorDesc y_;
};

}  // namespace

KernelPtr make_iota(const KernelRequest& request) { return std::make_unique<Iota>(request); }

}  // namespace npu::cpu
