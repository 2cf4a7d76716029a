#include "bindings/tensors.h"

#include <nanobind/ndarray.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <cstring>
#include <string>

#include "bindings/dlpack.h"
#include "bindings/exchange.h"

namespace nb = nanobind;
using namespace nb::literals;

namespace npu::bindings {

namespace {

std::optional<DType> from_format(const Py_buffer& view) {
  const char* f = view.format;
  if (f == nullptr) return DType::kUInt8;
  if (*f == '<' || *f == '=' || *f == '@') ++f;
  if (f[0] == '\0' || f[1] != '\0') return std::nullopt;
  switch (*f) {
    case 'f':
      return DType::kFloat32;
    case 'e':
      return DType::kFloat16;
    case '?':
      return DType::kBool;
    case 'B':
      return DType::kUInt8;
    case 'b':
      return DType::kInt8;
    case 'h':
      return DType::kInt16;
    case 'i':
      return DType::kInt32;
    case 'l':
      return sizeof(long) == 8 ? DType::kInt64 : DType::kInt32;
    case 'q':
      return DType::kInt64;
    default:
      return std::nullopt;
  }
}

template <class T>
void gather_row(std::byte* to, const std::byte* from, std::int64_t n, std::int64_t stride) {
  for (std::int64_t i = 0; i < n; ++i)
    std::memcpy(to + i * std::int64_t{sizeof(T)}, from + i * stride, sizeof(T));
}

// Gathers a strided tensor (strides in bytes) into a dense one.
Buffer densely(DType dtype, const std::vector<std::int64_t>& shape, const std::vector<std::int64_t>& strides,
               const std::byte* from) {
  Buffer dense = Buffer::allocate(dtype, shape);
  const std::size_t size = size_of(dtype);
  const auto row = size == 1   ? gather_row<std::uint8_t>
                   : size == 2 ? gather_row<std::uint16_t>
                   : size == 4 ? gather_row<std::uint32_t>
                               : gather_row<std::uint64_t>;
  std::byte* to = static_cast<std::byte*>(dense.data());
  if (shape.empty()) {
    std::memcpy(to, from, size);
    return dense;
  }
  const std::size_t outer = shape.size() - 1;
  const std::int64_t n = shape[outer];
  std::vector<std::int64_t> at(outer, 0);
  for (std::int64_t left = dense.elements(); left > 0; left -= n) {
    row(to, from, n, strides[outer]);
    to += n * static_cast<std::int64_t>(size);
    for (std::size_t d = outer; d-- > 0;) {
      from += strides[d];
      if (++at[d] < shape[d]) break;
      from -= strides[d] * shape[d];
      at[d] = 0;
    }
  }
  return dense;
}

bool is_bfloat16_array(nb::handle object) {
  const nb::object dtype = nb::getattr(object, "dtype", nb::none());
  return nb::hasattr(dtype, "name") && nb::hasattr(object, "view") &&
         nb::cast<std::string>(nb::str(nb::getattr(dtype, "name"))) == "bfloat16";
}

}  // namespace

// "torch.float64 tensor on meta", "complex64 array", "list".
static std::string description(nb::handle object) {
  const std::string type = safe_text(nb::getattr(nb::getattr(object, "__class__"), "__name__"));
  if (!nb::hasattr(object, "dtype")) return type;
  std::string said = safe_text(object.attr("dtype")) + " " + type;
  if (nb::hasattr(object, "layout") && safe_text(object.attr("layout")) != "torch.strided") {
    said += " of layout " + safe_text(object.attr("layout"));
  }
  if (nb::hasattr(object, "device")) said += " on " + safe_text(object.attr("device"));
  return said;
}

void refuse_tensor(const char* name, nb::handle object) {
  const std::string got = description(object);
  const bool is_tensor = got.find("torch.") == 0;
  const bool is_double = got.find("float64") != std::string::npos;
  throw Error(ErrorKind::kInvalidValue,
              {.area = "buffer",
               .what = std::string("cannot use the tensor '") + name + "'",
               .got = got,
               .expected = "an NPUBuffer, a NumPy array or a tensor of a dtype that programs support",
               .action = !is_double  ? ""
                         : is_tensor ? ".float() of the tensor, or of the whole model"
                                     : ".astype('float32')"});
}

void refuse_without_data(const char* name, nb::handle object) {
  throw Error(ErrorKind::kInvalidValue,
              {.area = "buffer",
               .what = std::string("the tensor '") + name + "' has no values in memory",
               .got = description(object),
               .expected = "a tensor that holds its values; fake tensors, lazy zeros and tensors inside a "
                           "transform of PyTorch hold none"});
}

Borrowed::~Borrowed() {
  if (viewing_) PyBuffer_Release(&view_);
}

void Borrowed::take(nb::handle object, const char* name, const Device* target) {
  PyBuffer* own = nullptr;
  if (nb::try_cast<PyBuffer*>(object, own, false) && own != nullptr) {
    if (own->donated) {
      throw Error(ErrorKind::kInvalidValue,
                  {.area = "buffer",
                   .what = std::string("the buffer given as '") + name +
                           "' was donated to an earlier run, which took its memory over",
                   .action = "the output of that run"});
    }
    buffer_ = own->buffer;
    read_only_ = own->read_only;
    return;
  }
  if (PyObject_CheckBuffer(object.ptr())) {
    if (PyObject_GetBuffer(object.ptr(), &view_, PyBUF_STRIDES | PyBUF_FORMAT) == 0) {
      viewing_ = true;
      return take_view(name, object);
    }
    PyErr_Clear();
    if (is_bfloat16_array(object)) {
      kept_ = object.attr("view")("uint16");
      if (PyObject_GetBuffer(kept_.ptr(), &view_, PyBUF_STRIDES | PyBUF_FORMAT) != 0)
        throw nb::python_error();
      viewing_ = true;
      static char format[] = "E";
      view_.format = format;
      return take_view(name, object);
    }
  }
  take_array(object, name, target);
}

void Borrowed::take_view(const char* name, nb::handle object) {
  read_only_ = view_.readonly != 0;
  const bool brain = view_.format != nullptr && std::strcmp(view_.format, "E") == 0;
  const auto dtype = brain ? std::optional(DType::kBFloat16) : from_format(view_);
  if (!dtype) refuse_tensor(name, object);
  read(HostTensor{.data = view_.buf,
                  .dtype = *dtype,
                  .shape = {view_.shape, view_.shape + view_.ndim},
                  .strides = {view_.strides, view_.strides + view_.ndim}});
}

void Borrowed::read(HostTensor tensor) {
  copied_ = !is_dense(tensor.data, tensor.shape, tensor.strides, size_of(tensor.dtype));
  buffer_ = copied_ ? densely(tensor.dtype, tensor.shape, tensor.strides,
                              static_cast<const std::byte*>(tensor.data))
                    : Buffer::wrap(tensor.data, tensor.dtype, std::move(tensor.shape), nullptr);
}

bool Borrowed::take_from(const Exchange& exchange, nb::handle object) {
  nb::object kept = nb::borrow(object);
  auto tensor = exchange.view(kept);
  if (!tensor) return false;
  kept_ = std::move(kept);
  read(std::move(*tensor));
  return true;
}

namespace {

// Whether the attribute, or what calling it gives, is there and true.
bool says_yes(nb::handle object, const char* name, bool call) {
  PyObject* const attribute = PyObject_GetAttrString(object.ptr(), name);
  if (attribute == nullptr) {
    PyErr_Clear();
    return false;
  }
  nb::object value = nb::steal(attribute);
  if (call) value = value();
  return value.ptr() == Py_True;
}

}  // namespace

void Borrowed::take_array(nb::handle object, const char* name, const Device* target) {
  if (const auto exchange = Exchange::of(object.type()); exchange && take_from(*exchange, object)) return;
  nb::object tensor = nb::borrow(object);
  // A tensor that requires gradients does not export itself.
  if (says_yes(object, "requires_grad", false)) tensor = object.attr("detach")();
  // DLPack would export what a lazily negated tensor was negated from.
  if (says_yes(tensor, "is_neg", true)) tensor = tensor.attr("resolve_neg")();
  if (const auto where = dl_device_of(tensor); where && where->type == kDlCuda) {
    GpuTensor on_gpu = borrow_from_gpu(tensor, *where, name, target);
    buffer_ = std::move(on_gpu.buffer);
    device_ = std::move(on_gpu.device);
    copied_ = on_gpu.copied;
    return;
  }
  nb::ndarray<nb::ro, nb::device::cpu> array;
  try {
    if (!nb::try_cast(tensor, array)) refuse_tensor(name, object);
  } catch (const nb::python_error&) {
    refuse_tensor(name, object);
  }
  const auto dtype = dtype_from_dlpack(array.dtype());
  if (!dtype) refuse_tensor(name, object);
  if (array.size() != 0 && array.data() == nullptr) refuse_without_data(name, object);
  HostTensor host{.data = const_cast<void*>(array.data()), .dtype = *dtype, .shape = {}, .strides = {}};
  for (std::size_t d = 0; d < array.ndim(); ++d) {
    host.shape.push_back(static_cast<std::int64_t>(array.shape(d)));
    host.strides.push_back(array.stride(d) * static_cast<std::int64_t>(size_of(*dtype)));
  }
  array_ = array;
  read(std::move(host));
}

Buffer lent_by(nb::handle object, const char* name, const Lending& lending) {
  const std::shared_ptr<Borrowed> borrowed(new Borrowed, [](Borrowed* tensor) {
    const nb::gil_scoped_acquire acquire;
    delete tensor;
  });
  // For longer than a call: the caller may give a tensor that requires gradients other memory meanwhile.
  nb::object kept = nb::borrow(object);
  if (Exchange::of(object.type()) && says_yes(object, "requires_grad", false)) kept = object.attr("detach")();
  borrowed->take(kept, name, lending.target);
  if (lending.copied != nullptr) *lending.copied = borrowed->copied();
  if (lending.read_only != nullptr) *lending.read_only = borrowed->read_only();
  const Buffer& buffer = borrowed->buffer();
  if (nb::isinstance<PyBuffer>(object) || buffer.memory() != nullptr) return buffer;
  return Buffer::wrap(buffer.data(), buffer.dtype(), buffer.shape(), borrowed);
}

Buffer copy_of(nb::handle object, const char* name, const Device* device) {
  Borrowed borrowed;
  borrowed.take(object, name);
  const Buffer& from = borrowed.buffer();
  if (device == nullptr) device = borrowed.device();
  Buffer copy = device != nullptr ? device->allocate(from.dtype(), from.shape())
                                  : Buffer::allocate(from.dtype(), from.shape());
  copy.copy_from(from);
  return copy;
}

std::string safe_text(nb::handle object) {
  const nb::str text(object);
  if (const char* utf8 = PyUnicode_AsUTF8AndSize(text.ptr(), nullptr)) return utf8;
  PyErr_Clear();
  return nb::cast<std::string>(nb::steal(PyObject_ASCII(text.ptr())));
}

std::string class_name(nb::handle object) {
  return safe_text(nb::handle(reinterpret_cast<PyObject*>(Py_TYPE(object.ptr()))).attr("__name__"));
}

nb::object numpy_dtype(DType dtype) {
  const nb::module_ numpy = nb::module_::import_("numpy");
  if (dtype == DType::kBFloat16)
    return numpy.attr("dtype")(nb::module_::import_("ml_dtypes").attr("bfloat16"));
  return numpy.attr("dtype")(nb::str(dtype_name(dtype).data(), dtype_name(dtype).size()));
}

DType dtype_from(nb::handle object) {
  std::string name;
  if (nb::isinstance<nb::str>(object)) {
    name = nb::cast<std::string>(object);
  } else if (nb::hasattr(object, "__name__")) {
    name = nb::cast<std::string>(object.attr("__name__"));
  } else {
    name = nb::cast<std::string>(nb::str(object));
  }
  if (name.rfind("torch.", 0) == 0) name = name.substr(6);
  if (const auto dtype = parse_dtype(name)) return *dtype;
  throw Error(ErrorKind::kInvalidValue,
              {.area = "buffer",
               .what = "not a dtype that programs support",
               .got = quoted(name),
               .expected = "float32, float16, bfloat16, int8, int16, int32, int64, uint8 or bool"});
}

}  // namespace npu::bindings
