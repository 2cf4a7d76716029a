// Running another program.
#pragma once

#include <string>
#include <vector>

namespace softmetal {

struct ProcessResult {
  int status = -1;     // exit status; 128 + n after signal n
  std::string output;  // what it wrote to standard output
  std::string errors;
};

// Found on the PATH; throws MachineError where it cannot be started.
ProcessResult run_process(const std::vector<std::string>& command, const std::string& input = {});

}  // namespace softmetal
