#include "cuda/device/pipelines.h"

#include <algorithm>

#include "core/base/mixer.h"
#include "cuda/lower/entry.h"
#include "cuda/lower/library.h"
#include "gpu/device/forks.h"
#include "npu/error.h"

namespace npu::cuda {

namespace {

constexpr std::size_t kMostCompilers = 32;
constexpr std::size_t kLogShown = 4000;  // characters of a compiler's log in an error

const LoweredKernel& kernel_of(const Lowered& library, const gpu::PipelineKey& key) {
  if (const LoweredKernel* const kernel = library.find(key.function)) return *kernel;
  throw Error(ErrorKind::kInternal,
              {.area = "cuda", .what = library.name + " has no kernel " + npu::quoted(key.function)});
}

std::vector<ConstantBits> constants_of(const gpu::PipelineKey& key) {
  std::vector<ConstantBits> all;
  for (const gpu::FunctionConstant& constant : key.constants) all.push_back({constant.index, constant.bits});
  return all;
}

}  // namespace

LoadedKernel::LoadedKernel(std::shared_ptr<Context> context, const std::string& cubin,
                           const LoweredKernel& kernel)
    : context_(std::move(context)) {
  const Context::Current current(*context_);
  check(api().load_module(&module_, cubin.data()), "loading the kernel " + npu::quoted(kernel.name));
  const CuResult result = api().function(&function_, module_, entry_name(kernel).c_str());
  if (result == kCuSuccess) return;
  api().unload_module(module_);
  check(result, "finding the kernel " + npu::quoted(kernel.name));
}

LoadedKernel::~LoadedKernel() {
  if (gpu::is_forked()) return;  // it is the parent's
  const Context::Current current(*context_, std::nothrow);
  api().unload_module(module_);
}

void LoadedKernel::allow_shared(int bytes, bool beside_others) const {
  constexpr int kWithoutAsking = 32 << 10, kAllOfIt = 100;  // percent of what shared memory and cache have
  const std::lock_guard lock(mutex_);
  const bool asks = bytes > std::max(kWithoutAsking, allowed_);
  if (!asks && !beside_others) return;
  const Context::Current current(*context_);
  if (asks) {
    check(api().set_attribute(function_, kCuDynamicSharedBytes, bytes), "asking for shared memory");
    allowed_ = bytes;
  }
  check(api().set_attribute(function_, kCuSharedCarveout, kAllOfIt), "asking for shared memory");
}

CudaPipeline::CudaPipeline(Pipelines& owner, gpu::PipelineKey key, std::shared_ptr<const Lowered> library)
    : owner_(owner), key_(std::move(key)), library_(std::move(library)) {
  for (const KernelParameter& parameter : kernel_of(*library_, key_).parameters) {
    if (parameter.kind == KernelParameter::Kind::kArgs) parameters_.push_back({.args = true});
    if (parameter.kind == KernelParameter::Kind::kBuffer) parameters_.push_back({.slot = parameter.number});
  }
  EntryOptions options;
  if (key_.threads > 0) options.most_threads = key_.threads;
  kernel_ = compile(options);
}

bool CudaPipeline::takes_args() const {
  return std::any_of(parameters_.begin(), parameters_.end(), [](const Parameter& p) { return p.args; });
}

std::shared_ptr<const LoadedKernel> CudaPipeline::compile(const EntryOptions& options) const {
  const LoweredKernel& kernel = kernel_of(*library_, key_);
  EntryOptions all = options;
  all.as_line = key_.as_line;
  all.waits = library_->waits();
  const std::string entry = entry_text(kernel, all);
  const std::string text = program_text(*library_, constants_of(key_), {&entry, 1});
  return std::make_shared<const LoadedKernel>(owner_.context_, owner_.cubin_of(text, kernel.name), kernel);
}

std::shared_ptr<const LoadedKernel> CudaPipeline::with_constants(const gpu::Dispatch& dispatch) const {
  const Constants constants{dispatch.args_text(), dispatch.threads};
  {
    const std::lock_guard lock(mutex_);
    const auto known = with_constants_.find(constants);
    if (known != with_constants_.end()) {
      if (auto kernel = known->second.lock()) return kernel;
      with_constants_.erase(known);
    }
  }
  auto kernel = compile({.threads = dispatch.threads, .constant_args = dispatch.args});
  const std::lock_guard lock(mutex_);
  std::weak_ptr<const LoadedKernel>& kept = with_constants_[constants];
  if (auto other = kept.lock()) return other;  // of another thread, meanwhile
  kept = kernel;
  return kernel;
}

Pipelines::Pipelines(std::shared_ptr<Context> context, std::vector<std::string> site_packages)
    : context_(std::move(context)),
      site_packages_(std::move(site_packages)),
      options_(compile_options(context_->architecture())) {
  cache_.shrink();
}

std::shared_ptr<const Nvrtc> Pipelines::nvrtc() {
  const std::lock_guard lock(mutex_);
  if (!nvrtc_) nvrtc_ = Nvrtc::open(site_packages_, driver_major());
  return nvrtc_;
}

std::shared_ptr<const Lowered> Pipelines::lowered(const Source& source) {
  {
    const std::lock_guard lock(mutex_);
    const auto known = lowered_.find(source);
    if (known != lowered_.end()) return known->second;
  }
  auto library = std::make_shared<const Lowered>(lowered_library(source.first, source.second));
  const std::lock_guard lock(mutex_);
  return lowered_.emplace(source, std::move(library)).first->second;
}

std::string Pipelines::cubin_of(const std::string& text, const std::string& name) {
  const auto compiler = nvrtc();
  Mixer mixer;
  mixer.text(text);
  for (const std::string& option : options_) mixer.text(option);
  mixer.number(static_cast<std::uint64_t>(compiler->major()));
  mixer.number(static_cast<std::uint64_t>(compiler->minor()));
  const std::string key = mixer.hex();
  if (auto cubin = cache_.find(key)) return *std::move(cubin);
  Nvrtc::Result result = compiler->compile(text, name, options_);
  if (!result.compiled) {
    throw Error(ErrorKind::kInternal, {.area = "cuda",
                                       .what = "the kernel " + npu::quoted(name) + " does not compile",
                                       .got = result.log.substr(0, kLogShown),
                                       .action = "reporting this"});
  }
  cache_.keep(key, result.cubin);
  return std::move(result.cubin);
}

std::vector<std::shared_ptr<const gpu::Pipeline>> Pipelines::compile(std::span<const gpu::PipelineKey> keys) {
  return pipelines_.get(
      keys, kMostCompilers, [&](const Source& source) { lowered(source); },
      [&](const gpu::PipelineKey& key) {
        return std::make_shared<const CudaPipeline>(*this, key, lowered({key.library, key.prologue}));
      });
}

}  // namespace npu::cuda
