// softmetal-precompile FOLDER SOURCE...: compiles flattened sources in both modes into a folder where the
// machine looks for them by their text.
#include <cstdlib>
#include <fstream>
#include <iostream>
#include <sstream>

#include "image.h"

int main(int argc, char** argv) {
  if (argc < 3) {
    std::cerr << "usage: softmetal-precompile FOLDER SOURCE...\n";
    return 2;
  }
  setenv("SOFTMETAL_CACHE", argv[1], 1);
  for (int i = 2; i < argc; ++i) {
    std::ifstream in(argv[i], std::ios::binary);
    std::ostringstream text;
    text << in.rdbuf();
    if (!in) {
      std::cerr << "cannot read " << argv[i] << "\n";
      return 1;
    }
    try {
      for (softmetal::Mode mode : {softmetal::Mode::fast, softmetal::Mode::checked})
        softmetal::compile(text.str(), {}, mode);
    } catch (const softmetal::MachineError& error) {
      std::cerr << argv[i] << ": " << error.what() << "\n";
      return 1;
    }
  }
  return 0;
}
