// Launches kernels on streams.
#include <array>
#include <utility>

#include "cuda/device/chips.h"
#include "cuda/device/context.h"
#include "cuda/device/cuda_device.h"
#include "cuda/device/memory.h"
#include "cuda/device/pipelines.h"
#include "cuda/device/transfers.h"
#include "cuda/lower/entry.h"
#include "gpu/device/forks.h"
#include "npu/error.h"

namespace npu::cuda {

namespace {

using gpu::GpuTime;
using gpu::Launch;
using gpu::Submission;

constexpr int kSlots = 31, kMostParameters = kSlots + 4;
constexpr int kOldestMajor = 8;  // Ampere: products of bfloat16 on tensor cores

bool skips(const Submission& submission, std::size_t launch) {
  return !submission.skipped.empty() && submission.skipped[launch];
}

// For as long as it lives.
class Event {
 public:
  Event() { check(api().create_event(&event_, 0), "making an event"); }
  ~Event() { api().destroy_event(event_); }
  Event(const Event&) = delete;
  Event& operator=(const Event&) = delete;
  CuEvent get() const { return event_; }

 private:
  CuEvent event_ = nullptr;
};

class CudaDriver final : public gpu::Driver {
 public:
  CudaDriver(int ordinal, std::vector<std::string> site_packages)
      : context_(std::make_shared<Context>(ordinal)), pipelines_(context_, std::move(site_packages)) {
    gpu::watch_forks();
    caps_ = caps_of(context_->name(), context_->attribute(kCuMultiprocessors));
  }

  const gpu::Caps& caps() const override { return caps_; }

  std::shared_ptr<Memory> allocate(std::size_t bytes, bool zero) override {
    gpu::refuse_forked("cuda");
    return allocate_on_device(this, context_, bytes, zero);
  }
  std::shared_ptr<Memory> allocate_visible(std::size_t bytes) override {
    gpu::refuse_forked("cuda");
    return allocate_pinned(this, context_, bytes);
  }
  std::shared_ptr<Memory> share(const std::shared_ptr<Memory>&) override { return nullptr; }

  DlDevice dl_device() const override { return {kDlCuda, context_->ordinal()}; }
  std::uintptr_t lender_stream() override {
    gpu::refuse_forked("cuda");
    return reinterpret_cast<std::uintptr_t>(context_->transfers().lender_stream());
  }
  std::shared_ptr<Memory> borrow(void* data, std::size_t bytes, std::shared_ptr<void> owner) override {
    context_->transfers().lent();
    return std::make_shared<ForeignMemory>(this, context_, reinterpret_cast<CuAddress>(data), bytes,
                                           std::move(owner));
  }

  std::vector<std::shared_ptr<const gpu::Pipeline>> compile(std::span<const gpu::PipelineKey> keys) override {
    gpu::refuse_forked("cuda");
    return pipelines_.compile(keys);
  }

  void run(const Submission& submission, std::span<GpuTime> times) override {
    gpu::refuse_forked("cuda");
    context_->check_alive();
    const Context::Current current(*context_);
    const BorrowedStream stream(*context_);
    if (times.empty()) {
      for (std::size_t i = 0; i < submission.launches.size(); ++i) {
        if (!skips(submission, i)) launch(submission, submission.launches[i], stream.get());
      }
      finish(stream.get(), submission.label);
    } else {
      run_timed(submission, times, stream.get());
    }
  }

 private:
  void finish(CuStream stream, const std::string& label) {
    const CuResult result = api().synchronize(stream);
    if (result == kCuSuccess) return;
    const std::string what = "the GPU failed to run " + npu::quoted(label);
    context_->lose(what + ": " + describe(result));
    throw Error(ErrorKind::kInternal,
                {.area = "cuda",
                 .what = what,
                 .got = describe(result),
                 .action = "CUDA_LAUNCH_BLOCKING=1 in the environment, which makes this name the kernel"});
  }

  // In one stream launches wait for each other, so that barriers need nothing.
  void launch(const Submission& submission, const Launch& launch, CuStream stream) const {
    const auto& pipeline =
        static_cast<const CudaPipeline&>(*submission.pipelines[static_cast<std::size_t>(launch.pipeline)]);
    const gpu::Dispatch& dispatch = *launch.dispatch;
    std::array<CuAddress, kSlots> addresses{};
    for (const gpu::Binding& binding : launch.bindings) {
      const Address& address = submission.resources[static_cast<std::size_t>(binding.resource)];
      addresses[static_cast<std::size_t>(binding.slot)] =
          reinterpret_cast<CuAddress>(address.data) + static_cast<CuAddress>(binding.offset);
    }
    const gpu::Size &groups = dispatch.groups, &threads = dispatch.threads;
    const bool as_line = groups[1] > kMostBlocksYZ || groups[2] > kMostBlocksYZ;
    gpu::Size extents = groups;
    std::array<void*, kMostParameters> parameters{};
    std::size_t count = 0;
    for (const CudaPipeline::Parameter& parameter : pipeline.parameters()) {
      parameters[count++] = parameter.args
                                ? const_cast<std::byte*>(dispatch.args.data())
                                : static_cast<void*>(&addresses[static_cast<std::size_t>(parameter.slot)]);
    }
    gpu::Size grid = groups;
    if (as_line) {
      for (std::uint32_t& extent : extents) parameters[count++] = &extent;
      grid = {groups[0] * groups[1] * groups[2], 1, 1};
    }
    const CuResult result = api().launch(
        pipeline.function(as_line), grid[0], grid[1], grid[2], threads[0], threads[1], threads[2],
        static_cast<unsigned>(dispatch.threadgroup_bytes), stream, parameters.data(), nullptr);
    if (result != kCuSuccess) refuse_launch(launch, result);
  }

  [[noreturn]] void refuse_launch(const Launch& launch, CuResult result) const {
    const auto text = [](const gpu::Size& size) {
      return std::to_string(size[0]) + " x " + std::to_string(size[1]) + " x " + std::to_string(size[2]);
    };
    context_->note(result, "launching " + launch.label + " failed");
    throw Error(ErrorKind::kInternal,
                {.area = "cuda",
                 .what = "launching " + launch.label + " failed: " + text(launch.dispatch->groups) +
                         " groups of " + text(launch.dispatch->threads) + " threads",
                 .got = describe(result)});
  }

  void run_timed(const Submission& submission, std::span<GpuTime> times, CuStream stream) {
    const std::vector<Event> events(submission.launches.size() + 1);
    check(api().record_event(events[0].get(), stream), "recording an event");
    for (std::size_t i = 0; i < submission.launches.size(); ++i) {
      if (!skips(submission, i)) launch(submission, submission.launches[i], stream);
      check(api().record_event(events[i + 1].get(), stream), "recording an event");
    }
    finish(stream, submission.label);
    double now = 0;  // in nanoseconds
    for (std::size_t i = 0; i < submission.launches.size(); ++i) {
      float milliseconds = 0;
      check(api().elapsed(&milliseconds, events[i].get(), events[i + 1].get()), "reading an event");
      const double end = now + static_cast<double>(milliseconds) * 1e6;
      times[i] = {static_cast<std::int64_t>(now), static_cast<std::int64_t>(end)};
      now = end;
    }
  }

  std::shared_ptr<Context> context_;
  Pipelines pipelines_;
  gpu::Caps caps_;
};

}  // namespace

std::string too_old(const GpuInfo& gpu) {
  if (std::stoi(gpu.architecture.substr(3)) >= 10 * kOldestMajor) return {};
  return "the GPU " + gpu.name + " is too old; got " + gpu.architecture + "; expected sm_" +
         std::to_string(10 * kOldestMajor) + " or newer";
}

std::vector<GpuInfo> find_devices(std::string* why) {
  std::vector<GpuInfo> infos;
  const Api* const found = find_api(why);
  int count = 0;
  if (found == nullptr || found->device_count(&count) != kCuSuccess) return infos;
  for (int ordinal = 0; ordinal < count; ++ordinal) {
    CuDevice device = 0;
    std::array<char, 256> name{};
    GpuInfo info;
    int major = 0, minor = 0;
    std::size_t bytes = 0;
    if (found->device(&device, ordinal) != kCuSuccess) continue;
    found->device_name(name.data(), static_cast<int>(name.size()), device);
    found->device_attribute(&info.cores, kCuMultiprocessors, device);
    found->device_attribute(&major, kCuMajor, device);
    found->device_attribute(&minor, kCuMinor, device);
    found->device_bytes(&bytes, device);
    info.name = name.data();
    info.architecture = "sm_" + std::to_string(major) + std::to_string(minor);
    info.memory_bytes = bytes;
    infos.push_back(std::move(info));
  }
  if (infos.empty() && why != nullptr) *why = "the NVIDIA driver finds no GPU";
  return infos;
}

std::shared_ptr<gpu::Driver> open_driver(int ordinal, std::vector<std::string> site_packages) {
  std::string why;
  const std::vector<GpuInfo> gpus = find_devices(&why);
  if (ordinal < 0 || ordinal >= static_cast<int>(gpus.size())) {
    throw Error(ErrorKind::kUnavailable,
                {.area = "device",
                 .what = gpus.empty() ? "device \"cuda\" is not available: " + why
                                      : "there is no GPU " + std::to_string(ordinal),
                 .expected = gpus.empty() ? "'cpu'" : "one from 0 to " + std::to_string(gpus.size() - 1)});
  }
  const std::string problem = too_old(gpus[static_cast<std::size_t>(ordinal)]);
  if (!problem.empty()) {
    throw Error(ErrorKind::kUnavailable,
                {.area = "device", .what = "device \"cuda\" is not available: " + problem});
  }
  return std::make_shared<CudaDriver>(ordinal, std::move(site_packages));
}

}  // namespace npu::cuda
