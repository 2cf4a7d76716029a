// What a compute command encoder does: it keeps what is bound, and refuses what Metal would refuse.
#pragma once

#include <array>

#include "objc/state.h"

namespace softmetal {

class Encoding {
 public:
  Encoding(std::shared_ptr<Pass> pass, bool retained) : pass_(std::move(pass)), retained_(retained) {}

  void set_pipeline(std::shared_ptr<const Pipeline> pipeline);
  void set_buffer(std::shared_ptr<Buffer> buffer, std::size_t offset, std::size_t index);
  void set_offset(std::size_t offset, std::size_t index);
  void set_bytes(const void* bytes, std::size_t length, std::size_t index);
  void set_threadgroup_memory(std::size_t length, std::size_t index);
  void dispatch_groups(Extent groups, Extent threads);
  void dispatch_threads(Extent grid, Extent threads);
  void barrier(std::vector<std::weak_ptr<Buffer>> resources);
  void push_group() { check_open("pushDebugGroup:"), ++groups_; }
  void pop_group();
  void end();
  bool ended() const { return pass_->ended; }

 private:
  void check_open(const char* call) const;
  void dispatch(const char* call, Extent grid, Extent threads);
  void check_alignment(const char* call, const Argument& argument, const BoundArgument& bound) const;

  std::shared_ptr<Pass> pass_;
  const bool retained_;
  std::shared_ptr<const Pipeline> pipeline_;
  std::array<BoundArgument, kMaxBuffers> bound_{};
  std::size_t threadgroup_bytes_[kMaxThreadgroupArguments] = {};
  int groups_ = 0;
};

}  // namespace softmetal
