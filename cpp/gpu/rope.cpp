#include "npu/error.h"
#include "ops.h"

namespace npu::gpu {

Made make_rope(const Request& r) {
  throw Error(ErrorKind::kUnavailable, {.area = "metal", .what = "no kernel for op '" + r.op.name + "'"});
}

}  // namespace npu::gpu
