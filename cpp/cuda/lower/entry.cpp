#include "cuda/lower/entry.h"

#include <algorithm>
#include <cctype>
#include <span>

#include "cuda/lower/headers.h"
#include "npu/error.h"

namespace npu::cuda {

namespace {

// The bytes as words in constant memory, from which the compiler takes what is read.
std::string constant_words(std::span<const std::byte> bytes, const std::string& type,
                           const std::string& name) {
  std::vector<std::uint64_t> words((bytes.size() + 7) / 8);
  std::ranges::copy(bytes, std::as_writable_bytes(std::span(words)).begin());
  std::string text = "static_assert(sizeof(" + type + ") <= " + std::to_string(8 * words.size()) +
                     ", \"the arguments are too short\");\nalignas(16) static constexpr ulong " + name +
                     "[] = {";
  for (const std::uint64_t word : words) text += std::to_string(word) + "ul, ";
  return text + "};\n";
}

std::string threads_text(const std::array<std::uint32_t, 3>& threads) {
  if (threads[0] == 0) return "npu::block_size()";
  return "npu::Position{" + std::to_string(threads[0]) + ", " + std::to_string(threads[1]) + ", " +
         std::to_string(threads[2]) + "}";
}

// A block that ends has waited, so that what comes after it comes after all that it comes after.
constexpr const char* kWait = "  npu::wait_for_inputs();\n";

class EntryWriter {
 public:
  EntryWriter(const LoweredKernel& kernel, const EntryOptions& options)
      : kernel_(kernel), options_(options) {}

  std::string text() {
    for (const KernelParameter& parameter : kernel_.parameters) add(parameter);
    if (options_.as_line) {
      for (const char* const extent : {"across", "down", "deep"}) declare(std::string("uint npu_") + extent);
    }
    const std::string threads = threads_text(options_.threads);
    const std::string inputs = options_.as_line
                                   ? "npu::inputs_of_line(" + threads + ", npu_across, npu_down, npu_deep)"
                                   : "npu::inputs_of_grid(" + threads + ")";
    const std::uint32_t most = options_.threads[0] == 0
                                   ? static_cast<std::uint32_t>(options_.most_threads)
                                   : options_.threads[0] * options_.threads[1] * options_.threads[2];
    return "\n#line 1 \"entry of " + kernel_.name + "\"\n" + before_ +
           "extern \"C\" __global__ void __launch_bounds__(" + std::to_string(most) + ") " +
           entry_name(kernel_) + "(" + declared_ + ") {\n  npu::let_next_launch_begin();\n" +
           (options_.waits ? "" : kWait) + "  [[maybe_unused]] const npu::Inputs npu_inputs = " + inputs +
           ";\n  " + kernel_.call + "(" + passed_ + ");\n" + (options_.waits ? kWait : "") + "}\n";
  }

 private:
  void declare(const std::string& parameter) { declared_ += (declared_.empty() ? "" : ", ") + parameter; }
  void pass(const std::string& argument) { passed_ += (passed_.empty() ? "" : ", ") + argument; }

  void add(const KernelParameter& parameter) {
    using Kind = KernelParameter::Kind;
    const std::string name = "npu_" + std::to_string(count_++);
    switch (parameter.kind) {
      case Kind::kArgs:
        return add_args(parameter.text, name);
      case Kind::kBuffer:
        declare("void* " + name);
        return pass("npu::Pointer{" + name + "}");
      case Kind::kThreadgroup:
        return pass("npu::Pointer{npu_threadgroup}");
      case Kind::kInput:
        return pass("npu_inputs." + parameter.text + "()");
    }
  }

  void add_args(const std::string& type, const std::string& name) {
    if (options_.constant_args.empty()) {
      declare("const __grid_constant__ " + type + " " + name);
      return pass(name);
    }
    const std::string words = "args_of_" + entry_name(kernel_);
    before_ += constant_words(options_.constant_args, type, words);
    pass("*reinterpret_cast<const " + type + "*>(" + words + ")");
  }

  const LoweredKernel& kernel_;
  const EntryOptions& options_;
  std::string before_, declared_, passed_;
  int count_ = 0;
};

std::string constants_text(const Lowered& library, std::span<const ConstantBits> values) {
  std::string text;
  for (const LoweredConstant& constant : library.constants) {
    const auto has = [&](const ConstantBits& value) { return value.number == constant.number; };
    const auto value = std::find_if(values.begin(), values.end(), has);
    const auto refuse = [&](const std::string& what) {
      throw Error(ErrorKind::kInternal,
                  {.area = "cuda",
                   .what = "function constant " + constant.name + " (" + std::to_string(constant.number) +
                           ") of " + library.name + " has " + what});
    };
    if (value == values.end() && constant.required) refuse("no value");
    if (value != values.end() && std::find_if(value + 1, values.end(), has) != values.end())
      refuse("two values");
    const std::string name = "NPU_FC_" + std::to_string(constant.number);
    const bool defined = value != values.end();
    text += "#define " + name + " (" + std::to_string(defined ? value->bits : 0) + ")\n";
    if (!constant.required) text += "#define " + name + "_DEFINED " + (defined ? "1" : "0") + "\n";
  }
  return text;
}

}  // namespace

std::string entry_name(const LoweredKernel& kernel) {
  std::string name = "npu_" + kernel.name;
  std::replace_if(name.begin(), name.end(), [](unsigned char c) { return std::isalnum(c) == 0; }, '_');
  return name;
}

std::string entry_text(const LoweredKernel& kernel, const EntryOptions& options) {
  return EntryWriter(kernel, options).text();
}

std::string program_text(const Lowered& library, std::span<const ConstantBits> constants,
                         std::span<const std::string> entries) {
  std::string text = constants_text(library, constants);
  text += metal_stdlib();
  // Products of groups of simdgroups want their factors at multiples of 1024.
  text += "namespace metal {\nextern __shared__ __align__(1024) uint4 npu_threadgroup[];\n" + library.text;
  for (const std::string& entry : entries) text += entry;
  return text + "}  // namespace metal\n";
}

std::vector<std::string> compile_options(const std::string& architecture) {
  // With the instructions that Hopper alone has.
  const std::string own = architecture == "sm_90" ? "a" : "";
  return {"--gpu-architecture=" + architecture + own, "--std=c++20", "--device-as-default-execution-space",
          "--fmad=false", "--disable-warnings"};
}

}  // namespace npu::cuda
