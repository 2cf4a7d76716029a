#include "npu/error.h"
#include "ops.h"

namespace npu::cpu {

Made make_rope(const KernelRequest& request) {
  throw Error(ErrorKind::kUnavailable, {.area = "cpu", .what = "no kernel for op '" + request.op.name + "'"});
}

}  // namespace npu::cpu
