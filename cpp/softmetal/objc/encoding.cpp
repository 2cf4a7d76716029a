#include "objc/encoding.h"

#include <cstring>

namespace softmetal {

namespace {
constexpr std::size_t kMostBytes = 4096;

void check_index(const char* call, std::size_t index, std::size_t count) {
  if (index >= count) refuse(call, "index " + std::to_string(index) + "; there are " + std::to_string(count));
}
}  // namespace

void Encoding::check_open(const char* call) const {
  if (pass_->ended) refuse(call, "the encoder has ended");
}

void Encoding::set_pipeline(std::shared_ptr<const Pipeline> pipeline) {
  check_open("setComputePipelineState:");
  if (!pipeline) refuse("setComputePipelineState:", "there is no pipeline");
  pipeline_ = std::move(pipeline);
}

void Encoding::set_buffer(std::shared_ptr<Buffer> buffer, std::size_t offset, std::size_t index) {
  const char* call = "setBuffer:offset:atIndex:";
  check_open(call);
  check_index(call, index, kMaxBuffers);
  BoundArgument& bound = bound_[index];
  bound = {};
  bound.index = static_cast<unsigned>(index);
  if (!buffer) return;
  if (offset >= buffer->length())
    refuse(call, "offset " + std::to_string(offset) + " in a buffer of " + std::to_string(buffer->length()) +
                     " bytes");
  bound.offset = offset;
  bound.seen = buffer;
  if (retained_) bound.kept = std::move(buffer);
  bound.bound = true;
}

void Encoding::set_offset(std::size_t offset, std::size_t index) {
  const char* call = "setBufferOffset:atIndex:";
  check_open(call);
  check_index(call, index, kMaxBuffers);
  auto buffer = bound_[index].seen.lock();
  if (!buffer) refuse(call, "no buffer is bound at index " + std::to_string(index));
  if (offset >= buffer->length())
    refuse(call, "offset " + std::to_string(offset) + " in a buffer of " + std::to_string(buffer->length()) +
                     " bytes");
  bound_[index].offset = offset;
}

void Encoding::set_bytes(const void* bytes, std::size_t length, std::size_t index) {
  const char* call = "setBytes:length:atIndex:";
  check_open(call);
  check_index(call, index, kMaxBuffers);
  if (!bytes || length == 0) refuse(call, "there are no bytes");
  if (length > kMostBytes) refuse(call, std::to_string(length) + " bytes; it takes at most 4096");
  BoundArgument& bound = bound_[index];
  bound = {};
  bound.index = static_cast<unsigned>(index);
  auto* first = static_cast<const unsigned char*>(bytes);
  bound.bytes.assign(first, first + length);
  bound.bound = true;
}

void Encoding::set_threadgroup_memory(std::size_t length, std::size_t index) {
  const char* call = "setThreadgroupMemoryLength:atIndex:";
  check_open(call);
  check_index(call, index, kMaxThreadgroupArguments);
  if (length % 16) refuse(call, std::to_string(length) + " bytes is no multiple of 16");
  threadgroup_bytes_[index] = length;
}

void Encoding::barrier(std::vector<std::weak_ptr<Buffer>> resources) {
  check_open("memoryBarrier");
  Command command;
  command.kind = Command::barrier;
  command.resources = std::move(resources);
  pass_->commands.push_back(std::move(command));
}

void Encoding::pop_group() {
  check_open("popDebugGroup");
  if (groups_ == 0) refuse("popDebugGroup", "no group was pushed");
  --groups_;
}

void Encoding::end() {
  check_open("endEncoding");
  if (groups_) refuse("endEncoding", "a debug group is still open");
  pass_->ended = true;
}

void Encoding::dispatch_groups(Extent groups, Extent threads) {
  dispatch("dispatchThreadgroups:threadsPerThreadgroup:",
           {groups.x * threads.x, groups.y * threads.y, groups.z * threads.z}, threads);
}

void Encoding::dispatch_threads(Extent grid, Extent threads) {
  dispatch("dispatchThreads:threadsPerThreadgroup:", grid, threads);
}

void Encoding::check_alignment(const char* call, const Argument& argument, const BoundArgument& bound) const {
  if (!bound.bytes.empty() || bound.offset % argument.alignment == 0) return;
  refuse(call, "buffer " + std::to_string(argument.index) + " (" + argument.name + ") of " +
                   pipeline_->function.name() + " is bound at offset " + std::to_string(bound.offset) +
                   ", which its type wants to be a multiple of " + std::to_string(argument.alignment));
}

// The command takes with it what its kernel reads; everything stays bound for the next.
void Encoding::dispatch(const char* call, Extent grid, Extent threads) {
  check_open(call);
  if (!pipeline_) refuse(call, "no pipeline is set");
  std::size_t count = std::size_t{threads.x} * threads.y * threads.z;
  if (count > pipeline_->max_threads)
    refuse(call, std::to_string(count) + " threads per threadgroup; the pipeline of " +
                     pipeline_->function.name() + " allows " + std::to_string(pipeline_->max_threads));
  Command command;
  command.pipeline = pipeline_;
  command.grid = grid;
  command.threads = threads;
  Launch launch;
  launch.function = &pipeline_->function;
  launch.grid = grid;
  launch.threads = threads;
  for (const Argument& argument : pipeline_->function.arguments()) {
    if (argument.source == Source::threadgroup_memory) {
      command.threadgroup_bytes[argument.index] = threadgroup_bytes_[argument.index];
      launch.threadgroup_bytes[argument.index] = threadgroup_bytes_[argument.index];
      continue;
    }
    BoundArgument& bound = bound_[argument.index];
    auto buffer = bound.seen.lock();
    if (!bound.bytes.empty())
      launch.buffers[argument.index] = {bound.bytes.data(), bound.bytes.size()};
    else if (buffer)
      launch.buffers[argument.index] = {buffer->data(), buffer->length() - bound.offset};
    if (bound.bound) check_alignment(call, argument, bound);
    command.arguments.push_back(bound);
  }
  if (auto fault = check_launch(launch)) refuse(call, fault->text);
  pass_->commands.push_back(std::move(command));
}

}  // namespace softmetal
