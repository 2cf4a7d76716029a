#include "image.h"

#include <dlfcn.h>
#include <link.h>

#include <cstdio>
#include <cstring>

#include "process.h"
#include "worker.h"

namespace softmetal {

namespace {

struct Extents {
  const char* name;
  const char* begin;
  const char* end;
};

int find_extents(dl_phdr_info* info, size_t, void* data) {
  auto& wanted = *static_cast<Extents*>(data);
  if (std::strcmp(info->dlpi_name, wanted.name) != 0) return 0;
  const char* base = reinterpret_cast<const char*>(info->dlpi_addr);
  wanted.begin = base;
  for (int i = 0; i < info->dlpi_phnum; ++i) {
    const auto& segment = info->dlpi_phdr[i];
    const char* stop = base + segment.p_vaddr + segment.p_memsz;
    if (segment.p_type == PT_LOAD && stop > wanted.end) wanted.end = stop;
  }
  return 1;
}

}  // namespace

Image::Image(const std::string& path) : path_(path), handle_(dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL)) {
  if (!handle_) throw MachineError(std::string("cannot load a compiled library: ") + dlerror());
  auto* entry = reinterpret_cast<LibraryTable (*)()>(dlsym(handle_, "softmetal_library"));
  if (entry) table_ = entry();
  if (!entry || table_.version != kAbiVersion) {
    dlclose(handle_);
    throw MachineError(path + " is no library of this version of the shader machine");
  }
  table_.bind(&Worker::runtime());
  Extents extents{path_.c_str(), nullptr, nullptr};
  dl_iterate_phdr(find_extents, &extents);
  begin_ = extents.begin;
  end_ = extents.end;
}

Image::~Image() { dlclose(handle_); }

const KernelEntry* Image::find(const std::string& name) const {
  for (const KernelEntry* kernel = table_.kernels; kernel; kernel = kernel->next)
    if (name == kernel->name) return kernel;
  return nullptr;
}

// A kernel called with a pointer for its layout fills it in and returns at once.
const Layout& Image::layout(const KernelEntry& kernel) const {
  const Layout* layout = nullptr;
  alignas(64) static char nothing[4096];
  Group group{};
  Thread thread{};
  group.measured = &layout;
  group.nominal_threads = group.threads = group.grid = group.groups = {1, 1, 1};
  for (void*& buffer : group.buffers) buffer = nothing;
  for (void*& argument : group.arguments) argument = nothing;
  kernel.entry(group, thread);
  return *layout;
}

bool Image::holds(const void* address) const {
  const char* at = static_cast<const char*>(address);
  return at >= begin_ && at < end_;
}

std::string Image::line_of(const void* code) const {
  if (!holds(code)) return {};
  char offset[32];
  // A return address is that of the instruction after the call.
  std::snprintf(offset, sizeof offset, "0x%zx",
                static_cast<size_t>(static_cast<const char*>(code) - begin_) - 1);
  ProcessResult result = run_process({"addr2line", "-e", path_, offset});
  std::string line = result.output.substr(0, result.output.find('\n'));
  if (result.status != 0 || line.starts_with("??")) return {};
  line = line.substr(0, line.find(" ("));
  return line.starts_with("./") ? line.substr(2) : line;
}

}  // namespace softmetal
