#include <cstring>
#include <fstream>
#include <mutex>
#include <sstream>

#include "image.h"

namespace softmetal {

const char* name_of(Fault::Kind kind) {
  switch (kind) {
    case Fault::out_of_bounds:
      return "out of bounds";
    case Fault::misaligned:
      return "misaligned";
    case Fault::read_only:
      return "read only";
    case Fault::race:
      return "race";
    case Fault::uninitialised:
      return "uninitialised";
    case Fault::divergence:
      return "divergence";
    case Fault::missing_barrier:
      return "missing barrier";
    case Fault::launch:
      return "launch";
  }
  return "?";
}

struct Library::State {
  std::string source;
  CompileOptions options;
  std::mutex mutex;
  std::unique_ptr<Image> images[2];
};

Library::Library(std::string source, CompileOptions options) : state_(std::make_unique<State>()) {
  state_->source = std::move(source);
  state_->options = std::move(options);
}

Library::~Library() = default;

std::shared_ptr<Library> Library::from_source(std::string source, CompileOptions options) {
  return std::shared_ptr<Library>(new Library(std::move(source), std::move(options)));
}

std::shared_ptr<Library> Library::from_file(const std::string& path, CompileOptions options) {
  std::ifstream in(path, std::ios::binary);
  std::ostringstream text;
  text << in.rdbuf();
  if (!in) throw MachineError("cannot read " + path);
  size_t slash = path.rfind('/');
  options.include_directories.insert(options.include_directories.begin(),
                                     slash == std::string::npos ? "." : path.substr(0, slash));
  options.name = path;
  return from_source(text.str(), std::move(options));
}

const Image& Library::image(Mode mode) const {
  std::lock_guard lock(state_->mutex);
  auto& image = state_->images[static_cast<int>(mode)];
  if (!image) image = std::make_unique<Image>(compile(state_->source, state_->options, mode));
  return *image;
}

std::vector<std::string> Library::function_names(Mode mode) const {
  std::vector<std::string> names;
  for (const KernelEntry* kernel = image(mode).table().kernels; kernel; kernel = kernel->next)
    names.insert(names.begin(), kernel->name);
  return names;
}

Function::Function(std::shared_ptr<const Library> library, const std::string& name,
                   std::vector<ConstantValue> constants, Mode mode)
    : library_(std::move(library)), name_(name), constants_(std::move(constants)), mode_(mode) {
  entry_ = image().find(name);
  if (!entry_) {
    std::string known;
    for (const std::string& other : library_->function_names(mode))
      known += (known.empty() ? "" : ", ") + other;
    throw MachineError("the library has no function " + name + "; it has " +
                       (known.empty() ? "none" : known));
  }
  layout_ = &image().layout(*entry_);
  check_constants();
  find_arguments();
}

const Image& Function::image() const { return library_->image(mode_); }

unsigned Function::max_threads() const {
  return entry_->max_threads ? entry_->max_threads : kMaxThreadsPerThreadgroup;
}

namespace {

const ConstantValue* value_of(const ConstantEntry& entry, const std::vector<ConstantValue>& values) {
  for (const ConstantValue& value : values)
    if (value.name.empty() ? value.index == entry.index : value.name == entry.name) return &value;
  return nullptr;
}

}  // namespace

void Function::check_constants() const {
  for (const ConstantEntry* entry = image().table().constants; entry; entry = entry->next) {
    if (entry->index == kComputed) continue;
    std::string what =
        std::string("function constant ") + entry->name + " (" + std::to_string(entry->index) + ")";
    for (const ConstantEntry* other = entry->next; other; other = other->next)
      if (other->index == entry->index) throw MachineError(what + " has the number of " + other->name);
    const ConstantValue* value = value_of(*entry, constants_);
    if (!value && entry->required) throw MachineError("function " + name_ + ": " + what + " has no value");
    if (value && (value->bytes.size() != entry->bytes || (value->kind && value->kind != entry->kind) ||
                  (value->kind && value->lanes != entry->lanes)))
      throw MachineError("function " + name_ + ": " + what + " was given a value of another type");
  }
}

void Function::set_constants() const {
  for (const ConstantEntry* entry = image().table().constants; entry; entry = entry->next) {
    const ConstantValue* value = entry->index == kComputed ? nullptr : value_of(*entry, constants_);
    entry->set(value ? value->bytes.data() : nullptr);
  }
}

void Function::find_arguments() {
  for (unsigned i = 0; i < entry_->argument_count; ++i) {
    const Argument& argument = entry_->arguments[i];
    if (argument.source != Source::buffer && argument.source != Source::threadgroup_memory) continue;
    bool exists = true;
    if (argument.condition) {
      set_constants();
      for (const ConstantEntry* c = image().table().constants; c; c = c->next)
        if (std::strcmp(c->name, argument.condition) == 0) exists = *static_cast<const bool*>(c->address());
    }
    if (!exists) continue;
    for (const Argument& other : arguments_)
      if (other.source == argument.source && other.index == argument.index)
        throw MachineError("function " + name_ + ": arguments " + other.name + " and " + argument.name +
                           " have one number, " + std::to_string(argument.index));
    arguments_.push_back(argument);
  }
}

}  // namespace softmetal
