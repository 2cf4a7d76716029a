#include "gpu/plan/gpu_kernel.h"

#include "npu/error.h"

namespace npu::gpu {

std::string_view msl_type(DType dtype) {
  constexpr std::string_view names[kDTypeCount] = {"float", "half", "bfloat", "char", "short",
                                                   "int",   "long", "uchar",  "bool"};
  return names[static_cast<int>(dtype)];
}

std::string function_name(std::string_view kernel, DType dtype) {
  return std::string(kernel) + "_" + std::string(msl_type(dtype));
}

void unavailable(const Op& op, const std::string& why) {
  throw Error(ErrorKind::kUnavailable, {.area = "gpu",
                                        .what = "the op " + quoted(op.name) + " cannot run on the GPU",
                                        .got = why,
                                        .expected = {},
                                        .action = {}});
}

}  // namespace npu::gpu
