// NPUBuffer: the buffer protocol, DLPack, NumPy.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <string>
#include <vector>

#include "bindings/dlpack.h"
#include "bindings/errors.h"
#include "bindings/tensors.h"

namespace nb = nanobind;
using namespace nb::literals;

namespace npu::bindings {

const Buffer& alive(const PyBuffer& self) {
  if (!self.donated) return self.buffer;
  throw Error(ErrorKind::kInvalidValue,
              {.area = "buffer",
               .what = "the buffer was donated to a run, which took its memory over",
               .action = "the output of that run"});
}

// Keeps the memory for an array, which donation of the buffer itself would not.
nb::object keeper(const Buffer& buffer) { return nb::cast(PyBuffer{buffer}); }

namespace {

// What a view needs for as long as it lives, also when the buffer is donated meanwhile.
struct View {
  Buffer memory;
  std::vector<Py_ssize_t> extents;  // shape, then strides
};

int refuse_view(Py_buffer* view, const char* why) {
  PyErr_SetString(PyExc_BufferError, why);
  view->obj = nullptr;
  return -1;
}

int get_buffer(PyObject* self, Py_buffer* view, int flags) {
  PyBuffer* own = nb::inst_ptr<PyBuffer>(self);
  if (own->donated)
    return refuse_view(view, "[buffer] the buffer was donated to a run, which took its memory over");
  if (own->read_only && (flags & PyBUF_WRITABLE) != 0) return refuse_view(view, "[buffer] it is read-only");
  if (!own->buffer.on_host())
    return refuse_view(view,
                       "[buffer] the host cannot reach this memory of a device; use to_numpy() or DLPack");
  static constexpr const char* formats[kDTypeCount] = {"f", "e", nullptr, "b", "h", "i", "q", "B", "?"};
  const Buffer& buffer = own->buffer;
  const char* const format = formats[static_cast<int>(buffer.dtype())];
  if ((flags & PyBUF_FORMAT) != 0 && format == nullptr) {
    return refuse_view(view, "[buffer] the buffer protocol has no bfloat16; use to_numpy() or DLPack");
  }
  const std::size_t rank = buffer.shape().size();
  auto* const state = new View{buffer, std::vector<Py_ssize_t>(2 * rank + 1)};
  Py_ssize_t* const extents = state->extents.data();
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
  view->readonly = own->read_only ? 1 : 0;
  view->itemsize = static_cast<Py_ssize_t>(size_of(buffer.dtype()));
  view->format = (flags & PyBUF_FORMAT) != 0 ? const_cast<char*>(format) : nullptr;
  view->ndim = static_cast<int>(rank);
  view->shape = (flags & PyBUF_ND) != 0 ? extents : nullptr;
  view->strides = (flags & PyBUF_STRIDES) == PyBUF_STRIDES ? extents + rank : nullptr;
  view->suboffsets = nullptr;
  view->internal = state;
  return 0;
}

void release_buffer(PyObject*, Py_buffer* view) { delete static_cast<View*>(view->internal); }

PyType_Slot buffer_slots[] = {{Py_bf_getbuffer, reinterpret_cast<void*>(get_buffer)},
                              {Py_bf_releasebuffer, reinterpret_cast<void*>(release_buffer)},
                              {0, nullptr}};

nb::tuple shape_tuple(const std::vector<std::int64_t>& shape) { return nb::tuple(nb::cast(shape)); }

void check_spec(const Buffer& buffer, nb::handle spec) {
  if (spec.is_none() || spec.ptr() == Py_Ellipsis) return;
  if (!nb::hasattr(spec, "shape") || !nb::hasattr(spec, "dtype")) {
    throw Error(ErrorKind::kInvalidValue, {.area = "buffer",
                                           .what = "not a spec",
                                           .got = safe_text(spec),
                                           .expected = "one of a program's input_specs or output_specs"});
  }
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

nb::object dtype_of_numpy(nb::handle dtype) {
  try {
    return nb::module_::import_("numpy").attr("dtype")(dtype);
  } catch (const nb::python_error&) {
    raise_wrong_type({.area = "buffer",
                      .what = "not a dtype",
                      .got = safe_text(nb::repr(dtype)),
                      .expected = "one of NumPy's, or bfloat16"});
  }
}

nb::object to_numpy(nb::handle self, nb::handle dtype, nb::handle spec, bool copy);

// Of memory that the host does not reach: the array's own copy.
nb::object fetched(const Buffer& buffer, nb::handle dtype) {
  Buffer host;
  {
    const nb::gil_scoped_release release;
    host = buffer.to_host();
  }
  return to_numpy(keeper(host), dtype, nb::none(), false);
}

// Shares the memory where the host reaches it; the array keeps it.
nb::object to_numpy(nb::handle self, nb::handle dtype, nb::handle spec, bool copy) {
  const Buffer& buffer = alive(*nb::inst_ptr<PyBuffer>(self));
  check_spec(buffer, spec);
  if (!buffer.on_host()) return fetched(buffer, dtype);
  const nb::module_ numpy = nb::module_::import_("numpy");
  nb::object array;
  if (buffer.bytes() == 0) {
    array = numpy.attr("empty")(shape_tuple(buffer.shape()), numpy_dtype(buffer.dtype()));
  } else if (buffer.dtype() == DType::kBFloat16) {
    // The buffer protocol cannot say bfloat16: share the bits, then say what they are.
    const std::vector<std::size_t> shape(buffer.shape().begin(), buffer.shape().end());
    const nb::ndarray<nb::numpy, std::uint16_t> bits(buffer.data(), shape.size(), shape.data(),
                                                     keeper(buffer));
    array = nb::cast(bits).attr("view")(numpy_dtype(buffer.dtype()));
    if (nb::inst_ptr<PyBuffer>(self)->read_only) array.attr("setflags")("write"_a = false);
  } else {
    array = numpy.attr("frombuffer")(self, numpy_dtype(buffer.dtype()))
                .attr("reshape")(shape_tuple(buffer.shape()));
  }
  if (!dtype.is_none()) {
    // NumPy knows bfloat16 and the dtypes of torch only by ours.
    const std::string name = safe_text(dtype);
    const bool ours = name == "bfloat16" || name.rfind("torch.", 0) == 0;
    const nb::object wanted = ours ? numpy_dtype(dtype_from(dtype)) : dtype_of_numpy(dtype);
    return array.attr("astype")(wanted, "copy"_a = copy);
  }
  return copy ? array.attr("copy")() : array;
}

nb::typed<nb::tuple, int, nb::ellipsis> shape_of(const PyBuffer& b) { return shape_tuple(b.buffer.shape()); }

}  // namespace

void bind_tensors(nb::module_& m) {
  m.def(
      "fetch",
      [](const std::vector<PyBuffer>& buffers) {
        std::vector<Buffer> all;
        for (const PyBuffer& buffer : buffers) all.push_back(alive(buffer));
        std::vector<Buffer> there;
        {
          const nb::gil_scoped_release release;
          there = on_host(std::span<const Buffer>(all));
        }
        std::vector<PyBuffer> result;
        for (Buffer& buffer : there) result.push_back({.buffer = std::move(buffer)});
        return result;
      },
      "buffers"_a,
      "The same tensors where the host reaches them: copies of those that are elsewhere, fetched together.");
  nb::class_<PyBuffer>(
      m, "NPUBuffer", nb::type_slots(buffer_slots),
      "A dense tensor that a device reads and writes. Speaks the buffer protocol and DLPack.")
      .def("__init__", refuse_call("NPUBuffer.from_numpy(array, device) or NPUBuffer.zeros(shape, device)"),
           nb::sig("def __init__(self) -> None"))
      .def_static(
          "from_numpy",
          [](nb::handle data, const Device& device, nb::handle, nb::handle spec) {
            PyBuffer result{copy_of(data, "data", &device)};
            check_spec(result.buffer, spec);
            return result;
          },
          "data"_a.none(), "device"_a, "alloc_shape"_a = nb::none(), "spec"_a = nb::none(),
          nb::sig("def from_numpy(data: npu_base.argument_types.AnyTensor, device: Device, alloc_shape: "
                  "collections.abc.Sequence[int] | None = None, spec: TensorSpec | npu_base.specs.TensorSpec "
                  "| None = None) -> NPUBuffer"),
          "A copy of an array. `spec` is checked against its shape and dtype; nothing is cast. `alloc_shape` "
          "is ignored.")
      .def_static(
          "from_dlpack",
          [](nb::handle tensor) {
            PyBuffer result;
            bool copied = false;
            result.buffer = lent_by(tensor, "tensor", {.copied = &copied, .read_only = &result.read_only});
            if (copied) {
              throw Error(ErrorKind::kInvalidValue,
                          {.area = "buffer",
                           .what = "a tensor that is not contiguous cannot be shared",
                           .got = safe_text(nb::repr(tensor.attr("shape"))),
                           .action = "a contiguous copy, or from_numpy"});
            }
            return result;
          },
          "tensor"_a.none(),
          nb::sig("def from_dlpack(tensor: npu_base.argument_types.AnyTensor | memoryview) -> NPUBuffer"),
          "Share the memory of a tensor that speaks DLPack or the buffer protocol, on the CPU or a GPU of "
          "NVIDIA.")
      .def_static(
          "zeros",
          [](std::vector<std::int64_t> shape, const Device& device, nb::handle dtype, nb::handle) {
            for (const auto extent : shape) {
              if (extent < 0 || extent > (std::int64_t{1} << 40)) {
                throw Error(
                    ErrorKind::kInvalidValue,
                    {.area = "buffer", .what = "an extent is out of range", .got = shape_text(shape)});
              }
            }
            return PyBuffer{device.allocate(dtype_from(dtype), std::move(shape), true)};
          },
          "shape"_a, "device"_a, "dtype"_a = "float32", "alloc_shape"_a = nb::none(),
          nb::sig("def zeros(shape: collections.abc.Sequence[int], device: Device, dtype: "
                  "npu_base.argument_types.AnyDType = 'float32', alloc_shape: collections.abc.Sequence[int] "
                  "| None = None) -> NPUBuffer"))
      .def("to_numpy", &to_numpy, "dtype"_a = nb::none(), "spec"_a = nb::none(), nb::kw_only(),
           "copy"_a = false,
           nb::sig("def to_numpy(self, dtype: npu_base.argument_types.AnyDType | None = None, spec: "
                   "TensorSpec | npu_base.specs.TensorSpec | None = None, *, copy: bool = False) -> "
                   "numpy.typing.NDArray[typing.Any]"),
           "An array that shares this buffer's memory, or a copy where the host does not reach it; with "
           "`dtype`, "
           "a converted copy. `spec` is checked.")
      .def(
          "write_from_numpy",
          [](PyBuffer& self, nb::handle data, nb::handle spec) {
            Borrowed borrowed;
            borrowed.take(data, "data");
            check_spec(borrowed.buffer(), spec);
            const Buffer& to = alive(self);
            if (self.read_only) {
              throw Error(ErrorKind::kInvalidValue, {.area = "buffer",
                                                     .what = "the buffer is read-only",
                                                     .got = "a tensor of weights or of a session",
                                                     .action = "weights[name] = ... or set_state"});
            }
            if (borrowed.buffer().dtype() != to.dtype() || borrowed.buffer().shape() != to.shape()) {
              throw Error(ErrorKind::kInvalidValue,
                          {.area = "buffer",
                           .what = "the data does not fit the buffer",
                           .got = std::string(dtype_name(borrowed.buffer().dtype())) +
                                  shape_text(borrowed.buffer().shape()),
                           .expected = std::string(dtype_name(to.dtype())) + shape_text(to.shape())});
            }
            to.copy_from(borrowed.buffer());
          },
          "data"_a.none(), "spec"_a = nb::none(),
          nb::sig("def write_from_numpy(self, data: npu_base.argument_types.AnyTensor, spec: TensorSpec | "
                  "npu_base.specs.TensorSpec | None = None) -> None"))
      .def(
          "read_only",
          [](const PyBuffer& self) {
            return PyBuffer{.buffer = alive(self), .donated = false, .read_only = true};
          },
          "The same memory, which cannot be written or donated through this.")
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
          nb::sig("def __array__(self, dtype: npu_base.argument_types.AnyDType | None = None, copy: bool | "
                  "None = None) -> "
                  "numpy.typing.NDArray[typing.Any]"))
      .def(
          "__dlpack__", [](nb::handle self, const nb::kwargs& options) { return to_dlpack(self, options); },
          nb::sig("def __dlpack__(self, **kwargs: typing.Any) -> typing.Any"))
      .def("__dlpack_device__", &dlpack_device, nb::sig("def __dlpack_device__(self) -> tuple[int, int]"))
      .def("__repr__", [](const PyBuffer& b) {
        return "NPUBuffer(shape=" + shape_text(b.buffer.shape()) +
               ", dtype=" + std::string(dtype_name(b.buffer.dtype())) + (b.donated ? ", donated)" : ")");
      });
}

}  // namespace npu::bindings
