// Tensors of Python as the core sees them.
#pragma once

#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>

#include <optional>
#include <string>
#include <vector>

#include "npu/npu.h"

namespace npu::bindings {

// What Python calls NPUBuffer. A donated one is used up; a read-only one belongs to weights or a session.
struct PyBuffer {
  Buffer buffer;
  bool donated = false;
  bool read_only = false;
};

// Throws when it has been donated.
const Buffer& alive(const PyBuffer& self);

// Keeps the memory for an array, which donation of the buffer itself would not.
nanobind::object keeper(const Buffer& buffer);

class Exchange;
struct HostTensor;

// Borrows the memory of an NPUBuffer, a NumPy array, or anything that speaks the buffer protocol or DLPack on
// the CPU or a GPU of NVIDIA, for as long as this object lives; copies only what is not contiguous.
class Borrowed {
 public:
  Borrowed() = default;
  Borrowed(const Borrowed&) = delete;
  Borrowed& operator=(const Borrowed&) = delete;
  ~Borrowed();

  // `name` is for errors. Tensors of a GPU other than `target` are refused, if there is a target.
  void take(nanobind::handle object, const char* name, const Device* target = nullptr);
  // The same without words for what is wrong: false if this way is not open to the object.
  bool take_from(const Exchange& exchange, nanobind::handle object);
  const Buffer& buffer() const { return buffer_; }
  bool copied() const { return copied_; }
  bool read_only() const { return read_only_; }
  const Device* device() const { return device_ ? &*device_ : nullptr; }  // of a GPU's tensor

 private:
  void take_view(const char* name, nanobind::handle object);
  void read(HostTensor tensor);
  void take_array(nanobind::handle object, const char* name, const Device* target);

  Buffer buffer_;
  Py_buffer view_{};
  bool viewing_ = false, copied_ = false, read_only_ = false;
  std::optional<Device> device_;
  nanobind::object kept_;
  nanobind::ndarray<nanobind::ro, nanobind::device::cpu> array_;  // what DLPack lent
};

// The object's memory for as long as the result is held; without a copy where kernels can read it as it lies,
// else `copied` is told so, as `read_only` is of memory that must not be written.
struct Lending {
  bool* copied = nullptr;
  bool* read_only = nullptr;
  const Device* target = nullptr;  // as Borrowed::take has it
};
Buffer lent_by(nanobind::handle object, const char* name, const Lending& lending = {});

// A copy that the caller may keep, in memory of the device if there is one, else where the tensor is if that
// is a GPU.
Buffer copy_of(nanobind::handle object, const char* name, const Device* device = nullptr);

[[noreturn]] void refuse_tensor(const char* name, nanobind::handle object);
// Of a library that lends an address of zero.
[[noreturn]] void refuse_without_data(const char* name, nanobind::handle object);

// str(object), also where that holds what UTF-8 cannot.
std::string safe_text(nanobind::handle object);
std::string class_name(nanobind::handle object);

nanobind::object numpy_dtype(DType dtype);
DType dtype_from(nanobind::handle object);  // a NumPy dtype, its name, a scalar type, or a torch dtype

Program program_from(nanobind::handle object);  // the core's, npu_compiler's, or a path
#define NPU_ANY_PROGRAM \
  "Program | npu_base.argument_types.HasBytes | str | os.PathLike[str]"  // in signatures

void bind_tensors(nanobind::module_& m);
void bind_programs(nanobind::module_& m);  // and weights
void bind_execution(nanobind::module_& m);
void bind_tensor_calls(nanobind::module_& m);
void bind_graph(nanobind::module_& m);
void bind_steps(nanobind::module_& m);

}  // namespace npu::bindings
