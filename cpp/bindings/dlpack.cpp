#include "bindings/dlpack.h"

#include <nanobind/stl/pair.h>

#include <algorithm>
#include <string>
#include <utility>

#include "core/plan/device_backend.h"

namespace nb = nanobind;

namespace npu::bindings {

namespace {

// As DLPack has it. What is lent is given back by calling the deleter.
struct ManagedTensor {
  nb::dlpack::dltensor tensor;
  void* context;
  void (*deleter)(ManagedTensor*);
};
constexpr const char *kLent = "dltensor", *kTaken = "used_dltensor";

// "cuda:1", as PyTorch and NVIDIA count.
std::string device_text(DlDevice where) { return "cuda:" + std::to_string(where.id); }

Device device_for(DlDevice where, const char* name, const Device* target) {
  if (target == nullptr) return Device::open(where.id == 0 ? "cuda" : device_text(where));
  const DlDevice wanted = target->backend().dl_device();
  if (wanted == where) return *target;
  const std::string there = wanted.type == kDlCuda ? device_text(wanted) : target->kind();
  throw Error(
      ErrorKind::kInvalidValue,
      {.area = "buffer",
       .what = std::string("the tensor '") + name + "' is on another device than the program",
       .got = device_text(where),
       .expected = there + (wanted.type == kDlCuda ? " or the CPU" : ""),
       .action = wanted.type == kDlCuda ? ".to(\"" + there + "\") of the tensor" : ".cpu() of the tensor"});
}

// PyTorch exports only tensors of the GPU that is current.
class CurrentInTorch {
 public:
  CurrentInTorch(nb::handle tensor, int gpu) {
    const nb::dict modules = nb::module_::import_("sys").attr("modules");
    if (!modules.contains("torch")) return;
    const nb::object torch = modules["torch"];
    const int is_tensor = PyObject_IsInstance(tensor.ptr(), torch.attr("Tensor").ptr());
    if (is_tensor != 1 || nb::cast<int>(torch.attr("cuda").attr("current_device")()) == gpu) return;
    guard_ = torch.attr("cuda").attr("device")(gpu);
    guard_.attr("__enter__")();
  }
  ~CurrentInTorch() {
    if (!guard_.is_valid()) return;
    const nb::error_scope scope;
    if (PyObject* const result =
            PyObject_CallMethod(guard_.ptr(), "__exit__", "OOO", Py_None, Py_None, Py_None)) {
      Py_DECREF(result);
    } else {
      PyErr_Clear();
    }
  }
  CurrentInTorch(const CurrentInTorch&) = delete;
  CurrentInTorch& operator=(const CurrentInTorch&) = delete;

 private:
  nb::object guard_;
};

// The lender's tensor; the lender makes `stream` wait for its work.
std::shared_ptr<ManagedTensor> take_loan(nb::handle tensor, DlDevice where, std::uintptr_t stream,
                                         const char* name) {
  nb::object capsule;
  try {
    const CurrentInTorch current(tensor, where.id);
    capsule = tensor.attr("__dlpack__")(nb::arg("stream") = stream);
  } catch (const nb::python_error& error) {
    throw Error(ErrorKind::kInvalidValue,
                {.area = "buffer",
                 .what = std::string("the tensor '") + name + "' cannot be lent by its library",
                 .got = safe_text(error.value()),
                 .expected = "a dense tensor with memory on " + device_text(where)});
  }
  auto* const managed = static_cast<ManagedTensor*>(PyCapsule_GetPointer(capsule.ptr(), kLent));
  if (managed == nullptr) {
    PyErr_Clear();
    refuse_tensor(name, tensor);
  }
  if (PyCapsule_SetName(capsule.ptr(), kTaken) != 0) throw nb::python_error();
  return {managed, [](ManagedTensor* lent) {
            const nb::gil_scoped_acquire acquire;
            const nb::error_scope scope;  // an object may die on the way of an exception
            if (lent->deleter != nullptr) lent->deleter(lent);
          }};
}

}  // namespace

std::optional<DType> dtype_from_dlpack(nb::dlpack::dtype dtype) {
  if (dtype.lanes != 1) return std::nullopt;
  switch (static_cast<nb::dlpack::dtype_code>(dtype.code)) {
    case nb::dlpack::dtype_code::Float:
      if (dtype.bits == 32) return DType::kFloat32;
      if (dtype.bits == 16) return DType::kFloat16;
      break;
    case nb::dlpack::dtype_code::Bfloat:
      return DType::kBFloat16;
    case nb::dlpack::dtype_code::Bool:
      return DType::kBool;
    case nb::dlpack::dtype_code::UInt:
      if (dtype.bits == 8) return DType::kUInt8;
      break;
    case nb::dlpack::dtype_code::Int:
      if (dtype.bits == 8) return DType::kInt8;
      if (dtype.bits == 16) return DType::kInt16;
      if (dtype.bits == 32) return DType::kInt32;
      if (dtype.bits == 64) return DType::kInt64;
      break;
    default:
      break;
  }
  return std::nullopt;
}

nb::dlpack::dtype dlpack_dtype(DType dtype) {
  const auto bits = static_cast<std::uint8_t>(8 * size_of(dtype));
  const auto code = dtype == DType::kBFloat16 ? nb::dlpack::dtype_code::Bfloat
                    : dtype == DType::kBool   ? nb::dlpack::dtype_code::Bool
                    : dtype == DType::kUInt8  ? nb::dlpack::dtype_code::UInt
                    : is_float(dtype)         ? nb::dlpack::dtype_code::Float
                                              : nb::dlpack::dtype_code::Int;
  return {static_cast<std::uint8_t>(code), bits, 1};
}

bool is_dense(const void* data, const std::vector<std::int64_t>& shape,
              const std::vector<std::int64_t>& strides, std::size_t size) {
  if (reinterpret_cast<std::uintptr_t>(data) % size != 0) return false;
  auto expected = static_cast<std::int64_t>(size);
  for (std::size_t d = shape.size(); d-- > 0; expected *= shape[d]) {
    if (shape[d] != 1 && strides[d] != expected) return false;
  }
  return true;
}

std::optional<DlDevice> dl_device_of(nb::handle tensor) {
  // What PyTorch answers fastest, first.
  nb::object on_gpu = nb::getattr(tensor, "is_cuda", nb::none());
  if (on_gpu.ptr() == Py_False || !nb::hasattr(tensor, "__dlpack_device__")) return std::nullopt;
  try {
    const auto [type, id] = nb::cast<std::pair<int, int>>(tensor.attr("__dlpack_device__")());
    return DlDevice{type, id};
  } catch (const nb::python_error&) {  // a tensor without memory
    return std::nullopt;
  } catch (const nb::cast_error&) {
    return std::nullopt;
  }
}

GpuTensor borrow_from_gpu(nb::handle tensor, DlDevice where, const char* name, const Device* target) {
  Device device = device_for(where, name, target);
  const DeviceBackend& backend = device.backend();
  nb::object dense = nb::borrow(tensor);
  for (const bool copied : {false, true}) {
    const auto loan = take_loan(dense, where, backend.lender_stream(), name);
    const nb::dlpack::dltensor& lent = loan->tensor;
    const auto dtype = dtype_from_dlpack(lent.dtype);
    if (!dtype) refuse_tensor(name, tensor);
    const auto size = static_cast<std::int64_t>(size_of(*dtype));
    std::vector<std::int64_t> shape(lent.shape, lent.shape + lent.ndim), strides(shape.size());
    const bool empty = std::ranges::find(shape, 0) != shape.end();
    if (lent.data == nullptr && !empty) refuse_without_data(name, tensor);
    std::int64_t step = size;
    for (std::size_t d = shape.size(); d-- > 0; step *= shape[d])
      strides[d] = lent.strides != nullptr ? lent.strides[d] * size : step;
    std::byte* const data = static_cast<std::byte*>(lent.data) + lent.byte_offset;
    if (is_dense(data, shape, strides, static_cast<std::size_t>(size)))
      return {std::move(device), backend.borrow(data, *dtype, std::move(shape), loan), copied};
    if (copied || !nb::hasattr(tensor, "contiguous")) break;
    dense = tensor.attr("contiguous")();
  }
  throw Error(ErrorKind::kInvalidValue, {.area = "buffer",
                                         .what = std::string("the tensor '") + name + "' is not contiguous",
                                         .got = "a strided tensor on " + device_text(where),
                                         .expected = "a contiguous one"});
}

nb::tuple dlpack_device(const PyBuffer& buffer) {
  const Memory* const memory = buffer.buffer.memory();
  const DlDevice where = memory == nullptr ? DlDevice() : memory->dl_device();
  return where.type == 0 ? nb::make_tuple(kDlCpu, 0) : nb::make_tuple(where.type, where.id);
}

namespace {

// What a caller gets: the memory itself, or a copy of it where it may have that and must.
Buffer exported(const PyBuffer& own, DlDevice wanted, const nb::object& copy) {
  const Buffer& buffer = alive(own);
  const Memory* const memory = buffer.memory();
  const DlDevice where = memory == nullptr ? DlDevice{kDlCpu, 0} : memory->dl_device();
  const bool never = !copy.is_none() && !nb::cast<bool>(copy);
  if (own.read_only && never) throw nb::buffer_error("[buffer] DLPack cannot say read-only; allow a copy");
  if (wanted.type == kDlCpu && where.type != kDlCpu) {
    if (never) throw nb::buffer_error("[buffer] this memory is on a device; allow a copy");
    return buffer.to_host();
  }
  // Readers of DLPack may write, so that read-only memory is copied for them.
  if (!own.read_only && (copy.is_none() || never)) return buffer;
  Buffer fresh = where.type == kDlCpu
                     ? Buffer::allocate(buffer.dtype(), buffer.shape())
                     : device_for(where, "self", nullptr).allocate(buffer.dtype(), buffer.shape());
  fresh.copy_from(buffer);
  return fresh;
}

}  // namespace

// A `stream` of the caller need not wait: runs are done when they return, and what is queued is waited for.
nb::object to_dlpack(nb::handle self, const nb::kwargs& options) {
  const PyBuffer& own = *nb::inst_ptr<PyBuffer>(self);
  const auto option = [&](const char* name) -> nb::object {
    return options.contains(name) ? nb::object(options[name]) : nb::none();
  };
  const auto [type, id] = nb::cast<std::pair<int, int>>(dlpack_device(own));
  DlDevice wanted{type, id};
  if (const nb::object where = option("dl_device"); !where.is_none()) {
    if (!where.equal(nb::make_tuple(type, id)) && !where.equal(nb::make_tuple(kDlCpu, 0))) {
      const std::string here = type == kDlCuda ? device_text({type, id}) : "the CPU";
      throw nb::buffer_error(("[buffer] this memory is on " + here + ", DLPack device (" +
                              std::to_string(type) + ", " + std::to_string(id) + "); got " + safe_text(where))
                                 .c_str());
    }
    const auto [other_type, other_id] = nb::cast<std::pair<int, int>>(where);
    wanted = {other_type, other_id};
  }
  const Buffer buffer = exported(own, wanted, option("copy"));
  if (buffer.memory() != nullptr) {
    const nb::gil_scoped_release release;
    buffer.memory()->lend();
  }
  std::vector<std::size_t> shape(buffer.shape().begin(), buffer.shape().end());
  const nb::ndarray<> array(buffer.data(), shape.size(), shape.data(), keeper(buffer), nullptr,
                            dlpack_dtype(buffer.dtype()), wanted.type, wanted.id);
  return nb::cast(array);
}

}  // namespace npu::bindings
