#pragma once

#include "element.h"
#include "ops.h"
#include "strided.h"

namespace npu::cpu {

// A group norm whose channels lie next to each other, or null when the request is another one.
Made make_channels_last_norm(const KernelRequest& request);

}  // namespace npu::cpu
