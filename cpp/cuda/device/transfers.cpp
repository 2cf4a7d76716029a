#include "cuda/device/transfers.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>

#include "cuda/device/context.h"
#include "npu/error.h"

namespace npu::cuda {

namespace {

constexpr std::size_t kAlignment = 256;  // of what shares a chunk

const char* const kReading = "reading memory of the GPU";
const char* const kWriting = "writing memory of the GPU";

CuAddress address_of(const std::byte* at) { return reinterpret_cast<CuAddress>(at); }

// A mapped file is read from the disk while the part before this one is copied: a cold one in 0.96 instead of
// 0.73 GB/s, and a warm one as fast as without.
void read_ahead(const std::byte* from, std::size_t bytes) {
  static const auto page = static_cast<std::uintptr_t>(::sysconf(_SC_PAGESIZE));
  const std::uintptr_t begin = reinterpret_cast<std::uintptr_t>(from) / page * page;
  const std::size_t size = reinterpret_cast<std::uintptr_t>(from) + bytes - begin;
  ::posix_madvise(reinterpret_cast<void*>(begin), size, POSIX_MADV_WILLNEED);  // it may be no file
}

// A part of a read on its way, to be copied out of a chunk.
struct Part {
  std::byte* to = nullptr;
  const std::byte* from = nullptr;
  std::size_t bytes = 0;
};

}  // namespace

class Transfers::BorrowedChunks {
 public:
  explicit BorrowedChunks(Transfers& owner) : owner_(owner) {
    const std::lock_guard lock(owner.mutex_);
    if (owner.idle_.empty()) return;
    chunks_ = owner.idle_.back();
    owner.idle_.pop_back();
  }
  ~BorrowedChunks() {
    const std::lock_guard lock(owner_.mutex_);
    owner_.idle_.push_back(chunks_);
  }
  BorrowedChunks(const BorrowedChunks&) = delete;
  BorrowedChunks& operator=(const BorrowedChunks&) = delete;

  // The second one only when it is needed.
  Chunk& get(std::size_t i) {
    Chunk& chunk = chunks_[i];
    if (chunk.data == nullptr) owner_.create(chunk, kReadChunk);
    return chunk;
  }

 private:
  Transfers& owner_;
  ReadChunks chunks_;
};

Transfers::~Transfers() {
  const Context::Current current(context_, std::nothrow);
  if (stream_ != nullptr) api().synchronize(stream_);
  for (Chunk& chunk : chunks_) destroy(chunk);
  for (ReadChunks& chunks : idle_) {
    for (Chunk& chunk : chunks) destroy(chunk);
  }
  if (event_ != nullptr) api().destroy_event(event_);
  if (stream_ != nullptr) api().destroy_stream(stream_);
}

void Transfers::create(Chunk& chunk, std::size_t bytes) const {
  CuEvent done = nullptr;
  context_.check_work(api().create_event(&done, kCuEventNoTiming), "making an event");
  try {
    chunk.data = static_cast<std::byte*>(allocate_pinned_bytes(context_, bytes));
  } catch (...) {
    api().destroy_event(done);
    throw;
  }
  chunk.done = done;
}

void Transfers::destroy(Chunk& chunk) const {
  if (chunk.data != nullptr) api().free_host(chunk.data);
  if (chunk.done != nullptr) api().destroy_event(chunk.done);
}

void Transfers::begin() {
  if (stream_ != nullptr) return;
  if (event_ == nullptr)
    context_.check_work(api().create_event(&event_, kCuEventNoTiming), "making an event");
  context_.check_work(api().create_stream(&stream_, kCuNonBlocking), "making a stream");
}

void Transfers::next_chunk() {
  Chunk& full = chunks_[chunk_];
  context_.check_work(api().record_event(full.done, stream_), "recording an event");
  full.in_flight = true;
  chunk_ = (chunk_ + 1) % kChunks;
  used_ = 0;
}

std::byte* Transfers::take(std::size_t bytes) {
  if (!pending()) used_ = 0;  // so that small writes stay in one chunk
  if (used_ + bytes > kChunk) next_chunk();
  Chunk& chunk = chunks_[chunk_];
  if (chunk.data == nullptr) create(chunk, kChunk);
  if (chunk.in_flight) context_.check_work(api().wait_for_event(chunk.done), kWriting);
  chunk.in_flight = false;
  std::byte* const data = chunk.data + used_;
  used_ += (bytes + kAlignment - 1) / kAlignment * kAlignment;
  return data;
}

void Transfers::write(CuAddress to, const void* from, std::size_t bytes) {
  context_.check_alive();
  const Context::Current current(context_);
  const auto* source = static_cast<const std::byte*>(from);
  while (bytes > 0) {
    const std::size_t part = std::min(bytes, kChunk);
    if (bytes > part) read_ahead(source + part, std::min(bytes - part, kChunk));
    const std::lock_guard lock(mutex_);  // for a part, so that small writes of others pass between
    begin();
    std::byte* const staged = take(part);
    std::memcpy(staged, source, part);
    context_.check_work(api().copy_to_device(to, staged, part, stream_), kWriting);
    ++queued_;
    to += part;
    source += part;
    bytes -= part;
  }
}

void Transfers::copy(CuAddress to, CuAddress from, std::size_t bytes) {
  context_.check_alive();
  const Context::Current current(context_);
  const std::lock_guard lock(mutex_);
  begin();
  context_.check_work(api().copy_on_device(to, from, bytes, stream_), "copying memory of the GPU");
  ++queued_;
}

void Transfers::fill(CuAddress to, unsigned char value, std::size_t bytes) {
  context_.check_alive();
  const Context::Current current(context_);
  const std::lock_guard lock(mutex_);
  begin();
  context_.check_work(api().fill(to, value, bytes, stream_), "filling memory of the GPU");
  ++queued_;
}

std::uint64_t Transfers::order(CuStream stream) {
  const std::lock_guard lock(mutex_);
  if (pending()) {
    context_.check_work(api().record_event(event_, stream_), "recording an event");
    context_.check_work(api().wait_event(stream, event_, 0), "waiting for an event");
  }
  return queued_;
}

void Transfers::completed(std::uint64_t serial) {
  const std::lock_guard lock(mutex_);
  completed_ = std::max(completed_, serial);
}

CuStream Transfers::lender_stream() {
  context_.check_alive();
  const Context::Current current(context_);
  const std::lock_guard lock(mutex_);
  begin();
  return stream_;
}

void Transfers::lent() {
  const std::lock_guard lock(mutex_);
  ++queued_;
}

void Transfers::finish() {
  const std::lock_guard lock(mutex_);
  if (!pending()) return;
  const Context::Current current(context_);
  context_.check_work(api().synchronize(stream_), kWriting);
  completed_ = queued_;
}

void Transfers::stop_using() noexcept {
  const std::lock_guard lock(mutex_);
  if (!pending()) return;
  const Context::Current current(context_, std::nothrow);
  if (api().synchronize(stream_) == kCuSuccess) completed_ = queued_;
}

void Transfers::read(std::span<const MemoryRead> reads) {
  if (reads.empty()) return;
  context_.check_alive();
  const Context::Current current(context_);
  BorrowedChunks chunks(*this);
  const BorrowedStream stream(context_);
  std::array<std::vector<Part>, 2> parts;  // by chunk
  const auto empty = [&](std::size_t i) {
    if (parts[i].empty()) return;
    context_.check_work(api().wait_for_event(chunks.get(i).done), kReading);
    for (const Part& part : parts[i]) std::memcpy(part.to, part.from, part.bytes);
    parts[i].clear();
  };
  std::size_t now = 0, used = 0;
  const auto close = [&] {
    context_.check_work(api().record_event(chunks.get(now).done, stream.get()), kReading);
    now = 1 - now;
    used = 0;
  };
  for (const MemoryRead& read : reads) {
    for (std::size_t done = 0; done < read.bytes;) {
      if (used >= kReadChunk) {
        close();
        empty(now);
      }
      const std::size_t bytes = std::min(read.bytes - done, kReadChunk - used);
      std::byte* const at = chunks.get(now).data + used;
      context_.check_work(api().copy_to_host(at, address_of(read.from + done), bytes, stream.get()),
                          kReading);
      parts[now].push_back({static_cast<std::byte*>(read.to) + done, at, bytes});
      used += (bytes + kAlignment - 1) / kAlignment * kAlignment;
      done += bytes;
    }
  }
  close();
  empty(now);
  empty(1 - now);
}

}  // namespace npu::cuda
