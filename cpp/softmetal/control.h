// What tests may ask of the Metal in software, besides Metal's own API.
#pragma once

#include <cstddef>
#include <stdexcept>
#include <string>

#include "machine.h"

namespace softmetal {

// An API call that Metal would refuse: its validation would stop the program. The text names the call.
struct Refusal : std::logic_error {
  using std::logic_error::logic_error;
};

// How functions made from now on run; at first checked, or what SOFTMETAL_MODE (checked, fast) says.
Mode mode();
void set_mode(Mode mode);

// The next command buffer that runs fails with this text.
void fail_next_command_buffer(std::string text);

// The page size that newBufferWithBytesNoCopy: asks for; at first the host's. Apple's is 16384.
std::size_t page_size();
void set_page_size(std::size_t bytes);

enum class Kind { buffer, library, function, pipeline, queue, command_buffer, encoder, residency_set };
constexpr std::size_t kKinds = 8;

// Objects of the API that are alive: of one kind, and all of them.
long live_objects(Kind kind);
long live_objects();

// Command buffers that ran to their end, and dispatches in them.
long completed_command_buffers();
long completed_dispatches();

}  // namespace softmetal
