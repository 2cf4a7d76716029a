#include "tensors.h"

#include <nanobind/ndarray.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <cstring>
#include <string>

namespace nb = nanobind;
using namespace nb::literals;

namespace npu::bindings {

namespace {

[[noreturn]] void unusable(const char* name, const std::string& got) {
  throw Error(ErrorKind::kInvalidValue,
              {.area = "buffer",
               .what = std::string("cannot use the tensor '") + name + "'",
               .got = got,
               .expected = "an NPUBuffer, a NumPy array or a CPU tensor of a dtype that programs have"});
}

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

std::optional<DType> from_dlpack(nb::dlpack::dtype dtype) {
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
  const std::size_t outer = shape.size() - 1;  // a scalar is always dense
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

bool dense(const std::vector<std::int64_t>& shape, const std::vector<std::int64_t>& strides,
           std::size_t size) {
  auto expected = static_cast<std::int64_t>(size);
  for (std::size_t d = shape.size(); d-- > 0; expected *= shape[d]) {
    if (shape[d] != 1 && strides[d] != expected) return false;
  }
  return true;
}

// "torch.float64 tensor on meta", "complex64 array", "list".
std::string description(nb::handle object) {
  const auto text = [](nb::handle h) { return nb::cast<std::string>(nb::str(h)); };
  const std::string type = text(nb::getattr(nb::getattr(object, "__class__"), "__name__"));
  if (!nb::hasattr(object, "dtype")) return type;
  std::string said = text(object.attr("dtype")) + " " + type;
  if (nb::hasattr(object, "layout") && text(object.attr("layout")) != "torch.strided") {
    said += " of layout " + text(object.attr("layout"));
  }
  if (nb::hasattr(object, "device")) said += " on " + text(object.attr("device"));
  return said;
}

bool is_bfloat16_array(nb::handle object) {
  const nb::object dtype = nb::getattr(object, "dtype", nb::none());
  return nb::hasattr(dtype, "name") && nb::hasattr(object, "view") &&
         nb::cast<std::string>(nb::str(nb::getattr(dtype, "name"))) == "bfloat16";
}

}  // namespace

Borrowed::~Borrowed() {
  if (viewing_) PyBuffer_Release(&view_);
}

void Borrowed::take(nb::handle object, const char* name) {
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
  take_array(object, name);
}

void Borrowed::take_view(const char* name, nb::handle object) {
  const bool brain = view_.format != nullptr && std::strcmp(view_.format, "E") == 0;
  const auto dtype = brain ? std::optional(DType::kBFloat16) : from_format(view_);
  if (!dtype) unusable(name, description(object));
  std::vector<std::int64_t> shape(view_.shape, view_.shape + view_.ndim);
  const std::vector<std::int64_t> strides(view_.strides, view_.strides + view_.ndim);
  if (dense(shape, strides, size_of(*dtype))) {
    buffer_ = Buffer::wrap(view_.buf, *dtype, std::move(shape), nullptr);
  } else {
    buffer_ = densely(*dtype, shape, strides, static_cast<const std::byte*>(view_.buf));
  }
}

void Borrowed::take_array(nb::handle object, const char* name) {
  nb::ndarray<nb::ro, nb::device::cpu> array;
  nb::object tensor = nb::borrow(object);
  // A tensor that requires gradients does not export itself.
  if (nb::hasattr(object, "requires_grad") && nb::cast<bool>(object.attr("requires_grad"))) {
    tensor = object.attr("detach")();
  }
  try {
    if (!nb::try_cast(tensor, array)) unusable(name, description(object));
  } catch (const nb::python_error&) {
    unusable(name, description(object));
  }
  const auto dtype = from_dlpack(array.dtype());
  if (!dtype) unusable(name, description(object));
  std::vector<std::int64_t> shape, strides;
  for (std::size_t d = 0; d < array.ndim(); ++d) {
    shape.push_back(static_cast<std::int64_t>(array.shape(d)));
    strides.push_back(array.stride(d) * static_cast<std::int64_t>(size_of(*dtype)));
  }
  void* const data = const_cast<void*>(array.data());
  if (dense(shape, strides, size_of(*dtype))) {
    kept_ = nb::cast(array);
    buffer_ = Buffer::wrap(data, *dtype, std::move(shape), nullptr);
  } else {
    buffer_ = densely(*dtype, shape, strides, static_cast<const std::byte*>(data));
  }
}

Buffer copy_of(nb::handle object, const char* name) {
  Borrowed borrowed;
  borrowed.take(object, name);
  const Buffer& from = borrowed.buffer();
  Buffer copy = Buffer::allocate(from.dtype(), from.shape());
  if (from.bytes() > 0) std::memcpy(copy.data(), from.data(), from.bytes());
  return copy;
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
               .what = "not a dtype of programs",
               .got = quoted(name),
               .expected = "float32, float16, bfloat16, int8, int16, int32, int64, uint8 or bool"});
}

namespace {

int get_buffer(PyObject* self, Py_buffer* view, int flags) {
  PyBuffer* own = nb::inst_ptr<PyBuffer>(self);
  if (own->donated) {
    PyErr_SetString(PyExc_BufferError,
                    "[buffer] the buffer was donated to a run, which took its memory over");
    view->obj = nullptr;
    return -1;
  }
  static constexpr const char* formats[kDTypeCount] = {"f", "e", nullptr, "b", "h", "i", "q", "B", "?"};
  const Buffer& buffer = own->buffer;
  const char* const format = formats[static_cast<int>(buffer.dtype())];
  if ((flags & PyBUF_FORMAT) != 0 && format == nullptr) {
    PyErr_SetString(PyExc_BufferError,
                    "[buffer] the buffer protocol has no bfloat16; use to_numpy() or DLPack");
    view->obj = nullptr;
    return -1;
  }
  const std::size_t rank = buffer.shape().size();
  auto* const extents = new Py_ssize_t[2 * rank + 1];
  auto step = static_cast<Py_ssize_t>(size_of(buffer.dtype()));
  for (std::size_t d = rank; d-- > 0;) {
    extents[d] = static_cast<Py_ssize_t>(buffer.shape()[d]);
    extents[rank + d] = step;
    step *= extents[d];
  }
  view->obj = self;
  Py_INCREF(self);
  view->buf = buffer.data();
  view->len = static_cast<Py_ssize_t>(buffer.bytes());
  view->readonly = 0;
  view->itemsize = static_cast<Py_ssize_t>(size_of(buffer.dtype()));
  view->format = (flags & PyBUF_FORMAT) != 0 ? const_cast<char*>(format) : nullptr;
  view->ndim = static_cast<int>(rank);
  view->shape = (flags & PyBUF_ND) != 0 ? extents : nullptr;
  view->strides = (flags & PyBUF_STRIDES) == PyBUF_STRIDES ? extents + rank : nullptr;
  view->suboffsets = nullptr;
  view->internal = extents;
  return 0;
}

void release_buffer(PyObject*, Py_buffer* view) { delete[] static_cast<Py_ssize_t*>(view->internal); }

PyType_Slot buffer_slots[] = {{Py_bf_getbuffer, reinterpret_cast<void*>(get_buffer)},
                              {Py_bf_releasebuffer, reinterpret_cast<void*>(release_buffer)},
                              {0, nullptr}};

nb::tuple shape_tuple(const std::vector<std::int64_t>& shape) { return nb::tuple(nb::cast(shape)); }

void check_spec(const Buffer& buffer, nb::handle spec) {
  if (spec.is_none() || spec.ptr() == Py_Ellipsis) return;
  const auto shape = nb::cast<std::vector<std::int64_t>>(spec.attr("shape"));
  const DType dtype = dtype_from(spec.attr("dtype"));
  if (shape == buffer.shape() && dtype == buffer.dtype()) return;
  throw Error(ErrorKind::kInvalidValue,
              {.area = "buffer",
               .what = "the data does not fit the spec of " +
                       quoted(nb::cast<std::string>(nb::str(spec.attr("name")))),
               .got = std::string(dtype_name(buffer.dtype())) + shape_text(buffer.shape()),
               .expected = std::string(dtype_name(dtype)) + shape_text(shape)});
}

const Buffer& alive(const PyBuffer& self) {
  if (!self.donated) return self.buffer;
  throw Error(ErrorKind::kInvalidValue,
              {.area = "buffer",
               .what = "the buffer was donated to a run, which took its memory over",
               .action = "the output of that run"});
}

// Shares the memory; the array keeps the buffer.
nb::object to_numpy(nb::handle self, nb::handle dtype, nb::handle spec, bool copy) {
  const Buffer& buffer = alive(*nb::inst_ptr<PyBuffer>(self));
  check_spec(buffer, spec);
  const nb::module_ numpy = nb::module_::import_("numpy");
  nb::object array;
  if (buffer.bytes() == 0) {
    array = numpy.attr("empty")(shape_tuple(buffer.shape()), numpy_dtype(buffer.dtype()));
  } else if (buffer.dtype() == DType::kBFloat16) {
    // The buffer protocol cannot say bfloat16: share the bits, then say what they are.
    const std::vector<std::size_t> shape(buffer.shape().begin(), buffer.shape().end());
    const nb::ndarray<nb::numpy, std::uint16_t> bits(buffer.data(), shape.size(), shape.data(), self);
    array = nb::cast(bits).attr("view")(numpy_dtype(buffer.dtype()));
  } else {
    array = numpy.attr("frombuffer")(self, numpy_dtype(buffer.dtype()))
                .attr("reshape")(shape_tuple(buffer.shape()));
  }
  if (!dtype.is_none()) return array.attr("astype")(dtype, "copy"_a = copy);
  return copy ? array.attr("copy")() : array;
}

nb::typed<nb::tuple, int, nb::ellipsis> shape_of(const PyBuffer& b) { return shape_tuple(b.buffer.shape()); }

nb::object to_dlpack(nb::handle self, nb::kwargs) {
  const Buffer& buffer = alive(*nb::inst_ptr<PyBuffer>(self));
  nb::dlpack::dtype dtype{};
  const auto bits = static_cast<std::uint8_t>(8 * size_of(buffer.dtype()));
  const auto code = buffer.dtype() == DType::kBFloat16 ? nb::dlpack::dtype_code::Bfloat
                    : buffer.dtype() == DType::kBool   ? nb::dlpack::dtype_code::Bool
                    : buffer.dtype() == DType::kUInt8  ? nb::dlpack::dtype_code::UInt
                    : is_float(buffer.dtype())         ? nb::dlpack::dtype_code::Float
                                                       : nb::dlpack::dtype_code::Int;
  dtype = {static_cast<std::uint8_t>(code), bits, 1};
  std::vector<std::size_t> shape(buffer.shape().begin(), buffer.shape().end());
  const nb::ndarray<> array(buffer.data(), shape.size(), shape.data(), self, nullptr, dtype,
                            nb::device::cpu::value, 0);
  return nb::cast(array);
}

}  // namespace

void bind_tensors(nb::module_& m) {
  nb::class_<PyBuffer>(
      m, "NPUBuffer", nb::type_slots(buffer_slots),
      "A dense tensor that a device reads and writes. Speaks the buffer protocol and DLPack.")
      .def_static(
          "from_numpy",
          [](nb::handle data, const Device&, nb::handle, nb::handle spec) {
            PyBuffer made{copy_of(data, "data"), false};
            check_spec(made.buffer, spec);
            return made;
          },
          "data"_a.none(), "device"_a, "alloc_shape"_a = nb::none(), "spec"_a = nb::none(),
          "A copy of an array. `spec` is checked against its shape and dtype; nothing is cast. `alloc_shape` "
          "is ignored.")
      .def_static(
          "zeros",
          [](std::vector<std::int64_t> shape, const Device&, nb::handle dtype, nb::handle) {
            for (const auto extent : shape) {
              if (extent < 0 || extent > (std::int64_t{1} << 40)) {
                throw Error(
                    ErrorKind::kInvalidValue,
                    {.area = "buffer", .what = "an extent is out of range", .got = shape_text(shape)});
              }
            }
            return PyBuffer{Buffer::allocate(dtype_from(dtype), std::move(shape), true), false};
          },
          "shape"_a, "device"_a, "dtype"_a = "float32", "alloc_shape"_a = nb::none())
      .def("to_numpy", &to_numpy, "dtype"_a = nb::none(), "spec"_a = nb::none(), nb::kw_only(),
           "copy"_a = false,
           nb::sig("def to_numpy(self, dtype: typing.Any = None, spec: typing.Any = None, *, copy: bool = "
                   "False) -> "
                   "numpy.typing.NDArray[typing.Any]"),
           "An array that shares this buffer's memory; with `dtype`, a converted copy. `spec` is checked.")
      .def(
          "write_from_numpy",
          [](PyBuffer& self, nb::handle data, nb::handle spec) {
            Borrowed borrowed;
            borrowed.take(data, "data");
            check_spec(borrowed.buffer(), spec);
            const Buffer& to = alive(self);
            if (borrowed.buffer().dtype() != to.dtype() || borrowed.buffer().shape() != to.shape()) {
              throw Error(ErrorKind::kInvalidValue,
                          {.area = "buffer",
                           .what = "the data does not fit the buffer",
                           .got = std::string(dtype_name(borrowed.buffer().dtype())) +
                                  shape_text(borrowed.buffer().shape()),
                           .expected = std::string(dtype_name(to.dtype())) + shape_text(to.shape())});
            }
            std::memmove(to.data(), borrowed.buffer().data(), to.bytes());
          },
          "data"_a.none(), "spec"_a = nb::none())
      .def_prop_ro("shape", &shape_of)
      .def_prop_ro("alloc_shape", &shape_of)
      .def_prop_ro(
          "dtype", [](const PyBuffer& b) { return numpy_dtype(b.buffer.dtype()); },
          nb::for_getter(nb::sig("def dtype(self) -> numpy.dtype[typing.Any]")), "A NumPy dtype.")
      .def_prop_ro("size_bytes", [](const PyBuffer& b) { return b.buffer.bytes(); })
      .def_prop_ro(
          "native_handle",
          [](const PyBuffer& b) { return reinterpret_cast<std::uintptr_t>(alive(b).data()); }, "The address.")
      .def_prop_ro(
          "donated", [](const PyBuffer& b) { return b.donated; }, "Whether a run took its memory over.")
      .def("__len__",
           [](const PyBuffer& b) {
             if (b.buffer.shape().empty()) throw nb::type_error("len() of a buffer without dimensions");
             return b.buffer.shape()[0];
           })
      .def(
          "__getitem__",
          [](nb::handle self, nb::handle key) {
            return nb::object(to_numpy(self, nb::none(), nb::none(), false)[key]);
          },
          nb::sig("def __getitem__(self, key: typing.Any) -> typing.Any"))
      .def(
          "__array__",
          [](nb::handle self, nb::handle dtype, nb::handle copy) {
            return to_numpy(self, dtype, nb::none(), !copy.is_none() && nb::cast<bool>(copy));
          },
          "dtype"_a = nb::none(), "copy"_a = nb::none(),
          nb::sig("def __array__(self, dtype: typing.Any = None, copy: bool | None = None) -> "
                  "numpy.typing.NDArray[typing.Any]"))
      .def("__dlpack__", &to_dlpack, nb::sig("def __dlpack__(self, **kwargs: typing.Any) -> typing.Any"))
      .def(
          "__dlpack_device__", [](const PyBuffer&) { return nb::make_tuple(1, 0); },
          nb::sig("def __dlpack_device__(self) -> tuple[int, int]"))
      .def("__repr__", [](const PyBuffer& b) {
        return "NPUBuffer(shape=" + shape_text(b.buffer.shape()) +
               ", dtype=" + std::string(dtype_name(b.buffer.dtype())) + (b.donated ? ", donated)" : ")");
      });
}

}  // namespace npu::bindings
