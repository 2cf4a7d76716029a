// Launches kernels on streams.
#include <algorithm>
#include <array>
#include <thread>
#include <utility>

#include "cuda/device/background.h"
#include "cuda/device/call.h"
#include "cuda/device/chips.h"
#include "cuda/device/context.h"
#include "cuda/device/cuda_device.h"
#include "cuda/device/memory.h"
#include "cuda/device/pipelines.h"
#include "cuda/device/recording.h"
#include "cuda/device/stream_run.h"
#include "cuda/device/transfers.h"
#include "gpu/device/forks.h"
#include "npu/error.h"

namespace npu::cuda {

namespace {

constexpr int kOldestMajor = 8;  // Ampere: products of bfloat16 on tensor cores

class CudaDriver final : public gpu::Driver {
 public:
  CudaDriver(int ordinal, std::vector<std::string> site_packages)
      : context_(std::make_shared<Context>(ordinal)),
        pipelines_(context_, std::move(site_packages)),
        background_(std::max(1u, std::thread::hardware_concurrency() / 2)) {
    gpu::watch_forks();
    caps_ = caps_of(context_->name(), context_->attribute(kCuMultiprocessors), context_->attribute(kCuMajor));
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

  void run(const gpu::Submission& submission, std::span<gpu::GpuTime> times) override {
    gpu::refuse_forked("cuda");
    std::vector<Call> calls;
    for (const gpu::Launch& launch : submission.launches) {
      calls.emplace_back(launch, submission.pipelines).bind(submission.resources);
    }
    StreamRun(*context_).launch(calls, submission.skipped, times, submission.label);
  }

  std::unique_ptr<gpu::Recording> record(const gpu::Work& work) override {
    gpu::refuse_forked("cuda");
    return std::make_unique<CudaRecording>(work, context_, background_);
  }

 private:
  std::shared_ptr<Context> context_;
  Pipelines pipelines_;
  gpu::Caps caps_;
  Background background_;  // stopped before what it works on is gone
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
