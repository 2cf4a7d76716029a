#include "cpu/ops/row_results.h"

namespace npu::cpu {

std::vector<Range> RowResults::pieces(double bytes) const {
  // Of weights that are worth a piece: a few microseconds of reading.
  constexpr double kLeastBytes = 65536;
  constexpr double kFewProducts = 30000;  // a few microseconds: not worth waking threads
  const std::int64_t groups = (g_.columns + kGroup - 1) / kGroup;
  const bool shared = flops() / 2 > kFewProducts && r_.threads > 1;
  const double group_bytes = static_cast<double>(kGroup * sums_per_result()) * bytes;
  const auto least = static_cast<std::int64_t>(kLeastBytes / std::max(group_bytes, 1.0));
  return tapered(groups, shared ? least : groups, shared ? r_.threads : 1);
}

void RowResults::finish(const KernelArgs& args, std::int64_t batch, std::int64_t column, std::int64_t n,
                        float* sums) const {
  for (std::int64_t i = 0; i < g_.rows; ++i) {
    finish_row(args, batch * g_.rows + i, column, n, sums + i * sums_stride(),
               sums + g_.rows * sums_stride());
  }
}

void RowResults::finish_row(const KernelArgs& args, std::int64_t row, std::int64_t column, std::int64_t n,
                            float* sums, float* buffer) const {
  const TensorDesc &out = r_.outputs[0], &bias = r_.inputs[2];
  const std::size_t last = g_.rank - 1;
  for (std::int64_t half = 0; half < epilogue_.sums_per_result() && args.inputs[2]; ++half) {
    const std::int64_t at =
        row_offset(out.shape, bias.strides, row) + (half * g_.columns + column) * bias.strides[last];
    load_row(bias.dtype, element(args.inputs[2], bias.dtype, at), bias.strides[last], buffer, n);
    micro_->add_into(buffer, sums + half * kChunk, n);
  }
  const void* pointers[kMaxExtras] = {};
  const auto& extras = epilogue_.extras();
  for (std::size_t k = 0; k < extras.size(); ++k) {
    const std::int64_t at = row_offset(out.shape, extras[k].strides, row) + column * extras[k].strides[last];
    pointers[k] = element(args.inputs[first_extra(OpKind::kMatmul) + k], extras[k].dtype, at);
  }
  void* const to = element(args.outputs[0], out.dtype,
                           row_offset(out.shape, out.strides, row) + column * out.strides[last]);
  if (!epilogue_.in_tile()) {
    return epilogue_.run(sums, kChunk, n, pointers, to, reinterpret_cast<std::byte*>(buffer + kChunk));
  }
  if (epilogue_.residual() >= 0)
    micro_->add_into(static_cast<const float*>(pointers[epilogue_.residual()]), sums, n);
  epilogue_.apply_limits(sums, n);
  epilogue_.apply_function(sums, n, 1, n, pointers);
  store_row(out.dtype, sums, to, out.strides[last], n);
}

}  // namespace npu::cpu
