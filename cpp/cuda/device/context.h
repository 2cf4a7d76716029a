// One GPU: its context, and streams that callers take turns with.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <memory>
#include <mutex>
#include <new>
#include <string>
#include <utility>
#include <vector>

#include "cuda/device/api.h"

namespace npu::cuda {

class Transfers;

class Context {
 public:
  explicit Context(int ordinal);
  ~Context();
  Context(const Context&) = delete;
  Context& operator=(const Context&) = delete;

  int ordinal() const { return ordinal_; }
  const std::string& name() const { return name_; }
  const std::string& architecture() const { return architecture_; }  // "sm_90"
  int attribute(int which) const;
  bool overlaps() const;  // launches may begin before those that they come after have ended

  // While it lives, calls of this thread go to this GPU, whichever one PyTorch uses.
  class Current {
   public:
    explicit Current(const Context& context);
    Current(const Context& context, std::nothrow_t);  // for destructors: it may be lost, and the driver gone
    ~Current();
    Current(const Current&) = delete;
    Current& operator=(const Current&) = delete;

   private:
    bool pushed_;
  };

  // Throws once the GPU is lost: after a kernel's fault CUDA refuses all further work of the process.
  void check_alive() const;
  void lose(const std::string& why) const;

  // The GPU is lost after what it does not recover from.
  void note(CuResult result, const std::string& what) const;
  // As `check` of api.h, noting it.
  void check_work(CuResult result, const std::string& what) const;

  // Bytes of its memory that we have.
  std::size_t allocated() const { return allocated_; }
  void count_allocated(std::ptrdiff_t bytes) { allocated_ += static_cast<std::size_t>(bytes); }

  Transfers& transfers() { return *transfers_; }

  CuStream take_stream();
  void give_back(CuStream stream);

 private:
  int ordinal_;
  CuDevice device_ = 0;
  CuContext context_ = nullptr;
  std::string name_, architecture_;
  mutable std::mutex mutex_;
  std::vector<CuStream> idle_;
  mutable std::string lost_;
  std::atomic<std::size_t> allocated_{0};
  std::unique_ptr<Transfers> transfers_;
};

// For bytes that the GPU reaches too; throws when there are none. In a current context.
void* allocate_pinned_bytes(Context& context, std::size_t bytes);

// A stream for as long as it lives, in a context that is current. Its work comes after the transfers that
// were queued before. Who borrows it waits for it, but for when that fails.
class BorrowedStream {
 public:
  explicit BorrowedStream(Context& context);
  ~BorrowedStream();
  BorrowedStream(const BorrowedStream&) = delete;
  BorrowedStream& operator=(const BorrowedStream&) = delete;
  CuStream get() const { return stream_; }

 private:
  Context& context_;
  CuStream stream_;
  std::uint64_t transfers_ = 0;
  int failures_ = std::uncaught_exceptions();
};

}  // namespace npu::cuda
