// Owned Objective-C objects. The driver is compiled without ARC on every platform: GNUstep has none.
#pragma once

#import <Foundation/Foundation.h>

// macOS 15 features are used where both the SDK and the system have them.
#if !defined(__APPLE__) || __has_include(<Metal/MTLResidencySet.h>)
#define NPU_SDK_15 1
#else
#define NPU_SDK_15 0
#endif

#include <exception>
#include <string>
#include <utility>

namespace npu::metal {

template <class T>
class Ref {
 public:
  Ref() = default;
  static Ref adopt(T object) { return Ref(object); }  // of new..., alloc, copy
  static Ref share(T object) { return Ref([object retain]); }
  Ref(const Ref& other) : object_([other.object_ retain]) {}
  Ref(Ref&& other) noexcept : object_(std::exchange(other.object_, nil)) {}
  Ref& operator=(Ref other) noexcept {
    std::swap(object_, other.object_);
    return *this;
  }
  ~Ref() { [object_ release]; }

  T get() const { return object_; }
  explicit operator bool() const { return object_ != nil; }

 private:
  explicit Ref(T object) : object_(object) {}
  T object_ = nil;
};

// f() in a pool of its own, which is emptied also when it throws.
template <class F>
auto in_pool(F f) -> decltype(f()) {
  std::exception_ptr failure;
  @autoreleasepool {
    try {
      return f();
    } catch (...) {
      failure = std::current_exception();
    }
  }
  std::rethrow_exception(failure);
}

inline NSString* text(const std::string& value) { return [NSString stringWithUTF8String:value.c_str()]; }
inline std::string text(NSString* value) {
  return value == nil ? std::string() : std::string([value UTF8String]);
}
inline std::string text(NSError* error) {
  return error == nil ? std::string("no reason given") : text([error localizedDescription]);
}

}  // namespace npu::metal
