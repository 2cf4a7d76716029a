// Translation of npu::Error into the Python classes below npu_runtime.NPUError.
#pragma once

namespace npu::bindings {

void register_errors();

}  // namespace npu::bindings
