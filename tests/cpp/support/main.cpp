#include <exception>

#include "support/check.h"

namespace npu::test {

namespace {
int failures = 0;
}

std::vector<Case>& cases() {
  static std::vector<Case> all;
  return all;
}

void report_failure(const char* file, int line, const std::string& text) {
  std::cerr << file << ":" << line << ": " << text << "\n";
  ++failures;
}

int run(const std::string& group) {
  int count = 0;
  for (const auto& test : cases()) {
    if (test.group != group && test.group + "." + test.name != group) continue;
    ++count;
    const int before = failures;
    try {
      test.body();
    } catch (const std::exception& error) {
      report_failure(test.name.c_str(), 0, std::string("threw ") + error.what());
    }
    std::cout << (failures == before ? "passed " : "FAILED ") << test.group << "." << test.name << "\n";
  }
  if (count == 0) report_failure(group.c_str(), 0, "there is no test in this group");
  return failures;
}

}  // namespace npu::test

int main(int argc, char** argv) {
  int failed = argc < 2 ? 1 : 0;
  for (int i = 1; i < argc; ++i) failed = npu::test::run(argv[i]);
  return failed == 0 ? 0 : 1;
}
