// What checked mode remembers of each byte of an allocation: who wrote it last, and who read it.
//
// Time is counted in moments: a new one begins with every threadgroup and at every barrier, and checked mode
// runs one threadgroup after the other. So whether two accesses are ordered follows from comparing a stamp's
// moment with the first moment of the running threadgroup, of its dispatch, and of the dispatches that no
// barrier separates from it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

namespace softmetal {

struct Stamp {
  std::uint32_t moment = 0;       // 0: nobody
  std::uint32_t thread : 10 = 0;  // in its threadgroup
  std::uint32_t atomic : 1 = 0;
  std::uint32_t several : 1 = 0;      // others read it too; this is the first of them
  std::uint32_t simd_epoch : 20 = 0;  // simdgroup barriers since the moment began
};

struct Cell {
  Stamp write, read;
};

class Shadow {
 public:
  // Memory that nobody has written is filled with a pattern. So a write by the host, which nobody reports,
  // shows.
  Shadow(void* data, std::size_t bytes, bool initialised);

  Cell* cells(std::size_t offset);  // of one byte, and of those that follow up to `cells_left(offset)`
  static std::size_t cells_left(std::size_t offset) { return kPage - offset % kPage; }
  bool unwritten(std::size_t offset, std::size_t bytes);  // part of it was never written
  std::size_t bytes() const { return bytes_; }

  std::uint32_t ordered_since = 0;  // a barrier for this resource alone

 private:
  static constexpr std::size_t kPage = 1024;
  static unsigned char pattern(std::size_t offset);
  bool suspicious(std::size_t offset);

  unsigned char* data_;
  std::size_t bytes_;
  bool initialised_;
  std::vector<std::unique_ptr<Cell[]>> pages_;
};

// What was accessed before comes before what is accessed from now on.
void order_after_now(Shadow& shadow);

}  // namespace softmetal
