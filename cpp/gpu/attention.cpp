// Chooses how attention is computed.
#include <algorithm>

#include "launch.h"
#include "ops.h"

namespace npu::gpu {

namespace {

enum Input : std::uint8_t { kQ, kK, kV, kMask, kInputs };

void take_steps(std::int64_t (&steps)[4], const TensorDesc& operand) {
  if (operand.present()) std::copy(operand.strides.begin(), operand.strides.end(), steps);
}

AttentionArgs arguments(const Request& r) {
  const TensorDesc &q = r.inputs[kQ], &k = r.inputs[kK], &v = r.inputs[kV];
  AttentionArgs args{};
  take_steps(args.q_step, q);
  take_steps(args.k_step, k);
  take_steps(args.v_step, v);
  take_steps(args.mask_step, r.inputs[kMask]);
  take_steps(args.out_step, r.outputs[0]);
  args.groups = count32(r.op, k.shape[1]);
  args.batch = count32(r.op, q.shape[0]);
  args.shared = count32(r.op, q.shape[1] / k.shape[1]);
  args.rows = count32(r.op, q.shape[2]);
  args.length = count32(r.op, k.shape[2]);
  args.width = count32(r.op, q.shape[3]);
  args.value_width = count32(r.op, v.shape[3]);
  args.splits = 1;
  args.scale = static_cast<float>(std::get<AttentionAttrs>(r.op.attrs).scale);
  return args;
}

// As metal/attention.h counts them.
std::int32_t mask_kind(const Request& r) {
  const TensorDesc& mask = r.inputs[kMask];
  if (!mask.present()) return 0;
  return mask.dtype == DType::kBool ? 1 : mask.dtype == DType::kFloat32 ? 2 : 3;
}

class Maker {
 public:
  explicit Maker(const Request& r) : r_(r), args_(arguments(r)) {}

  Made make() {
    auto kernel = std::make_unique<GpuKernel>("attention[any]");
    add_any(*kernel);
    const double products =
        static_cast<double>(r_.inputs[kK].shape[2]) * static_cast<double>(args_.width + args_.value_width);
    kernel->set_cost(2.0 * products * args_.batch * args_.groups * args_.shared * args_.rows);
    return kernel;
  }

 private:
  Dispatch launch_of(std::string_view library, const std::string& function) const {
    const auto& attrs = std::get<AttentionAttrs>(r_.op.attrs);
    Dispatch launch(library, function);
    launch.with(args_).constant(0, mask_kind(r_)).constant(1, attrs.causal);
    launch.constant(2, attrs.masked_rows == AttentionAttrs::MaskedRows::kNan);
    return launch.input(1, kQ, r_).input(2, kK, r_).input(3, kV, r_).input(4, kMask, r_);
  }

  std::int64_t shared_rows() const { return std::int64_t{args_.rows} * args_.shared; }
  std::uint32_t groups() const {
    return static_cast<std::uint32_t>(count32(r_.op, std::int64_t{args_.batch} * args_.groups));
  }

  void add_any(GpuKernel& kernel) const {
    constexpr std::uint32_t kSimdgroups = 4, kPartOfRow = 256;
    Dispatch launch = launch_of("attention_rows", function_name("attention_any", r_.inputs[kQ].dtype));
    launch.output(5, 0, r_).grid({ceil_div(count32(r_.op, shared_rows()), kSimdgroups),
                                  ceil_div(args_.value_width, kPartOfRow), groups()},
                                 {32 * kSimdgroups, 1, 1});
    kernel.add(std::move(launch));
  }

  const Request& r_;
  AttentionArgs args_;
};

}  // namespace

Made make_attention(const Request& request) {
  Request r = request;
  r.inputs.resize(kInputs);
  if (r.outputs[0].elements() == 0) return std::make_unique<GpuKernel>("attention");
  return Maker(r).make();
}

}  // namespace npu::gpu
