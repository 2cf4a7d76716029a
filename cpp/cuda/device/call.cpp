#include "cuda/device/call.h"

#include "npu/error.h"

namespace npu::cuda {

namespace {

std::string text_of(const gpu::Size& size) {
  return std::to_string(size[0]) + " x " + std::to_string(size[1]) + " x " + std::to_string(size[2]);
}

}  // namespace

Call::Call(const gpu::Launch& launch, std::span<const std::shared_ptr<const gpu::Pipeline>> pipelines,
           int overlapping_cores)
    : launch_(&launch),
      pipeline_(pipelines[static_cast<std::size_t>(launch.pipeline)]),
      may_overlap_(overlapping_cores > 0 &&
                   ((pipeline().waits() && launch.dispatch->early) || is_small(overlapping_cores))) {
  allow_shared(pipeline().kernel());
}

void Call::allow_shared(const LoadedKernel& kernel) const {
  kernel.allow_shared(launch_->dispatch->threadgroup_bytes, may_overlap_);
}

void Call::use(std::shared_ptr<const LoadedKernel> kernel) {
  constant_ = std::move(kernel);
  if (constant_) allow_shared(*constant_);
}

bool Call::bind(std::span<const Address> resources) {
  bool moved = false;
  for (const gpu::Binding& binding : launch_->bindings) {
    const Address& resource = resources[static_cast<std::size_t>(binding.resource)];
    CuAddress& address = addresses_[static_cast<std::size_t>(binding.slot)];
    const CuAddress now = reinterpret_cast<CuAddress>(resource.data) + static_cast<CuAddress>(binding.offset);
    moved = moved || now != address;
    address = now;
  }
  return moved;
}

void Call::fill(void** parameters) const {
  const gpu::Dispatch& dispatch = *launch_->dispatch;
  std::size_t count = 0;
  for (const CudaPipeline::Parameter& parameter : pipeline().parameters()) {
    if (!parameter.args) {
      parameters[count++] = const_cast<CuAddress*>(&addresses_[static_cast<std::size_t>(parameter.slot)]);
    } else if (!constant_) {
      parameters[count++] = const_cast<std::byte*>(dispatch.args.data());
    }
  }
  if (!pipeline().as_line()) return;
  for (const std::uint32_t& extent : dispatch.groups) {
    parameters[count++] = const_cast<std::uint32_t*>(&extent);
  }
}

gpu::Size Call::grid() const {
  const gpu::Size& groups = launch_->dispatch->groups;
  return pipeline().as_line() ? gpu::Size{groups[0] * groups[1] * groups[2], 1, 1} : groups;
}

bool Call::is_small(int cores) const {
  constexpr std::uint64_t kThreads = 256;
  constexpr int kSharedBytes = 16 << 10;
  const auto product = [](const gpu::Size& size) { return std::uint64_t{size[0]} * size[1] * size[2]; };
  const gpu::Dispatch& dispatch = *launch_->dispatch;
  return product(dispatch.groups) <= static_cast<std::uint64_t>(cores) &&
         product(dispatch.threads) <= kThreads && dispatch.threadgroup_bytes <= kSharedBytes;
}

CuKernelNode Call::node(void** parameters) const {
  const gpu::Dispatch& dispatch = *launch_->dispatch;
  const gpu::Size blocks = grid(), &threads = dispatch.threads;
  fill(parameters);
  return {.function = constant_ ? constant_->function() : pipeline().function(),
          .grid = {blocks[0], blocks[1], blocks[2]},
          .block = {threads[0], threads[1], threads[2]},
          .shared_bytes = static_cast<unsigned>(dispatch.threadgroup_bytes),
          .parameters = parameters,
          .extra = nullptr,
          .kernel = nullptr,
          .context = nullptr};
}

CuResult Call::run(CuStream stream) const {
  std::array<void*, kMostParameters> parameters{};
  const CuKernelNode node = this->node(parameters.data());
  return api().launch(node.function, node.grid[0], node.grid[1], node.grid[2], node.block[0], node.block[1],
                      node.block[2], node.shared_bytes, stream, node.parameters, nullptr);
}

void Call::refuse(CuResult result) const {
  throw Error(ErrorKind::kInternal,
              {.area = "cuda",
               .what = "launching " + launch_->label + " failed: " + text_of(launch_->dispatch->groups) +
                       " groups of " + text_of(launch_->dispatch->threads) + " threads",
               .got = describe(result)});
}

}  // namespace npu::cuda
