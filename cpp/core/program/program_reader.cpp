#include <algorithm>
#include <bit>
#include <cstring>
#include <exception>

#include "core/base/file_spot.h"
#include "core/program/op_reader.h"
#include "core/program/program.h"
#include "core/program/shapes.h"
#include "npu/error.h"
#include "npu/file.h"

namespace npu {

namespace {

static_assert(std::endian::native == std::endian::little, "files are little-endian and are read as they are");

constexpr char kMagic[9] = "\x89NPUBIN\n";
constexpr char kSavedMagic[9] = "\x89NPUSAV\n";
constexpr std::size_t kHeaderBytes = 64;
constexpr const char* kWriteAgain = "compiling the model, or copying the file, again";

template <class T>
T load(std::span<const std::byte> bytes, std::size_t at) {
  T value;
  std::memcpy(&value, bytes.data() + at, sizeof value);
  return value;
}

struct Sections {
  std::string_view json;
  std::span<const std::byte> constants;
};

// The fixed header; every later offset is checked against what it says.
Sections split(std::span<const std::byte> bytes, const FileSpot& spot) {
  const std::string size = std::to_string(bytes.size()) + " bytes";
  if (bytes.size() < 12 || std::memcmp(bytes.data(), kMagic, 8) != 0) {
    const bool is_text = !bytes.empty() && bytes[0] == std::byte{'{'};
    if (is_text)
      spot.refuse("not a compiled program", "JSON, as in an IR", "a .npubin file", "npu_compiler.compile");
    if (bytes.size() >= 12 && std::memcmp(bytes.data(), kSavedMagic, 8) == 0)
      spot.refuse("not a compiled program", "a saved model", "a .npubin file", "npu.load(path)");
    spot.refuse("not a compiled program", bytes.size() < 12 ? size : "different first bytes",
                "a .npubin file");
  }
  const auto version = load<std::uint32_t>(bytes, 8);
  if (version > kFormatVersion) {
    spot.refuse("was written by a newer version of npu-simulation", "format " + std::to_string(version),
                "format " + std::to_string(kFormatVersion), "upgrading npu-simulation");
  }
  if (version == 0) spot.refuse("has no valid format version", std::to_string(version));
  if (version < kFormatVersion) {
    spot.refuse("was written by an older version of npu-simulation", "format " + std::to_string(version),
                "format " + std::to_string(kFormatVersion), "compiling the model again");
  }
  if (bytes.size() < kHeaderBytes) spot.refuse("the file is cut off", size, {}, kWriteAgain);
  const auto json_size = load<std::uint64_t>(bytes, 16);
  const auto offset = load<std::uint64_t>(bytes, 24);
  const auto length = load<std::uint64_t>(bytes, 32);
  if (json_size > bytes.size() - kHeaderBytes || offset > bytes.size() || length > bytes.size() - offset) {
    spot.refuse("the file is cut off, or its header is damaged", size, {}, kWriteAgain);
  }
  const std::uint64_t json_end = kHeaderBytes + json_size;
  const bool zero = load<std::uint32_t>(bytes, 12) == 0 && load<std::uint64_t>(bytes, 48) == 0 &&
                    load<std::uint64_t>(bytes, 56) == 0;
  if (offset != (json_end + 63) / 64 * 64 || offset + length != bytes.size() || !zero) {
    spot.refuse("the header is damaged: its sections do not make up the file", size, {}, kWriteAgain);
  }
  if (checksum(bytes.subspan(kHeaderBytes)) != load<std::uint64_t>(bytes, 40)) {
    spot.refuse("the file is damaged: the checksum does not match", {}, {}, kWriteAgain);
  }
  return {{reinterpret_cast<const char*>(bytes.data()) + kHeaderBytes, json_size}, bytes.subspan(offset)};
}

class ProgramReader {
 public:
  ProgramReader(ProgramModel& program, const std::string& where)
      : program_(program), spot_{"program", where, {}} {}

  void read(Json root) {
    const auto [model, producer, mapping, symbols, values, inputs, outputs, weights, constants, prepare,
                main] =
        spot_.fields(root, {"model_name", "producer?", "weight_name_mapping?", "symbols?", "values", "inputs",
                            "outputs", "weights?", "constants?", "prepare?", "main"});
    if (mapping) check_mapping(*mapping);
    program_.model_name = spot_.text(*model, "model_name");
    if (producer) program_.producer = spot_.text(*producer, "producer");
    if (symbols) each(*symbols, "symbols", program_.symbols, &ProgramReader::symbol);
    each(*values, "values", program_.values, &ProgramReader::value);
    each(*inputs, "inputs", program_.inputs, &ProgramReader::input);
    each(*outputs, "outputs", program_.outputs, &ProgramReader::output);
    if (weights) each(*weights, "weights", program_.weights, &ProgramReader::weight);
    if (constants) each(*constants, "constants", program_.constants, &ProgramReader::constant);
    if (prepare) each(*prepare, "prepare", program_.prepare, &ProgramReader::op);
    each(*main, "main", program_.main, &ProgramReader::op);
  }

 private:
  // For people and for Python; the core does not use it.
  void check_mapping(Json mapping) const {
    if (!mapping.is(JsonKind::kObject)) {
      spot_.refuse("'weight_name_mapping' has a wrong value", mapping.summary(), "an object");
    }
    for (const Json name : mapping) spot_.text(name, "weight_name_mapping");
  }

  template <class T>
  void each(Json list, const char* section, std::vector<T>& out, T (ProgramReader::*read_one)(Json)) {
    spot_.subject.clear();
    // No reserve(): the file's count is not trusted before its elements are checked.
    for (const Json item : spot_.array(list, section, INT32_MAX)) {
      spot_.subject = section;
      spot_.subject += '[' + std::to_string(out.size()) + ']';
      out.push_back((this->*read_one)(item));
    }
    spot_.subject.clear();
  }

  // Sets the name, and names the thing in later errors.
  void read_name(std::string& to, Json json) {
    to = spot_.name(json, "name");
    spot_.subject += ' ' + quoted(to);
  }

  int value_id(Json json) {
    return static_cast<int>(
        spot_.integer(json, "value", 0, static_cast<std::int64_t>(program_.values.size()) - 1));
  }

  Symbol symbol(Json json) {
    const auto [name, min, max] = spot_.fields(json, {"name", "min", "max"});
    Symbol symbol;
    read_name(symbol.name, *name);
    symbol.max = spot_.integer(*max, "max", 0, kLargestExtent);
    symbol.min = spot_.integer(*min, "min", 0, symbol.max);
    return symbol;
  }

  Value value(Json json) {
    const auto [name, dtype, shape] = spot_.fields(json, {"name", "dtype", "shape"});
    Value value;
    read_name(value.name, *name);
    const auto parsed = parse_dtype(spot_.text(*dtype, "dtype"));
    if (!parsed) spot_.refuse("there is no such dtype", dtype->summary());
    value.dtype = *parsed;
    read_shape(*shape, "shape", program_.symbols, spot_, value.shape, value.extents);
    if (value.elements() > kMostBytes / static_cast<std::int64_t>(size_of(value.dtype))) {
      spot_.refuse("the value is too large", {}, "fewer than 2^46 bytes");
    }
    return value;
  }

  ProgramInput input(Json json) {
    const auto [name, value, required, state] = spot_.fields(json, {"name", "value", "required?", "state?"});
    ProgramInput input;
    read_name(input.name, *name);
    input.value = value_id(*value);
    if (required) input.required = spot_.boolean(*required, "required");
    if (state) input.state = spot_.boolean(*state, "state");
    return input;
  }

  ProgramOutput output(Json json) {
    const auto [name, value, names, alias] = spot_.fields(json, {"name", "value", "names?", "alias?"});
    ProgramOutput output;
    read_name(output.name, *name);
    output.value = value_id(*value);
    if (names) output.names = spot_.texts(*names, "names");
    if (alias && !alias->is(JsonKind::kNull)) {
      const auto last = static_cast<std::int64_t>(program_.inputs.size()) - 1;
      output.alias = static_cast<int>(spot_.integer(*alias, "alias", 0, last));
    }
    return output;
  }

  ProgramWeight weight(Json json) {
    const auto [name, value, ties] = spot_.fields(json, {"name", "value", "ties?"});
    ProgramWeight weight;
    read_name(weight.name, *name);
    weight.value = value_id(*value);
    if (ties) weight.ties = spot_.texts(*ties, "ties");
    return weight;
  }

  ProgramConstant constant(Json json) {
    const auto [name, value, offset] = spot_.fields(json, {"name", "value", "offset"});
    ProgramConstant constant;
    read_name(constant.name, *name);
    constant.value = value_id(*value);
    constant.offset = spot_.integer(*offset, "offset", 0, INT64_MAX);
    return constant;
  }

  Op op(Json json) { return read_op(json, program_, spot_); }

  ProgramModel& program_;
  FileSpot spot_;
};

}  // namespace

std::int64_t Value::elements() const {
  std::int64_t n = 1;
  for (const auto extent : shape) n *= extent;
  return n;
}

ProgramModel read_program(std::span<const std::byte> bytes, const std::string& where,
                          std::shared_ptr<const void> keep_alive) {
  try {
    const Sections sections = split(bytes, {"program", where, {}});
    ProgramModel program;
    program.constant_data = sections.constants;
    program.keep_alive = std::move(keep_alive);
    const JsonDocument document = JsonDocument::parse(sections.json, "program", where);
    ProgramReader(program, where).read(document.root());
    check_program(program, where);
    return program;
  } catch (const Error&) {
    throw;
  } catch (const std::exception& error) {  // memory, in the main
    throw Error(ErrorKind::kInvalidValue,
                {.area = "program", .what = where + ": the program could not be read", .got = error.what()});
  }
}

}  // namespace npu
