// One GPU: its context, and streams that callers take turns with.
#pragma once

#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "cuda/device/api.h"

namespace npu::cuda {

class Context {
 public:
  explicit Context(int ordinal);
  Context(const Context&) = delete;
  Context& operator=(const Context&) = delete;

  int ordinal() const { return ordinal_; }
  const std::string& name() const { return name_; }
  const std::string& architecture() const { return architecture_; }  // "sm_90"
  int attribute(int which) const;

  // While it lives, calls of this thread go to this GPU, whichever one PyTorch uses.
  class Current {
   public:
    explicit Current(const Context& context);
    ~Current();
    Current(const Current&) = delete;
    Current& operator=(const Current&) = delete;
  };

  // Throws once the GPU is lost: after a kernel's fault CUDA refuses all further work of the process.
  void check_alive() const;
  void lose(const std::string& why);

  CuStream take_stream();
  void give_back(CuStream stream);

 private:
  int ordinal_;
  CuDevice device_ = 0;
  CuContext context_ = nullptr;
  std::string name_, architecture_;
  mutable std::mutex mutex_;
  std::vector<CuStream> idle_;
  std::string lost_;
};

// A stream for as long as it lives, in a context that is current.
class BorrowedStream {
 public:
  explicit BorrowedStream(Context& context) : context_(context), stream_(context.take_stream()) {}
  ~BorrowedStream() { context_.give_back(stream_); }
  BorrowedStream(const BorrowedStream&) = delete;
  BorrowedStream& operator=(const BorrowedStream&) = delete;
  CuStream get() const { return stream_; }

 private:
  Context& context_;
  CuStream stream_;
};

}  // namespace npu::cuda
