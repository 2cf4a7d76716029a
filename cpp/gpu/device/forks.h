// A forked child has its parent's objects of a GPU, but no connection to it.
#pragma once

#include <string>

namespace npu::gpu {

// From now on; once is enough.
void watch_forks();

bool is_forked();

// Throws in a child of a process that watched. `area` is what the message begins with.
void refuse_forked(const std::string& area);

}  // namespace npu::gpu
