#include "core/plan/fusion_rules.h"

#include <algorithm>
#include <functional>
#include <numeric>

namespace npu {

namespace {

// The step from one element to the next over some dimensions, where all steps are alike.
std::optional<std::int64_t> even_step(const Operand& x, std::size_t first, std::size_t end) {
  std::int64_t step = 0, whole = 0;  // whole: the step of the dimension before
  for (std::size_t d = end; d-- > first;) {
    if (x.shape[d] == 1) continue;
    if (whole == 0) {
      step = x.strides[d];
    } else if (x.strides[d] != whole) {
      return std::nullopt;
    }
    if (step == 0) return std::nullopt;
    whole = x.strides[d] * x.shape[d];
  }
  return step;
}

// What `rows`, a view of what the norm makes, would be of what it reads.
std::optional<Operand> before_norm(const Op& norm, const Operand& rows) {
  const auto& attrs = std::get<NormAttrs>(norm.attrs);
  const Operand& x = norm.inputs[0];
  const std::size_t rank = x.shape.size(), head = rank - static_cast<std::size_t>(attrs.axes);
  std::int64_t n = 1;
  for (std::size_t d = head; d < rank; ++d) n *= x.shape[d];
  const auto row_step = even_step(x, 0, head), step = even_step(x, head, rank);
  if (n <= 1 || !row_step || !step) return std::nullopt;
  if (rows.shape.back() != n || rows.strides.back() != 1 || rows.offset % n != 0 || !rows.extents.empty())
    return std::nullopt;
  Operand result;
  result.value = x.value;
  result.shape = rows.shape;
  result.whole = false;
  result.offset = x.offset + rows.offset / n * *row_step;
  for (std::size_t d = 0; d + 1 < rows.shape.size(); ++d) {
    if (rows.shape[d] == 0 || rows.strides[d] % n != 0) return std::nullopt;
    result.strides.push_back(rows.strides[d] / n * *row_step);
  }
  result.strides.push_back(*step);
  return result;
}

// A layer or RMS norm whose rows a product multiplies: the product normalises them as it reads them.
std::optional<Op> join_norm_and_product(const Op& norm, const Op& product) {
  if (std::get<NormAttrs>(norm.attrs).kind == NormAttrs::Kind::kGroup) return std::nullopt;
  if (product.inputs[0].value != norm.outputs[0].value) return std::nullopt;
  const auto rows = before_norm(norm, product.inputs[0]);
  if (!rows) return std::nullopt;
  Op op = product;
  op.inputs[0] = *rows;
  const std::size_t own = std::max(op.inputs.size(), static_cast<std::size_t>(info_of(op.kind).expr_operand));
  op.inputs.resize(own + 2);
  for (std::size_t k = 1; k < norm.inputs.size(); ++k) op.inputs[own + k - 1] = norm.inputs[k];
  return op;
}

// A reduction of all that a map gives: it computes the elements as it reads them.
std::optional<Op> join_map_and_reduce(const Op& map, const Op& reduce) {
  const Operand& x = reduce.inputs[0];
  if (x.value != map.outputs[0].value) return std::nullopt;
  Op op = reduce;
  op.inputs = map.inputs;
  if (x.whole && x.shape == map.outputs[0].shape) return op;
  // All of it as one dimension.
  const std::vector<std::int64_t>& from = map.outputs[0].shape;
  const auto product = [](const Shape& shape) {
    return std::accumulate(shape.begin(), shape.end(), std::int64_t{1}, std::multiplies<>());
  };
  if (x.shape.size() != 1 || x.shape[0] != product(from) || x.strides[0] != 1 || x.offset != 0)
    return std::nullopt;
  for (Operand& in : op.inputs) {
    const bool same =
        std::all_of(in.strides.begin(), in.strides.end(), [](std::int64_t s) { return s == 0; });
    const auto step = same ? std::optional<std::int64_t>(0) : even_step(in, 0, from.size());
    if (!step) return std::nullopt;
    in.whole = false;
    in.shape = x.shape;
    in.strides = {*step};
  }
  return op;
}

constexpr FusionRule kRules[] = {
    {OpKind::kMap, OpKind::kReduce, join_map_and_reduce},
    {OpKind::kNorm, OpKind::kMatmul, join_norm_and_product},
};

}  // namespace

std::span<const FusionRule> fusion_rules() { return kRules; }

}  // namespace npu
