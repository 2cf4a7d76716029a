// What checked mode asks at every access: is it inside of what is bound, may it write there, has anything
// been written there, and is it ordered after the accesses of others.
#pragma once

#include <mutex>
#include <vector>

#include "check/hazards.h"
#include "check/shadow.h"
#include "worker.h"

namespace softmetal {

class Checker {
 public:
  // Only one dispatch at a time is checked in a process: moments follow one another.
  Checker(const Launch& launch, Hazards* hazards);

  void begin_threadgroup(const Worker& worker);
  void threadgroup_barrier(unsigned flags);
  void simdgroup_barrier(unsigned simdgroup, unsigned flags);
  void access(Worker& worker, void* address, std::size_t bytes, unsigned kind, void* caller);
  [[noreturn]] void fail_misaligned(Worker& worker, void* address, std::size_t alignment, Site site);

 private:
  enum Space { device, local };

  struct Range {  // of an argument or a threadgroup variable
    const char* begin = nullptr;
    const char* end = nullptr;
    std::string name;
    int buffer = -1;
    bool writable = true;
    Shadow* shadow = nullptr;  // null: bound memory that is its own, like setBytes
    std::size_t shadow_offset = 0;
  };
  struct Access {
    const char* address;
    std::size_t bytes;
    bool write, atomic;
    void* caller;
  };

  void find_constants();
  void add_buffers();
  const Range* find(std::vector<Range>& ranges, std::size_t& last, const Access& access) const;
  bool is_own(const Worker& worker, const char* address) const;
  bool is_known(const char* address) const;
  void check_device(Worker& worker, const Range& range, const Access& access);
  void check_local(Worker& worker, const Range& range, const Access& access);
  void check_cells(Worker& worker, const Range& range, const Access& access, Space space, Cell* cells,
                   std::size_t at, std::size_t count);
  bool conflicts(const Worker& worker, Stamp stamp, bool atomic, Space space,
                 std::uint32_t ordered_since) const;
  void note(Stamp& stamp, Stamp mine, bool read, bool stale) const;

  [[noreturn]] void fail_outside(Worker& worker, const Access& access);
  [[noreturn]] void fail_race(Worker& worker, const Range& range, const Access& access, Space space,
                              std::size_t at, Stamp other, bool other_wrote);
  [[noreturn]] void fail(Worker& worker, Fault::Kind kind, const Access& access, const Range* range,
                         std::string text);
  static std::string name_of(const Range& range);
  std::string words(const Access& access, const Range& range) const;

  std::lock_guard<std::mutex> alone_;
  const Launch& launch_;
  Hazards own_hazards_;
  Hazards* hazards_;
  std::vector<Range> buffers_, locals_;
  std::size_t last_buffer_ = 0, last_local_ = 0;
  std::vector<std::unique_ptr<Shadow>> own_shadows_;
  std::vector<Cell> local_cells_;
  const char* local_begin_ = nullptr;
  const char* constants_begin_ = nullptr;
  const char* constants_end_ = nullptr;
  std::uint32_t dispatch_start_ = 0, group_start_ = 0;
  std::uint32_t moment_[2] = {};  // by space
  std::uint32_t simd_epoch_[2][kMaxThreadsPerThreadgroup / kSimdWidth] = {};
};

}  // namespace softmetal
