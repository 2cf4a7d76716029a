// Lowers every library of folders of kernels, which may include files of each other, when the project is
// built: npu-lower-kernels FOLDER... OUTPUT.cpp
#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <iterator>
#include <map>
#include <string>
#include <vector>

#include "cuda/lower/lower.h"
#include "msl/error.h"

namespace {

namespace fs = std::filesystem;
using namespace npu::cuda;

std::optional<std::string> read(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) return std::nullopt;
  return std::string(std::istreambuf_iterator<char>(file), {});
}

std::string quoted(const std::string& s) {
  std::string result = "\"";
  for (const char c : s) result += (c == '"' || c == '\\' ? "\\" : "") + std::string(1, c);
  return result + "\"";
}

class Writer {
 public:
  void add(const Lowered& library) {
    const std::string id = std::to_string(count_++);
    arrays_ += "const EmbeddedConstant constants_" + id + "[] = {\n";
    for (const LoweredConstant& constant : library.constants)
      arrays_ += "    {" + std::to_string(constant.number) + ", " + quoted(constant.name) + ", " +
                 (constant.required ? "true" : "false") + "},\n";
    arrays_ += "    {-1, nullptr, false}};\n";
    std::string kernels = "const EmbeddedKernel kernels_" + id + "[] = {\n";
    for (const LoweredKernel& kernel : library.kernels)
      kernels += "    {" + quoted(kernel.name) + ", " + quoted(kernel.call) + ", " + parameters(kernel) +
                 ", " + std::to_string(kernel.parameters.size()) + "},\n";
    arrays_ += kernels + "    {nullptr, nullptr, nullptr, 0}};\n";
    libraries_ += "    {" + quoted(library.name) + ", R\"CUDA(" + library.text + ")CUDA\", constants_" + id +
                  ", " + std::to_string(library.constants.size()) + ", kernels_" + id + ", " +
                  std::to_string(library.kernels.size()) + "},\n";
  }

  std::string text() const {
    return "#include \"cuda/lower/library.h\"\n\nnamespace npu::cuda {\n\nnamespace {\n\n" + arrays_ +
           "\n}  // namespace\n\nconst EmbeddedLibrary kLibraries[] = {\n" + libraries_ +
           "    {{}, {}, nullptr, 0, nullptr, 0},\n};\n\n}  // namespace npu::cuda\n";
  }

 private:
  // Instances of a template share the array of their parameters.
  std::string parameters(const LoweredKernel& kernel) {
    std::string list;
    for (const KernelParameter& parameter : kernel.parameters)
      list += "    {KernelParameter::Kind(" + std::to_string(static_cast<int>(parameter.kind)) + "), " +
              std::to_string(parameter.number) + ", " + quoted(parameter.text) + ", " +
              quoted(parameter.condition) + "},\n";
    const auto [entry, added] = known_.emplace(list, "parameters_" + std::to_string(known_.size()));
    if (added)
      arrays_ += "const EmbeddedParameter " + entry->second + "[] = {\n" + list +
                 "    {KernelParameter::Kind::kInput, 0, nullptr, nullptr}};\n";
    return entry->second;
  }

  std::string arrays_, libraries_;
  std::map<std::string, std::string> known_;
  int count_ = 0;
};

int run(const std::vector<fs::path>& folders, const fs::path& output) {
  std::vector<fs::path> files;
  for (const fs::path& folder : folders) {
    for (const auto& entry : fs::directory_iterator(folder))
      if (entry.path().extension() == ".metal") files.push_back(entry.path());
  }
  std::sort(files.begin(), files.end());
  const auto find = [&](const std::string& name) {
    std::optional<std::string> text;
    for (auto folder = folders.begin(); folder != folders.end() && !text; ++folder)
      text = read(*folder / name);
    return text;
  };
  Writer writer;
  for (const fs::path& file : files) {
    Lowered library = lower(read(file).value_or(""), file.filename().string(), find);
    library.name = file.stem().string();
    writer.add(library);
  }
  std::ofstream(output, std::ios::binary) << writer.text();
  return fs::exists(output) ? 0 : 1;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 3) {
    std::cerr << "usage: npu-lower-kernels FOLDER... OUTPUT.cpp\n";
    return 2;
  }
  try {
    return run({argv + 1, argv + argc - 1}, argv[argc - 1]);
  } catch (const std::exception& error) {
    std::cerr << error.what() << "\n";
    return 1;
  }
}
