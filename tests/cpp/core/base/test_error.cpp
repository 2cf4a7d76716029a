#include "npu/error.h"
#include "support/check.h"

using npu::Error;
using npu::ErrorKind;

TEST(error, all_parts) {
  const Error error(ErrorKind::kInvalidValue,
                    {"plan", "no such op", "\"foo\"", "a known op", "spelling it right"});
  CHECK_EQ(std::string(error.what()),
           "[plan] no such op; got \"foo\"; expected a known op; try spelling it right");
  CHECK(error.kind() == ErrorKind::kInvalidValue);
}

TEST(error, empty_parts_are_left_out) {
  const Error error(ErrorKind::kInternal, {"plan", "went wrong", "", "", ""});
  CHECK_EQ(std::string(error.what()), "[plan] went wrong");
}

TEST(error, quoted_escapes_and_shortens) {
  CHECK_EQ(npu::quoted("a\"b\\\n\xff"), "\"a\\\"b\\\\\\x0a\\xff\"");
  const std::string text = npu::quoted(std::string(5000, 'x'));
  CHECK(text.size() < 200);
  CHECK(text.find("(5000 bytes)") != std::string::npos);
}
