#include "bindings/exchange.h"

#include <nanobind/ndarray.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <memory>
#include <utility>

#include "bindings/dlpack.h"
#include "core/base/memory.h"

namespace nb = nanobind;

namespace npu::bindings {

namespace {

// As DLPack has them from 1.2 on; a change of layout would be another major version.
constexpr std::uint32_t kMajor = 1, kMinor = 2;
constexpr const char* kCapsule = "dlpack_exchange_api";

struct Version {
  std::uint32_t major, minor;
};

struct VersionedTensor {
  Version version;
  void* context;
  void (*deleter)(VersionedTensor*);
  std::uint64_t flags;
  nb::dlpack::dltensor tensor;
};

struct ApiHeader {
  Version version;
  const ApiHeader* previous;  // of an older version
};

}  // namespace

struct ExchangeApi {
  ApiHeader header;
  int (*allocate)(nb::dlpack::dltensor*, VersionedTensor**, void*, void (*)(void*, const char*, const char*));
  int (*lend)(void*, VersionedTensor**);
  int (*take)(VersionedTensor*, void**);      // a tensor of the library, which owns the loan from then on
  int (*view)(void*, nb::dlpack::dltensor*);  // without a loan; may be null
  int (*stream)(std::int32_t, std::int32_t, void**);
};

namespace {

const ExchangeApi* api_in(nb::handle capsule) {
  if (!PyCapsule_IsValid(capsule.ptr(), kCapsule)) return nullptr;
  auto* header = static_cast<const ApiHeader*>(PyCapsule_GetPointer(capsule.ptr(), kCapsule));
  while (header != nullptr && header->version.major > kMajor) header = header->previous;
  if (header == nullptr || header->version.major != kMajor) return nullptr;
  const auto* const api = reinterpret_cast<const ExchangeApi*>(header);
  return api->view != nullptr && api->take != nullptr ? api : nullptr;
}

// Our memory while a tensor of another library has it.
struct Loan {
  Buffer buffer;
  std::vector<std::int64_t> shape, strides;
  VersionedTensor managed{};
};

std::unique_ptr<Loan> loan_of(const Buffer& buffer) {
  auto loan = std::make_unique<Loan>(Loan{.buffer = buffer, .shape = buffer.shape(), .strides = {}});
  loan->strides.resize(loan->shape.size());
  std::int64_t step = 1;
  // Those of an empty tensor are as PyTorch has them.
  for (std::size_t d = loan->shape.size(); d-- > 0; step *= std::max<std::int64_t>(loan->shape[d], 1))
    loan->strides[d] = step;
  loan->managed.version = {kMajor, kMinor};
  loan->managed.context = loan.get();
  loan->managed.deleter = [](VersionedTensor* managed) { delete static_cast<Loan*>(managed->context); };
  nb::dlpack::dltensor& tensor = loan->managed.tensor;
  tensor.data = buffer.data();
  tensor.device = {kDlCpu, 0};
  tensor.ndim = static_cast<std::int32_t>(loan->shape.size());
  tensor.dtype = dlpack_dtype(buffer.dtype());
  tensor.shape = loan->shape.data();
  tensor.strides = loan->strides.data();
  return loan;
}

}  // namespace

std::optional<Exchange> Exchange::look_up(nb::handle type) {
  const nb::object own = type.attr("__dict__");
  PyObject* const capsule = PyMapping_GetItemString(own.ptr(), "__dlpack_c_exchange_api__");
  if (capsule == nullptr) {
    PyErr_Clear();
    return std::nullopt;
  }
  const ExchangeApi* const api = api_in(nb::steal(capsule));
  if (api == nullptr) return std::nullopt;
  nb::object is_neg;
  if (nb::hasattr(type, "is_neg")) is_neg = type.attr("is_neg");
  return Exchange(api, std::move(is_neg));
}

std::optional<Exchange> Exchange::of(nb::handle type) {
  struct Entry {
    nb::object type;
    std::optional<Exchange> exchange;
  };
  // A program meets one or two types of tensors; leaked, since the interpreter ends before static objects do.
  static auto& entries = *new std::array<Entry, 8>();
  static std::size_t next = 0;
  for (const Entry& entry : entries)
    if (entry.type.is(type)) return entry.exchange;
  std::optional<Exchange> exchange = look_up(type);
  // What is replaced may run code of its own as it dies.
  const Entry old = std::exchange(entries[next++ % entries.size()], Entry{nb::borrow(type), exchange});
  return exchange;
}

std::optional<HostTensor> Exchange::view(nb::handle tensor) const {
  constexpr int kMostDimensions = 64;
  // DLPack has what a lazily negated tensor was negated from.
  if (is_neg_.is_valid()) {
    PyObject* const argument = tensor.ptr();
    const nb::object negated = nb::steal(PyObject_Vectorcall(is_neg_.ptr(), &argument, 1, nullptr));
    if (!negated.is_valid()) PyErr_Clear();
    if (negated.ptr() != Py_False) return std::nullopt;
  }
  nb::dlpack::dltensor lent{};
  if (api_->view(tensor.ptr(), &lent) != 0 || PyErr_Occurred() != nullptr) {
    PyErr_Clear();
    return std::nullopt;
  }
  const auto dtype = dtype_from_dlpack(lent.dtype);
  if (!dtype || lent.device.device_type != kDlCpu || lent.ndim < 0 || lent.ndim > kMostDimensions ||
      (lent.ndim > 0 && lent.shape == nullptr))
    return std::nullopt;
  HostTensor result{.data = static_cast<std::byte*>(lent.data) + lent.byte_offset,
                    .dtype = *dtype,
                    .shape = {lent.shape, lent.shape + lent.ndim},
                    .strides = std::vector<std::int64_t>(static_cast<std::size_t>(lent.ndim))};
  const auto size = static_cast<std::int64_t>(size_of(*dtype));
  std::int64_t step = 1;
  for (std::size_t d = result.shape.size(); d-- > 0; step *= result.shape[d])
    result.strides[d] = size * (lent.strides != nullptr ? lent.strides[d] : step);
  if (lent.data == nullptr && std::ranges::find(result.shape, 0) == result.shape.end()) return std::nullopt;
  return result;
}

nb::object Exchange::tensor_of(const Buffer& buffer) const {
  if (buffer.memory() != nullptr) {
    const nb::gil_scoped_release release;
    buffer.memory()->lend();
  }
  void* tensor = nullptr;
  if (api_->take(&loan_of(buffer).release()->managed, &tensor) != 0 || tensor == nullptr) {
    if (!PyErr_Occurred())
      PyErr_SetString(PyExc_BufferError, "[buffer] the library of the inputs cannot take over a result");
    throw nb::python_error();
  }
  return nb::steal(static_cast<PyObject*>(tensor));
}

}  // namespace npu::bindings
