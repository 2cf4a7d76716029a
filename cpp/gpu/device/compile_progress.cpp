#include "gpu/device/compile_progress.h"

#include <unistd.h>

#include <cstdio>

namespace npu::gpu {

namespace {
constexpr std::chrono::seconds kDelay{1};  // before anything is shown
const char* const kEraseLine = "\r\x1b[K";
}  // namespace

void CompileProgress::compiled_one() {
  const std::lock_guard lock(mutex_);
  ++compiled_;
  if (compiled_ == kernels_ || Clock::now() - began_ < kDelay || ::isatty(STDERR_FILENO) == 0) return;
  shown_ = true;
  std::fprintf(stderr, "%scompiling kernels for the GPU: %zu of %zu", kEraseLine, compiled_, kernels_);
  std::fflush(stderr);
}

CompileProgress::~CompileProgress() {
  if (!shown_) return;
  std::fputs(kEraseLine, stderr);
  std::fflush(stderr);
}

}  // namespace npu::gpu
