#include "metal/pipelines.h"

#include "gpu/device/kernel_sources.h"
#include "metal/metallibs.h"
#include "npu/error.h"

namespace npu::metal {

namespace {

constexpr std::size_t kMostCompilers = 8;

[[noreturn]] void failed(const std::string& what, NSError* error) {
  throw Error(ErrorKind::kInternal, {.area = "metal", .what = what, .got = text(error)});
}

// Kernels choose fast arithmetic call by call, never all at once.
Ref<MTLCompileOptions*> compile_options() {
  auto options = Ref<MTLCompileOptions*>::adopt([[MTLCompileOptions alloc] init]);
  [options.get() setLanguageVersion:MTLLanguageVersion3_1];
#if NPU_SDK_15
  if (@available(macOS 15.0, *)) {
    [options.get() setMathMode:MTLMathModeSafe];
    return options;
  }
#endif
#pragma clang diagnostic push
#pragma clang diagnostic ignored "-Wdeprecated-declarations"
  [options.get() setFastMathEnabled:NO];
#pragma clang diagnostic pop
  return options;
}

Ref<MTLFunctionConstantValues*> constants_of(const gpu::PipelineKey& key) {
  auto values = Ref<MTLFunctionConstantValues*>::adopt([[MTLFunctionConstantValues alloc] init]);
  for (const gpu::FunctionConstant& constant : key.constants) {
    const bool flag = constant.bits != 0;
    switch (constant.type) {
      case gpu::FunctionConstant::Type::kBool:
        [values.get() setConstantValue:&flag
                                  type:MTLDataTypeBool
                               atIndex:static_cast<NSUInteger>(constant.index)];
        break;
      case gpu::FunctionConstant::Type::kInt:
        [values.get() setConstantValue:&constant.bits
                                  type:MTLDataTypeInt
                               atIndex:static_cast<NSUInteger>(constant.index)];
        break;
      case gpu::FunctionConstant::Type::kFloat:
        [values.get() setConstantValue:&constant.bits
                                  type:MTLDataTypeFloat
                               atIndex:static_cast<NSUInteger>(constant.index)];
        break;
    }
  }
  return values;
}

// Prebuilt, if the build had Apple's compiler; if Metal rejects that, it is compiled from source.
Ref<id<MTLLibrary>> compiled_before([[maybe_unused]] id<MTLDevice> device,
                                    [[maybe_unused]] const std::pair<std::string, std::string>& source) {
#ifdef __APPLE__
  const auto bytes = metallib(source.first);
  if (bytes.empty() || !source.second.empty() || gpu::kernels_are_replaced()) return {};
  const dispatch_data_t data =
      dispatch_data_create(bytes.data(), bytes.size(), nullptr, DISPATCH_DATA_DESTRUCTOR_DEFAULT);
  auto library = Ref<id<MTLLibrary>>::adopt([device newLibraryWithData:data error:nil]);
  dispatch_release(data);
  return library;
#else
  return {};
#endif
}

}  // namespace

Ref<id<MTLLibrary>> Pipelines::library(const Source& source) {
  {
    const std::lock_guard lock(mutex_);
    const auto result = libraries_.find(source);
    if (result != libraries_.end()) return result->second;
  }
  NSError* error = nil;
  const auto options = compile_options();
  auto library = compiled_before(device_, source);
  if (!library)
    library = Ref<id<MTLLibrary>>::adopt([device_
        newLibraryWithSource:text(gpu::kernel_source(source.first, source.second))
                     options:options.get()
                       error:&error]);
  if (!library) failed("the kernels of " + source.first + ".metal do not compile", error);
  [library.get() setLabel:text(source.first)];
  const std::lock_guard lock(mutex_);
  return libraries_.emplace(source, library).first->second;
}

std::shared_ptr<const gpu::Pipeline> Pipelines::pipeline(const gpu::PipelineKey& key) {
  NSError* error = nil;
  const auto kernels = library({key.library, key.prologue});
  const auto constants = constants_of(key);
  const auto function = Ref<id<MTLFunction>>::adopt([kernels.get() newFunctionWithName:text(key.function)
                                                                        constantValues:constants.get()
                                                                                 error:&error]);
  if (!function) failed(key.library + ".metal has no kernel '" + key.function + "'", error);
  const auto descriptor =
      Ref<MTLComputePipelineDescriptor*>::adopt([[MTLComputePipelineDescriptor alloc] init]);
  [descriptor.get() setComputeFunction:function.get()];
  [descriptor.get() setLabel:text(key.function)];
  [descriptor.get() setMaxTotalThreadsPerThreadgroup:static_cast<NSUInteger>(key.threads)];
  auto state = Ref<id<MTLComputePipelineState>>::adopt([device_
      newComputePipelineStateWithDescriptor:descriptor.get()
                                    options:MTLPipelineOptionNone
                                 reflection:nil
                                      error:&error]);
  if (!state) failed("no pipeline for kernel '" + key.function + "'", error);
  if ([state.get() threadExecutionWidth] != 32) {
    failed("the GPU has simdgroups of " + std::to_string([state.get() threadExecutionWidth]) +
               " threads, not 32",
           nil);
  }
  return std::make_shared<MetalPipeline>(std::move(state));
}

std::vector<std::shared_ptr<const gpu::Pipeline>> Pipelines::compile(std::span<const gpu::PipelineKey> keys) {
  return pipelines_.get(
      keys, kMostCompilers, [&](const Source& source) { in_pool([&] { library(source); }); },
      [&](const gpu::PipelineKey& key) { return in_pool([&] { return pipeline(key); }); });
}

}  // namespace npu::metal
