// What the lowering writes calls of: threadgroup variables, entry points, and the tables that the machine
// reads when it has loaded the library.
#pragma once

#include "abi.h"
#include "simd.h"

namespace softmetal {

inline KernelEntry* kernel_list = nullptr;
inline ConstantEntry** constant_list_end = nullptr;
inline ConstantEntry* constant_list = nullptr;

// --- threadgroup variables: `Kernel` is a type of the kernel's own, so each instantiation has its layout ---

constexpr unsigned long kVariableGuard =
    64;  // between variables, so that one cannot run into the next unseen

template <class Kernel>
inline Layout layout_of = {};

template <class T>
unsigned long reserve(Layout& layout, const char* name) {
  unsigned long offset = layout.end + kVariableGuard;
  unsigned long rounded = (sizeof(T) + 15) / 16 * 16;
  layout.variables[layout.count < 63 ? layout.count++ : 63] = {name, offset, sizeof(T)};
  layout.bytes += rounded;
  layout.end = offset + rounded;
  return offset;
}

struct Name {
  char text[48] = {};
  template <unsigned long n>
  consteval Name(const char (&name)[n]) {
    for (unsigned long i = 0; i + 1 < n && i < 47; ++i) text[i] = name[i];
  }
};

template <class Kernel, Name name, class T>
struct Variable {
  static inline const unsigned long offset = reserve<T>(layout_of<Kernel>, name.text);
};

template <class Kernel, Name name, class T>
inline T& variable(Group& group) {
  return *reinterpret_cast<T*>(group.memory + Variable<Kernel, name, T>::offset);
}

template <class Kernel>
inline bool measures(Group& group) {
  if (__builtin_expect(!group.measured, 1)) return false;
  *group.measured = &layout_of<Kernel>;
  return true;
}

// --- arguments ---

template <class P>
struct Indices {
  static P from(Extent e) { return static_cast<P>(e.x); }
};
template <class T>
struct Indices<metal::vec<T, 2>> {
  static metal::vec<T, 2> from(Extent e) { return {static_cast<T>(e.x), static_cast<T>(e.y)}; }
};
template <class T>
struct Indices<metal::vec<T, 3>> {
  static metal::vec<T, 3> from(Extent e) {
    return {static_cast<T>(e.x), static_cast<T>(e.y), static_cast<T>(e.z)};
  }
};

inline Extent index_of(Source source, const Group& g, const Thread& t) {
  switch (source) {
    case Source::thread_position_in_grid:
      return {g.position.x * g.nominal_threads.x + t.position.x,
              g.position.y * g.nominal_threads.y + t.position.y,
              g.position.z * g.nominal_threads.z + t.position.z};
    case Source::threadgroup_position_in_grid:
      return g.position;
    case Source::thread_position_in_threadgroup:
      return t.position;
    case Source::thread_index_in_threadgroup:
      return {t.index, 0, 0};
    case Source::thread_index_in_simdgroup:
      return {t.lane, 0, 0};
    case Source::simdgroup_index_in_threadgroup:
      return {t.index / kSimdWidth, 0, 0};
    case Source::threads_per_threadgroup:
      return g.threads;
    case Source::dispatch_threads_per_threadgroup:
      return g.nominal_threads;
    case Source::threadgroups_per_grid:
      return g.groups;
    case Source::threads_per_grid:
      return g.grid;
    case Source::threads_per_simdgroup:
      return {kSimdWidth, 0, 0};
    case Source::simdgroups_per_threadgroup:
      return {(g.thread_count + kSimdWidth - 1) / kSimdWidth, 0, 0};
    case Source::thread_index_in_quadgroup:
      return {t.index % 4, 0, 0};
    case Source::quadgroup_index_in_threadgroup:
      return {t.index / 4, 0, 0};
    default:
      return {0, 0, 0};
  }
}

constexpr unsigned code(Source source, unsigned index = 0) {
  return static_cast<unsigned>(source) * 256 + index;
}

template <class P, unsigned Code>
inline P fetch(Group& g, Thread& t) {
  constexpr Source source = static_cast<Source>(Code / 256);
  using Plain = metal::remove_reference_t<P>;
  if constexpr (source == Source::buffer || source == Source::threadgroup_memory) {
    void* memory = source == Source::buffer ? g.buffers[Code % 256] : g.arguments[Code % 256];
    if constexpr (__is_reference(P))
      return *static_cast<Plain*>(memory);
    else
      return static_cast<P>(memory);
  } else {
    return Indices<metal::remove_cv_t<Plain>>::from(index_of(source, g, t));
  }
}

// --- registration ---

struct ArgumentText {
  const char* name;
  const char* condition;
};

template <class T>
constexpr unsigned long size_of() {
  if constexpr (__is_same(metal::remove_cv_t<T>, void))
    return 1;
  else
    return sizeof(T);
}

template <class T>
constexpr unsigned long alignment_of() {
  if constexpr (__is_same(metal::remove_cv_t<T>, void))
    return 1;
  else
    return alignof(T);
}

template <class P, unsigned Code>
constexpr Argument describe(ArgumentText text) {
  using Object =
      metal::conditional_t<__is_reference(P), metal::remove_reference_t<P>, metal::remove_pointer_t<P>>;
  Argument result{text.name, text.condition, static_cast<Source>(Code / 256), Code % 256, false, false, 0, 1};
  if constexpr (Code / 256 <= static_cast<unsigned>(Source::threadgroup_memory)) {
    static_assert(__is_reference(P) || __is_pointer(P), "buffers are pointers or references");
    result.writable = !__is_const(Object);
    result.reference = __is_reference(P);
    result.bytes = size_of<Object>();
    result.alignment = alignment_of<Object>();
  }
  return result;
}

template <auto Function, class Parameters, unsigned... Codes>
struct Entry;
template <auto Function, class... P, unsigned... Codes>
struct Entry<Function, void (*)(Group&, P...), Codes...> {
  static_assert(sizeof...(P) == sizeof...(Codes));
  static void run(Group& g, Thread& t) { Function(g, fetch<P, Codes>(g, t)...); }

  template <class... Texts>
  static const Argument* arguments(Texts... texts) {
    static const Argument table[sizeof...(P) + 1] = {describe<P, Codes>(texts)...};
    return table;
  }
};

template <auto Function, unsigned... Codes>
struct KernelRegistration {
  KernelEntry entry;
  template <class... Texts>
  KernelRegistration(const char* name, unsigned max_threads, Texts... texts) {
    using E = Entry<Function, decltype(Function), Codes...>;
    entry = {name, &E::run, E::arguments(ArgumentText(texts)...), sizeof...(Codes), max_threads, kernel_list};
    kernel_list = &entry;
  }
};

template <class T>
constexpr char element_kind() {
  using S = typename metal::vector_traits<T>::scalar;
  if (metal::is_same_v<S, bool>) return 'b';
  if (metal::is_same_v<S, half>) return 'h';
  if (metal::is_floating_point_v<S>) return 'f';
  return metal::is_signed_v<S> ? 'i' : 'u';
}

struct ConstantRegistration {
  ConstantEntry entry;
  template <class T>
  ConstantRegistration(T*, const char* name, unsigned index, bool required, void (*set)(const void*),
                       const void* (*address)()) {
    entry = {name,
             index,
             sizeof(T),
             element_kind<T>(),
             static_cast<unsigned>(metal::vector_traits<T>::lanes),
             required,
             set,
             address,
             nullptr};
    if (!constant_list_end) constant_list_end = &constant_list;
    *constant_list_end = &entry;
    constant_list_end = &entry.next;
  }
};

template <class T>
inline void assign(T& constant, const void* value) {
  constant = T();
  if (value) __builtin_memcpy(&constant, value, sizeof(T));
}

}  // namespace softmetal

extern "C" __attribute__((visibility("default"), used)) inline softmetal::LibraryTable softmetal_library() {
  return {softmetal::kAbiVersion, softmetal::kernel_list, softmetal::constant_list,
          [](const softmetal::Runtime* runtime) { softmetal::runtime = runtime; }};
}

#ifdef SOFTMETAL_CHECKED
// What clang's address instrumentation calls before each access. There is no runtime yet while the library is
// being loaded.
#define SOFTMETAL_HOOK extern "C" __attribute__((used, noinline, no_sanitize("kernel-address"))) inline void
#define SOFTMETAL_REPORT(bytes, kind) \
  if (softmetal::runtime) softmetal::runtime->access(at, bytes, softmetal::kind, __builtin_return_address(0))
#define SOFTMETAL_SIZED_HOOKS(bytes)                                                        \
  SOFTMETAL_HOOK __asan_load##bytes##_noabort(void* at) { SOFTMETAL_REPORT(bytes, kRead); } \
  SOFTMETAL_HOOK __asan_store##bytes##_noabort(void* at) { SOFTMETAL_REPORT(bytes, kWrite); }
SOFTMETAL_SIZED_HOOKS(1)
SOFTMETAL_SIZED_HOOKS(2)
SOFTMETAL_SIZED_HOOKS(4)
SOFTMETAL_SIZED_HOOKS(8)
SOFTMETAL_SIZED_HOOKS(16)
SOFTMETAL_HOOK __asan_loadN_noabort(void* at, unsigned long bytes) { SOFTMETAL_REPORT(bytes, kRead); }
SOFTMETAL_HOOK __asan_storeN_noabort(void* at, unsigned long bytes) { SOFTMETAL_REPORT(bytes, kWrite); }
SOFTMETAL_HOOK __asan_handle_no_return() {}
#define SOFTMETAL_BLOCK_HOOK \
  extern "C" __attribute__((used, noinline, no_sanitize("kernel-address"))) inline void*
SOFTMETAL_BLOCK_HOOK __asan_memset(void* at, int value, unsigned long bytes) {
  SOFTMETAL_REPORT(bytes, kWrite);
  return __builtin_memset(at, value, bytes);
}
SOFTMETAL_BLOCK_HOOK __asan_memmove(void* to, const void* from, unsigned long bytes) {
  void* at = const_cast<void*>(from);
  SOFTMETAL_REPORT(bytes, kRead);
  at = to;
  SOFTMETAL_REPORT(bytes, kWrite);
  return __builtin_memmove(to, from, bytes);
}
SOFTMETAL_BLOCK_HOOK __asan_memcpy(void* to, const void* from, unsigned long bytes) {
  return __asan_memmove(to, from, bytes);
}
#undef SOFTMETAL_BLOCK_HOOK

// What clang calls where a pointer is not aligned as its type wants to be.
namespace softmetal {
struct Misalignment {
  const char* file;
  unsigned line, column;
  const void* type;
  unsigned char log_alignment, kind;
};
}  // namespace softmetal
SOFTMETAL_HOOK __ubsan_handle_type_mismatch_v1(const softmetal::Misalignment* misalignment, void* at) {
  if (softmetal::runtime)
    softmetal::runtime->misaligned(
        at, 1ul << misalignment->log_alignment,
        {misalignment->file, static_cast<int>(misalignment->line), static_cast<int>(misalignment->column)});
}
#undef SOFTMETAL_SIZED_HOOKS
#undef SOFTMETAL_REPORT
#undef SOFTMETAL_HOOK
#endif
