// A test framework in one page: TEST(group, name) { CHECK(...); } and `npu_core_tests <group>...`.
#pragma once

#include <iostream>
#include <sstream>
#include <string>
#include <vector>

namespace npu::test {

struct Case {
  std::string group, name;
  void (*body)();
};

std::vector<Case>& cases();
void report_failure(const char* file, int line, const std::string& text);

struct Registration {
  Registration(const char* group, const char* name, void (*body)()) {
    cases().push_back({group, name, body});
  }
};

template <typename A, typename B>
void check_equal(const A& a, const B& b, const char* text, const char* file, int line) {
  if (a == b) return;
  std::ostringstream message;
  message << text << ": " << a << " != " << b;
  report_failure(file, line, message.str());
}

}  // namespace npu::test

#define TEST(group, name)                                                                                   \
  static void test_##group##_##name();                                                                      \
  static const npu::test::Registration registration_##group##_##name(#group, #name, test_##group##_##name); \
  static void test_##group##_##name()

#define CHECK(condition) \
  if (!(condition)) npu::test::report_failure(__FILE__, __LINE__, #condition)

#define CHECK_EQ(a, b) npu::test::check_equal((a), (b), #a " == " #b, __FILE__, __LINE__)

#define CHECK_THROWS(expression, fragment)                                                               \
  try {                                                                                                  \
    (void)(expression);                                                                                  \
    npu::test::report_failure(__FILE__, __LINE__, #expression " did not throw");                         \
  } catch (const npu::Error& error) {                                                                    \
    if (std::string(error.what()).find(fragment) == std::string::npos)                                   \
      npu::test::report_failure(__FILE__, __LINE__, std::string("unexpected message: ") + error.what()); \
  }
