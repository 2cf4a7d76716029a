// What a compiled kernel library and the machine that runs it agree on. Both sides include this file: plain
// data and function pointers, no standard library.
#pragma once

namespace softmetal {

constexpr unsigned kSimdWidth = 32;
constexpr unsigned kMaxBuffers = 31;
constexpr unsigned kMaxThreadgroupArguments = 31;
constexpr unsigned kMaxThreadsPerThreadgroup = 1024;

// Where in the kernel's source something is called.
struct Site {
  const char* file;
  int line, column;
};

struct Extent {
  unsigned x, y, z;
};

// What the lanes of a simdgroup lay down for each other in one collective operation. The first lane that goes
// on after all have arrived fills `result`.
struct Slot {
  alignas(64) unsigned char values[1024];
  alignas(64) unsigned char result[1024];
  unsigned active;  // a bit for each lane that takes part
  bool combined;
};

struct Simdgroup {
  Slot slots[2];  // the lanes may be one collective apart, so two are in use
  unsigned epoch;
  unsigned live, ready, arrived, live_count;
  unsigned index;
  Site site;

  Slot& slot() { return slots[epoch & 1]; }
};

struct Thread {
  Simdgroup* simdgroup;
  unsigned lane, index;
  Extent position;  // in the threadgroup
  void* stack_pointer;
  void* stack;
};

struct ThreadgroupVariable {
  const char* name;
  unsigned long offset, bytes;
};

struct Layout {
  ThreadgroupVariable variables[64];
  unsigned count;
  unsigned long bytes;  // what counts against Metal's limit
  unsigned long end;    // with the guards between the variables
};

// What all threads of the threadgroup that a host thread runs have in common.
struct Group {
  const Layout** measured;  // set: the kernel stores its layout here and returns
  char* memory;             // of the threadgroup variables that the kernel declares
  void* buffers[kMaxBuffers];
  void* arguments[kMaxThreadgroupArguments];  // threadgroup memory that the encoder sizes
  Extent position, threads, nominal_threads, groups, grid;
  unsigned thread_count;
};

struct Runtime {
  Thread* (*current)();
  void (*wait)(Thread*, Site);  // until the whole simdgroup has arrived
  void (*barrier)(unsigned flags, Site);
  void (*simdgroup_barrier)(unsigned flags, Site);
  void (*fail)(const char* text, Site);  // does not return
  void (*misaligned)(void* address, unsigned long alignment, Site);
  void (*access)(void* address, unsigned long bytes, unsigned kind, void* caller);
};

enum AccessKind : unsigned { kRead = 0, kWrite = 1, kAtomic = 2 };

enum class Source : unsigned {
  buffer,
  threadgroup_memory,
  thread_position_in_grid,
  threadgroup_position_in_grid,
  thread_position_in_threadgroup,
  thread_index_in_threadgroup,
  thread_index_in_simdgroup,
  simdgroup_index_in_threadgroup,
  threads_per_threadgroup,
  dispatch_threads_per_threadgroup,
  threadgroups_per_grid,
  threads_per_grid,
  threads_per_simdgroup,
  simdgroups_per_threadgroup,
  thread_index_in_quadgroup,
  quadgroup_index_in_threadgroup,
};

struct Argument {
  const char* name;
  const char* condition;  // the function constant that decides whether it exists, or null
  Source source;
  unsigned index;
  bool writable;
  bool reference;       // bound memory must hold a whole object
  unsigned long bytes;  // of the object or of one element
  unsigned long alignment;
};

using EntryPoint = void (*)(Group&, Thread&);

struct KernelEntry {
  const char* name;
  EntryPoint entry;
  const Argument* arguments;
  unsigned argument_count;
  unsigned max_threads;  // 0: the kernel states no limit
  KernelEntry* next;
};

constexpr unsigned kComputed = ~0u;

struct ConstantEntry {
  const char* name;
  unsigned index;  // kComputed: a constant computed from others
  unsigned long bytes;
  char kind;                       // b(ool) i(nt) u(nsigned) f(loat) h(alf), by element
  unsigned lanes;                  // elements of a vector, 1 for a scalar
  bool required;                   // no code asks whether it is defined
  void (*set)(const void* value);  // null: undefined; thread-local
  const void* (*address)();
  ConstantEntry* next;
};

struct LibraryTable {
  unsigned version;
  KernelEntry* kernels;
  ConstantEntry* constants;
  void (*bind)(const Runtime*);
};

constexpr unsigned kAbiVersion = 4;

}  // namespace softmetal
