#include "gpu/ops/sort.h"

#include <bit>

#include "core/geometry/axis.h"
namespace npu::gpu {

namespace {

std::int64_t block_of(std::int64_t n, std::int64_t most) {
  const auto room = std::bit_ceil(static_cast<std::uint64_t>(std::max<std::int64_t>(n, 2)));
  return std::min(most, static_cast<std::int64_t>(room));
}

Dispatch& over_blocks(Dispatch& launch, const SortArgs& args) {
  const auto threads = static_cast<std::uint32_t>(std::clamp<std::int32_t>(args.run / 2, kSimd, 1024));
  return launch.grid({ceil_div(args.n, args.run), static_cast<std::uint32_t>(args.count), 1},
                     {threads, 1, 1});
}

Dispatch& over_merged(Dispatch& launch, const SortArgs& args) {
  return over_rows(launch, ceil_div(args.n, kSortMerged), args.count);
}

// Where a launch takes items from, and where it puts them: x, one of two lists in scratch, or the results.
struct Round {
  const char* kernel;
  int from = -1, to = -1;  // lists in scratch; -1: x, the results
};

class Ordered {
 public:
  Ordered(const Request& r, std::int64_t axis, bool descending, std::int64_t count, const char* name)
      : r_(r), descending_(descending), kernel_(std::make_unique<GpuKernel>(name)) {
    const auto [n, steps, rows] = cut_axis(axis, {&r.inputs[0], &r.outputs[0], &r.outputs[1]});
    args_.rows = nest_of<3>(r.op, rows);
    args_.count = count32(r.op, rows.elements());
    args_.x_step = steps[0];
    args_.values_step = steps[1];
    args_.indices_step = steps[2];
    n_ = count32(r.op, n);
    count_ = std::min(count, n_);
    const bool wide = r.inputs[0].dtype == DType::kInt64;
    item_ = wide ? kSortWideItemBytes : kSortItemBytes;
    most_ = wide ? kSortWideBlock : kSortBlock;
  }

  KernelPtr make() {
    if (args_.count == 0 || count_ == 0) return std::move(kernel_);
    kernel_->set_cost(static_cast<double>(args_.count) * static_cast<double>(n_) *
                      std::bit_width(static_cast<std::uint64_t>(n_)));
    if (n_ <= most_) {
      add_blocks({"sort_blocks"}, n_, count_);
    } else if (count_ <= most_ / 4) {
      select();
    } else {
      merge();
    }
    return std::move(kernel_);
  }

 private:
  // Only the first of each block go on, until there is one block.
  void select() {
    list_bytes_ = item_ * args_.count * ((n_ + most_ - 1) / most_) * count_;
    std::int64_t n = n_;
    int from = -1;
    while (n > most_) {
      const int to = from == 0 ? 1 : 0;
      add_blocks({"sort_blocks", from, to}, n, count_);
      n = (n + most_ - 1) / most_ * count_;
      from = to;
    }
    add_blocks({"sort_blocks", from, -1}, n, count_);
  }

  void merge() {
    list_bytes_ = item_ * args_.count * n_;
    add_blocks({"sort_blocks", -1, 0}, n_, most_);
    int from = 0;
    for (std::int64_t run = most_; run < n_; run *= 2, from = 1 - from) {
      args_.run = static_cast<std::int32_t>(run);
      Dispatch launch = begin({"sort_merge", from, 1 - from});
      over_merged(launch, args_);
      kernel_->add(std::move(launch));
    }
    args_.keep = static_cast<std::int32_t>(count_);
    Dispatch launch = begin({"sort_finish", from, -1});
    over_rows(launch, count_, args_.count);
    kernel_->add(std::move(launch));
  }

  void add_blocks(const Round& round, std::int64_t n, std::int64_t keep) {
    const std::int64_t run = block_of(n, most_);
    args_.n = static_cast<std::int32_t>(n);
    args_.run = static_cast<std::int32_t>(run);
    args_.keep = static_cast<std::int32_t>(std::min(keep, run));
    Dispatch launch = begin(round);
    over_blocks(launch, args_);
    kernel_->add(std::move(launch));
  }

  Dispatch begin(const Round& round) {
    const bool values = r_.outputs[0].present(), indices = r_.outputs[1].present();
    Dispatch launch("sort", function_name(round.kernel, r_.inputs[0].dtype));
    launch.with(args_).constant(kFcSortDescending, descending_);
    launch.constant(kFcSortHasValues, values).constant(kFcSortHasIndices, indices);
    launch.constant(kFcSortFirst, round.from < 0).constant(kFcSortLast, round.to < 0);
    if (round.from < 0 || (round.to < 0 && values)) launch.input(kBufferX, 0, r_);
    if (round.to < 0 && values) launch.output(kBufferSortValues, 0, r_);
    if (round.to < 0 && indices) launch.output(kBufferSortIndices, 1, r_);
    if (round.from >= 0) launch.scratch(kBufferSortFrom, round.from * list_bytes_, list_bytes_, true, false);
    if (round.to >= 0) launch.scratch(kBufferSortTo, round.to * list_bytes_, list_bytes_, false, true);
    kernel_->set_scratch(2 * list_bytes_);
    return launch;
  }

  const Request& r_;
  bool descending_;
  KernelPtr kernel_;
  SortArgs args_{};
  std::int64_t n_ = 1, count_ = 0, item_ = 8, most_ = 0, list_bytes_ = 0;
};

}  // namespace

KernelPtr make_ordered(const Request& request, std::int64_t axis, bool descending, std::int64_t count,
                       const char* name) {
  Request r = request;
  r.outputs.resize(2);
  return Ordered(r, axis, descending, count, name).make();
}

int add_item_sort(GpuKernel& kernel, std::int64_t rows, std::int64_t n) {
  const std::int64_t bytes = kSortWideItemBytes * rows * n;
  SortArgs args{};
  args.n = static_cast<std::int32_t>(n);
  args.count = static_cast<std::int32_t>(rows);
  args.run = args.keep = static_cast<std::int32_t>(block_of(n, kSortWideBlock));
  int current = 0;
  const auto launch = [&](const char* name) {
    Dispatch dispatch("sort", name);
    dispatch.with(args);
    for (int fc = kFcSortDescending; fc <= kFcSortLast; ++fc) dispatch.constant(fc, false);
    dispatch.scratch(kBufferSortFrom, current * bytes, bytes, true, false);
    dispatch.scratch(kBufferSortTo, (1 - current) * bytes, bytes, false, true);
    current = 1 - current;
    return dispatch;
  };
  Dispatch blocks = launch("sort_blocks_long");
  kernel.add(std::move(over_blocks(blocks, args)));
  for (; args.run < n; args.run *= 2) {
    Dispatch merge = launch("sort_merge_long");
    kernel.add(std::move(over_merged(merge, args)));
  }
  return current;
}

KernelPtr make_sort(const Request& r) {
  const auto& attrs = std::get<SortAttrs>(r.op.attrs);
  const std::int64_t count = extent_along(r.inputs[0], attrs.axis);
  return make_ordered(r, attrs.axis, attrs.descending, count, "sort");
}

}  // namespace npu::gpu
