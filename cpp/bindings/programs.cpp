// Programs and weights.
#include <nanobind/nanobind.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/pair.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>
#include <nanobind/typing.h>

#include <cstdint>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "bindings/errors.h"
#include "bindings/tensors.h"
#include "core/base/memory.h"

namespace nb = nanobind;
using namespace nb::literals;

namespace npu::bindings {

namespace {

std::string spec_repr(const TensorSpec& spec) {
  return "TensorSpec(name='" + spec.name + "', shape=" + shape_text(spec.shape) + ", dtype='" +
         std::string(dtype_name(spec.dtype)) + "')";
}

std::span<const std::byte> bytes_span(const nb::bytes& bytes) {
  return {reinterpret_cast<const std::byte*>(bytes.data()), bytes.size()};
}

bool is_path(nb::handle object) {
  return nb::isinstance<nb::str>(object) || nb::hasattr(object, "__fspath__");
}

std::string path_text(nb::handle path) {
  return nb::cast<std::string>(nb::module_::import_("os").attr("fspath")(path));
}

}  // namespace

// A program in any of its forms: the core's, npu_compiler's, or a path.
Program program_from(nb::handle object) {
  Program* program = nullptr;
  if (nb::try_cast<Program*>(object, program, false) && program != nullptr) return *program;
  File* file = nullptr;
  if (nb::try_cast<File*>(object, file, false) && file != nullptr) return Program::load(*file);
  if (nb::hasattr(object, "to_bytes") && !PyLong_Check(object.ptr()))
    return Program::parse(bytes_span(nb::cast<nb::bytes>(object.attr("to_bytes")())));
  if (is_path(object)) return Program::load(path_text(object));
  const bool is_ir =
      nb::hasattr(object, "graph_inputs") ||
      (PyDict_Check(object.ptr()) && PyDict_GetItemString(object.ptr(), "graph_inputs") != nullptr);
  raise_wrong_type({.area = "program",
                    .what = is_ir ? "an IR is not a program yet" : "not a program",
                    .got = class_name(object),
                    .expected = "a CompiledProgram or the path of an .npubin file",
                    .action = is_ir ? "npu_compiler.compile(ir)" : ""});
}

namespace {

bool lies_in(const File& file, const void* data, std::size_t size) {
  const auto bytes = file.bytes();
  const auto* const begin = static_cast<const std::byte*>(data);
  const std::less_equal<> before;  // of pointers into different objects, too
  return before(bytes.data(), begin) && before(begin + size, bytes.data() + bytes.size());
}

int get_file_buffer(PyObject* self, Py_buffer* view, int flags) {
  const auto bytes = nb::inst_ptr<File>(self)->bytes();
  void* const data = const_cast<std::byte*>(bytes.data());
  return PyBuffer_FillInfo(view, self, data, static_cast<Py_ssize_t>(bytes.size()), 1, flags);
}

PyType_Slot file_slots[] = {{Py_bf_getbuffer, reinterpret_cast<void*>(get_file_buffer)}, {0, nullptr}};

void bind_files(nb::module_& m) {
  nb::class_<File>(
      m, "File", nb::type_slots(file_slots),
      "A file that is mapped into memory, or a part of one. Read-only. Speaks the buffer protocol.")
      .def("__init__", refuse_call("File.open(path)"), nb::sig("def __init__(self) -> None"))
      .def_static(
          "open", [](nb::handle path) { return File::open(path_text(path)); }, "path"_a,
          nb::sig("def open(path: str | os.PathLike[str]) -> File"))
      .def_static(
          "copy_of",
          [](const nb::bytes& data, std::string name) {
            return File::copy_of(bytes_span(data), std::move(name));
          },
          "data"_a, "name"_a, "Bytes that are the contents of a file.")
      .def("part", &File::part, "name"_a, "offset"_a, "size"_a)
      .def_prop_ro("name", &File::name)
      .def("__len__", [](const File& self) { return self.bytes().size(); })
      .def("__bytes__", [](const File& self) { return nb::bytes(self.bytes().data(), self.bytes().size()); })
      .def(
          "release",
          [](const File& self, nb::handle part) {
            Py_buffer view;
            if (PyObject_GetBuffer(part.ptr(), &view, PyBUF_SIMPLE) != 0) throw nb::python_error();
            if (lies_in(self, view.buf, static_cast<std::size_t>(view.len)))
              self.memory()->unused(view.buf, static_cast<std::size_t>(view.len));
            PyBuffer_Release(&view);
          },
          "part"_a, nb::sig("def release(self, part: numpy.typing.NDArray[typing.Any] | memoryview) -> None"),
          "Give back the pages of an array that lies in it. They are read again when they are touched.")
      .def(
          "checksum",
          [](const File& self) {
            const nb::gil_scoped_release release;
            return checksum(self.bytes());
          },
          "Of all its bytes, as .npubin files have it.")
      .def("__repr__", [](const File& self) {
        return "File('" + self.name() + "', " + std::to_string(self.bytes().size()) + " bytes)";
      });
  m.def(
      "checksum",
      [](nb::handle data) {
        Py_buffer view;
        if (PyObject_GetBuffer(data.ptr(), &view, PyBUF_SIMPLE) != 0) throw nb::python_error();
        std::uint64_t sum;
        {
          const nb::gil_scoped_release release;
          sum = checksum({static_cast<const std::byte*>(view.buf), static_cast<std::size_t>(view.len)});
        }
        PyBuffer_Release(&view);
        return sum;
      },
      "data"_a, nb::sig("def checksum(data: bytes | bytearray | memoryview) -> int"),
      "Of bytes, as .npubin files have it.");
}

// The buffer as a part of the file that its memory lies in, if it does.
Buffer in_file(const File& file, const Buffer& buffer) {
  if (!lies_in(file, buffer.data(), buffer.bytes())) return buffer;
  return Buffer::in(file.memory(), buffer.data(), buffer.dtype(), buffer.shape());
}

// Without Python's lock: whoever has the weights' own may be waiting for it, to make a tensor.
Buffer tensor_of(const Weights& weights, const std::string& name) {
  const nb::gil_scoped_release release;
  return weights.get(name);
}

std::vector<std::string> names_of(const Weights& weights) {
  const nb::gil_scoped_release release;
  return weights.names();
}

bool has_tensor(const Weights& weights, const std::string& name) {
  const nb::gil_scoped_release release;
  return weights.has(name);
}

void set_tensor(Weights& weights, const std::string& name, Buffer tensor) {
  const nb::gil_scoped_release release;
  weights.set(name, std::move(tensor));
}

void defer_tensor(Weights& weights, const std::string& name, nb::handle dtype,
                  std::vector<std::int64_t> shape, nb::handle make) {
  if (!PyCallable_Check(make.ptr())) {
    raise_wrong_type({.area = "weights",
                      .what = "what makes a tensor is not callable",
                      .got = safe_text(nb::repr(make)),
                      .expected = "a function without arguments that returns the tensor"});
  }
  const DType kind = dtype_from(dtype);
  const std::shared_ptr<nb::object> function(new nb::object(nb::borrow(make)), [](nb::object* object) {
    const nb::gil_scoped_acquire acquire;
    delete object;
  });
  const auto call = [function, name] {
    const nb::gil_scoped_acquire acquire;
    return lent_by((*function)(), name.c_str());
  };
  const nb::gil_scoped_release release;
  weights.defer(name, kind, std::move(shape), call);
}

void bind_weights(nb::module_& m) {
  m.attr("T") = nb::type_var("T");  // in signatures
  nb::class_<Weights>(m, "Weights", "Tensors by name, and what executors made of them. A mapping.")
      .def(nb::init<>())
      .def_static(
          "load",
          [](nb::handle path) {
            File* part = nullptr;
            if (nb::try_cast<File*>(path, part, false) && part != nullptr) {
              const nb::gil_scoped_release release;
              return Weights::load(*part);
            }
            if (!is_path(path))
              raise_wrong_type({.area = "weights",
                                .what = "not a path",
                                .got = class_name(path),
                                .expected = "a string or a pathlib.Path"});
            const std::string file = path_text(path);
            const nb::gil_scoped_release release;
            return Weights::load(file);
          },
          "path"_a.none(), nb::sig("def load(path: str | os.PathLike[str] | File) -> Weights"))
      .def_static(
          "random",
          [](nb::handle object, std::uint64_t seed, const std::string& only) {
            const Program program = program_from(object);
            const nb::gil_scoped_release release;
            return Weights::random(program, seed, only);
          },
          "program"_a.none(), "seed"_a = 0, nb::kw_only(), "only"_a = "",
          nb::sig("def random(program: " NPU_ANY_PROGRAM ", seed: int = 0, *, only: str = "
                  "'') -> Weights"),
          "Seeded random values for all weights of a program, or the same values for one of them.")
      .def(
          "check",
          [](const Weights& self, nb::handle object) {
            const Program program = program_from(object);
            const nb::gil_scoped_release release;
            self.check(program);
          },
          "program"_a.none(), nb::sig("def check(self, program: " NPU_ANY_PROGRAM ") -> None"),
          "Raise when `program` could not run with these.")
      .def(
          "__getitem__",
          [](const Weights& self, const std::string& name) {
            Buffer tensor = tensor_of(self, name);
            if (!tensor) {
              throw Error(ErrorKind::kMissing,
                          {.area = "weights", .what = "there is no such tensor", .got = quoted(name)});
            }
            return PyBuffer{.buffer = std::move(tensor), .read_only = true};
          },
          "name"_a)
      .def(
          "get",
          [](const Weights& self, const std::string& name, nb::object otherwise) {
            Buffer tensor = tensor_of(self, name);
            return tensor ? nb::cast(PyBuffer{.buffer = std::move(tensor), .read_only = true}) : otherwise;
          },
          "name"_a, "default"_a = nb::none(),
          nb::sig("def get(self, name: str, default: T | None = None) -> NPUBuffer | T | None"))
      .def(
          "__setitem__",
          [](Weights& self, const std::string& name, nb::handle tensor) {
            set_tensor(self, name, copy_of(tensor, name.c_str()));
          },
          "name"_a, "tensor"_a.none(),
          nb::sig("def __setitem__(self, name: str, tensor: npu_base.argument_types.AnyTensor) -> None"),
          "Replaces a tensor with a copy of another one; what was prepared from it is made anew.")
      .def(
          "share",
          [](Weights& self, const std::string& name, nb::handle tensor, const File* file) {
            Buffer buffer = lent_by(tensor, name.c_str());
            if (file != nullptr) buffer = in_file(*file, buffer);
            set_tensor(self, name, std::move(buffer));
          },
          "name"_a, "tensor"_a.none(), "file"_a = nb::none(),
          nb::sig("def share(self, name: str, tensor: npu_base.argument_types.AnyTensor, file: File | None = "
                  "None) -> None"),
          "The same without a copy where the memory allows it. The tensor must not be changed from then on. "
          "Pages of the mapped `file` that it lies in are released where only its prepared form is needed.")
      .def("defer", defer_tensor, "name"_a, "dtype"_a, "shape"_a, "make"_a,
           nb::sig("def defer(self, name: str, dtype: npu_base.argument_types.AnyDType, shape: "
                   "collections.abc.Sequence[int], "
                   "make: collections.abc.Callable[[], npu_base.argument_types.AnyTensor]) -> None"),
           "A tensor that `make` returns when it is read, with the same values each time. It stays in memory "
           "only where programs read it as it is, not where they read something prepared from it. `make` "
           "must not use these weights.")
      .def(
          "__contains__",
          [](const Weights& self, nb::handle name) {
            return PyUnicode_Check(name.ptr()) && has_tensor(self, nb::cast<std::string>(name));
          },
          "name"_a.none(), nb::sig("def __contains__(self, name: object) -> bool"))
      .def("__len__", [](const Weights& self) { return names_of(self).size(); })
      .def(
          "__iter__", [](const Weights& self) { return nb::iter(nb::cast(names_of(self))); },
          nb::sig("def __iter__(self) -> collections.abc.Iterator[str]"))
      .def("keys", names_of)
      .def("values",
           [](const Weights& self) {
             std::vector<PyBuffer> all;
             for (const auto& name : names_of(self))
               all.push_back({.buffer = tensor_of(self, name), .read_only = true});
             return all;
           })
      .def("items",
           [](const Weights& self) {
             std::vector<std::pair<std::string, PyBuffer>> all;
             for (const auto& name : names_of(self))
               all.emplace_back(name, PyBuffer{.buffer = tensor_of(self, name), .read_only = true});
             return all;
           })
      .def_prop_ro(
          "prepared_bytes",
          [](const Weights& self) {
            const nb::gil_scoped_release release;
            return self.prepared_bytes();
          },
          "Of what executors made of them and hold in memory; what several share counts once.")
      .def("__repr__", [](const Weights& self) {
        return "Weights(" + std::to_string(names_of(self).size()) + " tensors)";
      });
}

}  // namespace

void bind_programs(nb::module_& m) {
  bind_files(m);
  nb::class_<TensorSpec>(m, "TensorSpec", "Name, shape and dtype of a tensor of a program.")
      .def_ro("name", &TensorSpec::name)
      .def_ro("shape", &TensorSpec::shape)
      .def_prop_ro("dtype", [](const TensorSpec& s) { return std::string(dtype_name(s.dtype)); })
      .def_ro("names", &TensorSpec::names)
      .def_ro("required", &TensorSpec::required)
      .def_ro("state", &TensorSpec::state)
      .def_ro("alias", &TensorSpec::alias,
              "Of an output: the index of the input that it updates in place, or -1.")
      .def("__repr__", &spec_repr);
  nb::class_<Program>(m, "Program", "A program as the core reads it.")
      .def("__init__", refuse_call("Program.load(path)"), nb::sig("def __init__(self) -> None"))
      .def_static(
          "load", [](nb::handle path) { return program_from(path); }, "path"_a.none(),
          nb::sig("def load(path: " NPU_ANY_PROGRAM " | File) -> Program"))
      .def_static(
          "parse", [](const nb::bytes& data) { return Program::parse(bytes_span(data)); }, "data"_a)
      .def_prop_ro("model_name", &Program::model_name)
      .def_prop_ro("inputs", &Program::inputs)
      .def_prop_ro("outputs", &Program::outputs)
      .def_prop_ro("weights", &Program::weights)
      .def_prop_ro(
          "constants",
          [](const Program& self) {
            nb::typed<nb::dict, nb::str, PyBuffer> all;
            for (const TensorSpec& spec : self.constants())
              all[nb::str(spec.name.c_str())] =
                  PyBuffer{.buffer = self.constant(spec.name), .read_only = true};
            return all;
          },
          "What it holds itself, such as buffers that no checkpoint has, by name.")
      .def("text", &Program::text)
      .def("__repr__", [](const Program& p) {
        return "Program('" + p.model_name() + "', inputs=" + std::to_string(p.inputs().size()) +
               ", outputs=" + std::to_string(p.outputs().size()) +
               ", weights=" + std::to_string(p.weights().size()) + ")";
      });
  bind_weights(m);
}

}  // namespace npu::bindings
