// Kernels that the build could compile, where it had Apple's compiler for them.
#pragma once

#include <cstddef>
#include <span>
#include <string_view>

namespace npu::metal {

// The compiled form of metal/<library>.metal; empty where there is none, and its text is compiled at load.
std::span<const std::byte> metallib(std::string_view library);

}  // namespace npu::metal
