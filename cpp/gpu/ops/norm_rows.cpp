#include "gpu/ops/norm_rows.h"

namespace npu::gpu {

namespace {

constexpr std::int64_t kThreadgroupsOfCore = 2;  // an estimate: docs/metal.md, Thresholds
constexpr std::int64_t kVector = 8;              // elements: 16 bytes of a half dtype
constexpr double kFlopsOfElement = 7;

const NormAttrs& norm_attrs(const Request& r) { return std::get<NormAttrs>(r.fused[0]->attrs); }

const TensorDesc& parameter(const Request& r, int k) {
  return r.inputs[r.inputs.size() - 2 + static_cast<std::size_t>(k)];
}

// The step along all elements of a weight or bias, where there is one and it leads forward.
std::optional<std::int64_t> step_of(const TensorDesc& desc) {
  if (!desc.present()) return 0;
  const Nest nest = make_nest(desc.shape, {desc.strides}, false);
  if (nest.rank > 1 || nest.step(0) < 0) return std::nullopt;
  return nest.step(0);
}

// Where rows start in threadgroup memory.
std::int64_t row_step(std::int64_t depth) { return (depth + kVector - 1) / kVector * kVector; }

}  // namespace

std::optional<NormOfRows> norm_of_rows(const Request& r, std::int64_t rows, const MatmulArgs& matmul) {
  const auto weight = step_of(parameter(r, 0)), bias = step_of(parameter(r, 1));
  const std::int64_t step = row_step(matmul.product.depth);
  const std::int64_t bytes = rows * step * static_cast<std::int64_t>(size_of(r.inputs[0].dtype));
  if (!weight || !bias || bytes * kThreadgroupsOfCore > r.caps.threadgroup_bytes) return std::nullopt;
  NormOfRows norm(r);
  norm.rows_ = rows;
  norm.args_.weight_step = *weight;
  norm.args_.bias_step = *bias;
  norm.args_.eps = static_cast<float>(norm_attrs(r).eps);
  norm.args_.row_step = static_cast<std::int32_t>(step);
  return norm;
}

std::string NormOfRows::name() const {
  return norm_attrs(*request_).kind == NormAttrs::Kind::kRms ? "norm[rms]" : "norm[layer]";
}

NormedRowsArgs NormOfRows::args(const MatmulArgs& matmul) const {
  NormedRowsArgs args = args_;
  args.matmul = matmul;
  return args;
}

void NormOfRows::apply(Dispatch& launch) const {
  const DType dtype = request_->inputs[0].dtype;
  launch.threadgroup_bytes =
      static_cast<int>(rows_ * args_.row_step * static_cast<std::int64_t>(size_of(dtype)));
  launch.constant(kFcNormedRowsRms, norm_attrs(*request_).kind == NormAttrs::Kind::kRms);
  for (int k = 0; k < 2; ++k) {
    const TensorDesc& desc = parameter(*request_, k);
    launch.constant(kFcNormedRowsWeight + k, parameter_kind(desc, dtype));
    const int input = static_cast<int>(request_->inputs.size()) - 2 + k;
    if (desc.present()) launch.input(kBufferNormedRowsWeight + k, input, *request_);
  }
}

bool NormOfRows::is_constant() const {
  const auto stays = [&](int k) {
    return !parameter(*request_, k).present() || parameter(*request_, k).constant;
  };
  return stays(0) && stays(1);
}

bool NormOfRows::is_of_vectors() const {
  const TensorDesc &weight = parameter(*request_, 0), &bias = parameter(*request_, 1);
  if (norm_attrs(*request_).kind != NormAttrs::Kind::kRms || bias.present()) return false;
  return !weight.present() ||
         (weight.dtype == request_->inputs[0].dtype && args_.weight_step == 1 && weight.alignment >= 16);
}

double NormOfRows::flops(const GpuKernel& product) const {
  double groups = 1;
  for (const std::uint32_t n : product.dispatches().front().groups) groups *= n;
  return groups * kFlopsOfElement * static_cast<double>(rows_) * args_.row_step;
}

}  // namespace npu::gpu
