// The text that NVRTC compiles: metal_stdlib for CUDA, a lowered library, and an entry for each kernel
// wanted.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "cuda/lower/lowered.h"

namespace npu::cuda {

struct ConstantBits {
  int number = 0;
  std::int32_t bits = 0;
};

struct EntryOptions {
  int most_threads = 1024;                     // of a block
  std::array<std::uint32_t, 3> threads{};      // exactly so many, if not zero: a constant of the code
  std::span<const std::byte> constant_args{};  // the arguments' bytes as constants of the code, if not empty
  // The grid is launched along x alone, for longer ones than CUDA allows along y or z: three more parameters
  // of the entry, unsigned int, say how many blocks it has along x, y and z.
  bool as_line = false;
  bool waits = false;  // the kernel waits for its inputs itself: Lowered::waits
};

// What the host passes to an entry, in order: the args struct by value unless it is constant, a pointer for
// each buffer (null for one that is absent), and the extents of a grid that is launched as a line.
std::string entry_name(const LoweredKernel& kernel);
std::string entry_text(const LoweredKernel& kernel, const EntryOptions& options);

// The whole text. Throws where a constant that the library requires has no value, or one has two.
std::string program_text(const Lowered& library, std::span<const ConstantBits> constants,
                         std::span<const std::string> entries);

// Options of the compiler that the numbers depend on; the architecture ("sm_90") is part of them.
std::vector<std::string> compile_options(const std::string& architecture);

}  // namespace npu::cuda
