/* The shader machine for callers that are not C++: the Python harness of kernel tests. Functions that can
   fail return null or a text that stays valid until the same thread calls again. */
#pragma once

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct softmetal_buffer {
  void* data; /* null: nothing is bound */
  size_t bytes;
  int initialised; /* 0: reading a byte that no kernel wrote is an error in checked mode */
} softmetal_buffer;

typedef struct softmetal_constant {
  unsigned index;
  const char* name; /* null: by index */
  const void* data;
  size_t bytes;
} softmetal_constant;

typedef struct softmetal_launch {
  const char* kernel;
  int checked;
  const softmetal_buffer* buffers; /* by index */
  size_t buffer_count;
  const softmetal_constant* constants;
  size_t constant_count;
  const size_t* threadgroup_bytes; /* by index */
  size_t threadgroup_count;
  unsigned grid[3]; /* in threads */
  unsigned threads[3];
} softmetal_launch;

/* `includes` and `macros` (NAME=VALUE) hold one entry a line. */
void* softmetal_open(const char* source, const char* name, const char* includes, const char* macros);
void softmetal_close(void* library);
const char* softmetal_error(void);
const char* softmetal_lowered(const char* source, const char* name, const char* includes, const char* macros);
const char* softmetal_functions(void* library, int checked); /* one a line */
const char* softmetal_run(void* library,
                          const softmetal_launch* launch); /* null: it ran; else what went wrong */

#ifdef __cplusplus
}
#endif
