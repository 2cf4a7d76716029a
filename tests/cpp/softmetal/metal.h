// What the tests of the API share: a device, a library of small kernels, and owned objects.
#pragma once

#import <Metal/Metal.h>

#include <string>
#include <vector>

#include "control.h"
#include "support/check.h"

namespace npu::test {

// An object that is released at the end of its scope.
template <class T>
class Owned {
 public:
  explicit Owned(T object) : object_(object) {}
  Owned(const Owned&) = delete;
  Owned& operator=(const Owned&) = delete;
  ~Owned() { [object_ release]; }
  T get() const { return object_; }
  operator T() const { return object_; }

 private:
  T object_;
};

inline std::string text(NSError* error) { return error ? [[error localizedDescription] UTF8String] : ""; }

inline bool contains(const std::string& text, const std::string& fragment) {
  return text.find(fragment) != std::string::npos;
}

}  // namespace npu::test

#define CHECK_CONTAINS(whole, fragment)                                           \
  if (const std::string actual = (whole); !npu::test::contains(actual, fragment)) \
  npu::test::report_failure(__FILE__, __LINE__, "'" + actual + "' does not contain '" + (fragment) + "'")

#define CHECK_REFUSED(expression, fragment)                                        \
  try {                                                                            \
    (void)(expression);                                                            \
    npu::test::report_failure(__FILE__, __LINE__, #expression " was not refused"); \
  } catch (const softmetal::Refusal& refusal) {                                    \
    CHECK_CONTAINS(refusal.what(), fragment);                                      \
  }
