// Loads a program, runs it on random weights and prints the shape of its first output.
#include <npu/npu.h>

#include <iostream>

int main(int argc, char** argv) {
  if (argc != 2) return 2;
  try {
    const npu::Program program = npu::Program::load(argv[1]);
    const npu::Executor executor(program, npu::Device::open());
    std::vector<npu::Buffer> inputs;
    for (const npu::TensorSpec& spec : program.inputs()) {
      inputs.push_back(npu::Buffer::allocate(spec.dtype, spec.shape, true));
    }
    const auto outputs = executor.run(inputs, npu::Weights::random(program));
    std::cout << program.model_name() << " " << npu::shape_text(outputs.at(0).shape()) << "\n";
  } catch (const npu::Error& error) {
    std::cerr << error.what() << "\n";
    return 1;
  }
  return 0;
}
