// Copies between the host and one GPU, through pinned memory: a driver copies from other memory only while
// the caller waits. Writes are queued, in the order of the calls; all that uses a BorrowedStream comes after
// them.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <span>
#include <vector>

#include "core/base/memory.h"
#include "cuda/device/api.h"

namespace npu::cuda {

class Context;

class Transfers {
 public:
  static constexpr std::size_t kChunk = std::size_t{4} << 20;

  explicit Transfers(Context& context) : context_(context) {}
  ~Transfers();
  Transfers(const Transfers&) = delete;
  Transfers& operator=(const Transfers&) = delete;

  // `from` may change when it returns.
  void write(CuAddress to, const void* from, std::size_t bytes);
  void copy(CuAddress to, CuAddress from, std::size_t bytes);
  void fill(CuAddress to, unsigned char value, std::size_t bytes);

  // Done when it returns, with one wait for all that fits into a chunk.
  void read(std::span<const MemoryRead> reads);

  // What is queued comes before what `stream` does from now on. Returns what to tell `completed` once the
  // stream has been waited for.
  std::uint64_t order(CuStream stream);
  void completed(std::uint64_t serial);
  // Who lends memory makes the first wait for its work; then the second, for others to wait for that.
  CuStream lender_stream();
  void lent();

  void finish();               // waits for what is queued
  void stop_using() noexcept;  // the same before memory goes, on a GPU that may be lost

 private:
  static constexpr std::size_t kChunks = 4, kReadChunk = std::size_t{1} << 20;

  // Pinned, and busy until its event.
  struct Chunk {
    std::byte* data = nullptr;
    CuEvent done = nullptr;
    bool in_flight = false;
  };
  // For a reader alone: one chunk is emptied while the other is filled.
  using ReadChunks = std::array<Chunk, 2>;
  class BorrowedChunks;

  void begin();  // with the mutex held, in a current context
  std::byte* take(std::size_t bytes);
  void next_chunk();
  void create(Chunk& chunk, std::size_t bytes) const;
  void destroy(Chunk& chunk) const;
  bool pending() const { return queued_ != completed_; }

  Context& context_;
  std::mutex mutex_;
  CuStream stream_ = nullptr;
  CuEvent event_ = nullptr;
  std::uint64_t queued_ = 0, completed_ = 0;  // how many copies
  std::array<Chunk, kChunks> chunks_;
  std::size_t chunk_ = 0, used_ = 0;  // the chunk that is filled, and how far
  std::vector<ReadChunks> idle_;
};

}  // namespace npu::cuda
