// One launch of a kernel, complete but for the addresses of what it reads and writes.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>
#include <vector>

#include "core/plan/kernel.h"

namespace npu::gpu {

// What a buffer of a kernel is bound to.
enum class From : std::uint8_t {
  kInput,    // of the op
  kOutput,   // of the op
  kScratch,  // the kernel's own room, of scratch_bytes(); holds nothing between kernels
  kPacked,   // what pack() wrote
  kStatus,   // where kernels report bad indices: see Status in metal/args.h
  kNothing,  // an absent operand: a slot that must be bound and is not read
};

struct BufferUse {
  int slot = 0;  // [[buffer(slot)]]
  From from = From::kNothing;
  int index = 0;            // of the operand
  std::int64_t offset = 0;  // where the binding starts, in bytes from the operand's first element
  std::int64_t low = 0;     // bytes [low, high) from there may be touched
  std::int64_t high = 0;
  bool reads = false, writes = false;
  bool constant = false;  // what it holds is there before the first run
};

struct FunctionConstant {
  enum class Type : std::uint8_t { kBool, kInt, kFloat };
  int index = 0;
  Type type = Type::kBool;
  std::int32_t bits = 0;
  bool operator==(const FunctionConstant&) const = default;
};

using Size = std::array<std::uint32_t, 3>;

struct Dispatch {
  // `library` is the stem of a file in metal/, `function` the name of one of its kernels.
  Dispatch(std::string_view library_, std::string_view function_) : library(library_), function(function_) {}

  std::string library, function;
  // MSL that is compiled before the library's text and makes it a library of its own; where `library` is
  // empty, all of the text. It may include the headers of metal/ by their names.
  std::string prologue;
  std::vector<FunctionConstant> constants;
  std::vector<std::byte> args;  // [[buffer(0)]]
  std::vector<BufferUse> buffers;
  Size groups{1, 1, 1}, threads{1, 1, 1};
  int threadgroup_bytes = 0;  // of [[threadgroup(0)]]; static arrays are not counted here
  bool early = true;  // it may begin before the one before has ended, if its kernel waits for that itself
  // The launch is left out of runs in which these operands have one address; -1: never.
  int same_output = -1, same_input = -1;

  template <class Args>
  Dispatch& with(const Args& value) {
    static_assert(std::is_trivially_copyable_v<Args>);
    args.resize(sizeof(Args));
    std::memcpy(args.data(), &value, sizeof(Args));
    return *this;
  }
  std::string args_text() const {
    return {reinterpret_cast<const char*>(args.data()), args.size()};
  }  // bytes
  Dispatch& constant(int index, bool value);
  Dispatch& constant(int index, std::int32_t value);
  Dispatch& constant(int index, float value);
  // An operand of the request, with the bytes that its view reaches; an absent one is bound to nothing.
  Dispatch& input(int slot, int index, const KernelRequest& request);
  Dispatch& output(int slot, int index, const KernelRequest& request);
  Dispatch& update(int slot, int index, const KernelRequest& request);  // an output that is read too
  Dispatch& scratch(int slot, std::int64_t offset, std::int64_t bytes, bool reads, bool writes);
  Dispatch& packed(int slot, std::int64_t bytes);
  Dispatch& status(int slot);
  Dispatch& nothing(int slot);                   // of a buffer that the kernel declares and will not read
  Dispatch& unless_same(int output, int input);  // see same_output
  // `groups` threadgroups of `threads` threads. Empty grids are for the kernel's maker to leave out.
  Dispatch& grid(Size groups_, Size threads_);
};

// How far the first element of a view lies behind the lowest one, where its binding starts.
std::int64_t bytes_before(const TensorDesc& desc);

}  // namespace npu::gpu
