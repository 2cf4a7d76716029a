// What the stand-in's compiler gives its driver instead of machine code: a line for each entry, with its name
// and a letter for each parameter.
#pragma once

#include <string>

namespace stand_in {

inline constexpr const char* kMagic = "kernels of the stand-in\n";
inline constexpr char kPointer = 'p', kValue = 'v';

// Of a text with entries: extern "C" __global__ void name(const __grid_constant__ Args npu_0, void* npu_1) {
std::string kernels_of(const std::string& text);

}  // namespace stand_in
