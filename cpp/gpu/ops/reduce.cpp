#include "core/geometry/reduce.h"

#include "gpu/ops/launch.h"
#include "gpu/ops/ops.h"

namespace npu::gpu {

namespace {

using Kind = ReduceAttrs::Kind;
static_assert(static_cast<int>(Kind::kSum) == static_cast<int>(ReduceKind::kSum) &&
              static_cast<int>(Kind::kStd) == static_cast<int>(ReduceKind::kStd));

constexpr std::uint32_t kRowsOfGroup = 4;  // of a simdgroup each

struct Plan : ReduceCut {
  std::int64_t parts = 1, part = 0;  // how many, and elements of one
  const char* kernel = "reduce_lanes";
  Size groups{}, threads{};
};

// Cuts results into parts until there are as many threads as keep the device busy, or parts are short.
void cut_parts(Plan& p, std::int64_t threads, std::int64_t wanted, std::int64_t shortest) {
  std::int64_t parts =
      std::min(ceil_div(wanted, std::max<std::int64_t>(threads, 1)), ceil_div(p.elements, shortest));
  constexpr std::int64_t kMostParts = 1024;  // an estimate: docs/metal.md, Thresholds
  parts = std::clamp<std::int64_t>(parts, 1, kMostParts);
  p.part = std::max<std::int64_t>((ceil_div(p.elements, parts) + 3) / 4 * 4, 4);
  p.parts = std::max<std::int64_t>(ceil_div(p.elements, p.part), 1);
}

void by_columns(Plan& p, std::int64_t wanted) {
  constexpr std::int64_t kShortest = 8;  // elements of a simdgroup; an estimate: docs/metal.md, Thresholds
  p.kernel = "reduce_columns";
  const std::int64_t lanes = std::int64_t{ceil_div(p.results, kSimd)} * kSimd;
  std::int64_t simdgroups = 1;
  while (simdgroups < kMostReduceSimdgroups && lanes * simdgroups < wanted &&
         p.elements >= 2 * simdgroups * kShortest)
    simdgroups *= 2;
  cut_parts(p, lanes * simdgroups, wanted, simdgroups * 4 * kShortest);
  p.groups = {ceil_div(p.results, kSimd), static_cast<std::uint32_t>(p.parts), 1};
  p.threads = {kSimd * static_cast<std::uint32_t>(simdgroups), 1, 1};
}

void by_rows(Plan& p, std::int64_t wanted) {
  constexpr std::int64_t kThreads = 256;
  constexpr std::int64_t kShort = 1024, kShortest = 4096;  // an estimate: docs/metal.md, Thresholds
  if (p.elements <= kShort || (p.results * kSimd >= wanted && p.elements <= 4 * kShort)) {
    p.kernel = "reduce_lanes";
    p.part = p.elements;
    p.groups = {ceil_div(p.results, kRowsOfGroup), 1, 1};
    p.threads = {kSimd * kRowsOfGroup, 1, 1};
    return;
  }
  p.kernel = "reduce_group";
  cut_parts(p, p.results * kThreads, wanted, kShortest);
  p.groups = {static_cast<std::uint32_t>(p.results), static_cast<std::uint32_t>(p.parts), 1};
  p.threads = {kThreads, 1, 1};
}

void choose(Plan& p, const Caps& caps) {
  constexpr std::int64_t kThreadsOfCore = 1024, kFew = 16;  // an estimate: docs/metal.md, Thresholds
  const std::int64_t wanted = kThreadsOfCore * caps.cores;
  const bool columns = in_columns(p.kept, p.reduced.step(0));
  columns || p.elements <= kFew ? by_columns(p, wanted) : by_rows(p, wanted);
}

bool is_variance(Kind kind) { return kind == Kind::kVar || kind == Kind::kStd; }

// What a kernel carries for a result, in bytes.
std::int64_t carried(Kind kind, DType dtype) {
  if (is_variance(kind)) return kVarianceBytes;
  if (kind != Kind::kArgmax && kind != Kind::kArgmin) return kTotalBytes;
  return is_float(dtype) ? kCandidateBytes : kWideCandidateBytes;
}

}  // namespace

KernelPtr make_reduce(const Request& r) {
  if (!r.fused.empty()) return nullptr;
  static constexpr const char* kNames[] = {"sum", "mean",   "prod",   "max", "min", "any",
                                           "all", "argmax", "argmin", "var", "std"};
  const auto& attrs = std::get<ReduceAttrs>(r.op.attrs);
  const TensorDesc &x = r.inputs[0], &y = r.outputs[0];
  auto kernel =
      std::make_unique<GpuKernel>(std::string("reduce[") + kNames[static_cast<int>(attrs.kind)] + "]");
  Plan p{cut_reduce(attrs.axes, y, x)};
  if (p.results == 0) return kernel;
  if (p.elements == 0) p.reduced = make_nest({}, {{}});  // kernels divide by its extents
  choose(p, r.caps);

  ReduceArgs args{};
  args.kept = nest_of<2>(r.op, p.kept);
  args.reduced = nest_of<1>(r.op, p.reduced);
  args.results = count32(r.op, p.results);
  args.count = count32(r.op, p.elements);
  args.part = count32(r.op, p.part);
  args.divisor = static_cast<float>(std::max(static_cast<double>(p.elements) - attrs.correction, 0.0));
  const bool position = attrs.kind == Kind::kArgmax || attrs.kind == Kind::kArgmin;
  const std::string fold = is_variance(attrs.kind) ? "_variance" : position ? "_position" : "_total";
  const auto launch = [&](const std::string& name, bool parts) {
    Dispatch dispatch("reduce", function_name(name + fold, x.dtype));
    dispatch.with(args).constant(kFcReduceKind, static_cast<std::int32_t>(attrs.kind));
    dispatch.constant(kFcReduceParts, parts);
    return dispatch.constant(kFcReduceDense, p.reduced.rank == 1 && dense(p.reduced, 0) && is_float(x.dtype));
  };
  const std::int64_t bytes = p.parts * p.results * carried(attrs.kind, x.dtype);
  Dispatch first = launch(p.kernel, p.parts > 1);
  first.input(kBufferX, 0, r).grid(p.groups, p.threads);
  p.parts > 1 ? first.scratch(kBufferReduceParts, 0, bytes, false, true) : first.output(kBufferY, 0, r);
  kernel->add(std::move(first));
  if (p.parts > 1) {
    args.part = static_cast<std::int32_t>(p.parts);
    Dispatch second = launch("reduce_parts", false);
    second.scratch(kBufferReduceParts, 0, bytes, true, false).output(kBufferY, 0, r);
    kernel->add(
        std::move(second.grid({ceil_div(p.results, kRowsOfGroup), 1, 1}, {kSimd * kRowsOfGroup, 1, 1})));
    kernel->set_scratch(bytes);
  }
  kernel->set_cost(static_cast<double>(p.results * p.elements));
  return kernel;
}

}  // namespace npu::gpu
