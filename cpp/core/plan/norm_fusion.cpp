#include "core/plan/norm_fusion.h"

#include <algorithm>
#include <optional>

#include "core/plan/layout.h"

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
  Operand made;
  made.value = x.value;
  made.shape = rows.shape;
  made.whole = false;
  made.offset = x.offset + rows.offset / n * *row_step;
  for (std::size_t d = 0; d + 1 < rows.shape.size(); ++d) {
    if (rows.shape[d] == 0 || rows.strides[d] % n != 0) return std::nullopt;
    made.strides.push_back(rows.strides[d] / n * *row_step);
  }
  made.strides.push_back(*step);
  return made;
}

// How often each value is read, and which ones are written in place during the run.
struct Uses {
  explicit Uses(const ProgramModel& program)
      : reads(program.values.size()), kept(program.values.size(), true) {
    for (const Op& op : program.main) {
      for (const Operand& in : op.inputs) {
        if (in.present()) ++reads[static_cast<std::size_t>(in.value)];
      }
    }
    for (const ProgramOutput& output : program.outputs) {
      ++reads[static_cast<std::size_t>(output.value)];
      if (output.alias < 0) continue;
      kept[static_cast<std::size_t>(program.inputs[static_cast<std::size_t>(output.alias)].value)] = false;
    }
  }
  std::vector<int> reads;
  std::vector<bool> kept;
};

bool may_wait(const Op& op, const Uses& uses) {
  if (op.kind != OpKind::kNorm || std::get<NormAttrs>(op.attrs).kind == NormAttrs::Kind::kGroup) return false;
  const Operand& out = op.outputs[0];
  if (!out.whole || !out.extents.empty() || uses.reads[static_cast<std::size_t>(out.value)] != 1)
    return false;
  return std::all_of(op.inputs.begin(), op.inputs.end(), [&](const Operand& in) {
    return !in.present() || (uses.kept[static_cast<std::size_t>(in.value)] && in.extents.empty());
  });
}

}  // namespace

std::vector<int> norms_of_products(const ProgramModel& program) {
  const Uses uses(program);
  std::vector<int> norm_of(program.values.size(), -1), found(program.main.size(), -1);
  for (std::size_t i = 0; i < program.main.size(); ++i) {
    const Op& op = program.main[i];
    if (may_wait(op, uses)) norm_of[static_cast<std::size_t>(op.outputs[0].value)] = static_cast<int>(i);
    if (op.kind != OpKind::kMatmul) continue;
    const int norm = norm_of[static_cast<std::size_t>(op.inputs[0].value)];
    if (norm >= 0 && before_norm(program.main[static_cast<std::size_t>(norm)], op.inputs[0])) found[i] = norm;
  }
  return found;
}

Op with_norm(const Op& norm, const Op& product) {
  Op op = product;
  op.inputs[0] = *before_norm(norm, product.inputs[0]);
  const std::size_t own = std::max<std::size_t>(op.inputs.size(), 3);
  op.inputs.resize(own + 2);
  for (std::size_t k = 1; k < norm.inputs.size(); ++k) op.inputs[own + k - 1] = norm.inputs[k];
  return op;
}

}  // namespace npu
