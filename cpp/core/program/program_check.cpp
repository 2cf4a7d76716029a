#include <unordered_set>

#include "core/program/in_place.h"
#include "core/program/op_check.h"
#include "core/program/program.h"
#include "core/program/regions.h"
#include "core/program/shapes.h"
#include "npu/error.h"

namespace npu {

namespace {

// What the order of the ops says about a value.
struct Use {
  std::string_view source;  // "input", "weight" or "constant"; empty when ops write it
  std::vector<const Operand*> writers;
  const Op* writer = nullptr;  // the last one
  std::size_t written_at = 0;  // its index
  bool in_prepare = false;     // it is of `prepare`
  bool read = false;           // so far
  std::size_t read_at = 0;     // index of the last op of `main` that reads it
};

// The names of the ops that can update an operand.
std::string ops_in_place() {
  std::string names;
  for (const OpInfo& op : op_table()) {
    if (!op.in_place.empty()) names += (names.empty() ? "" : ", ") + std::string(op.name);
  }
  return names;
}

class ProgramCheck {
 public:
  ProgramCheck(const ProgramModel& program, const std::string& where)
      : program_(program), spot_{"program", where, {}}, uses_(program.values.size()) {}

  void run() {
    check_names();
    define_sources();
    check_function(program_.prepare, "prepare");
    check_function(program_.main, "main");
    check_written();
    check_outputs();
    check_aliases();
  }

 private:
  const Value& value(int id) const { return program_.values[static_cast<std::size_t>(id)]; }
  Use& use(int id) { return uses_[static_cast<std::size_t>(id)]; }

  void at(const char* kind, const std::string& name) {
    spot_.subject = std::string(kind) + " " + quoted(name);
  }

  void need_new(std::unordered_set<std::string_view>& names, const std::string& name,
                const char* kind) const {
    if (!names.insert(name).second) spot_.refuse(std::string("two ") + kind + " have one name", quoted(name));
  }

  template <class T>
  void need_different_names(const std::vector<T>& things, const char* kind) const {
    std::unordered_set<std::string_view> names;
    for (const T& thing : things) need_new(names, thing.name, kind);
  }

  void check_names() const {
    need_different_names(program_.symbols, "symbols");
    need_different_names(program_.values, "values");
    need_different_names(program_.inputs, "inputs");
    need_different_names(program_.weights, "weights");
    need_different_names(program_.constants, "constants");
    need_different_names(program_.prepare, "ops of 'prepare'");
    need_different_names(program_.main, "ops of 'main'");
    std::unordered_set<std::string_view> names;
    for (const ProgramOutput& output : program_.outputs) {
      need_new(names, output.name, "outputs");
      for (const std::string& further : output.names) need_new(names, further, "outputs");
    }
  }

  template <class T>
  void define(const std::vector<T>& things, const char* kind) {
    for (const T& thing : things) {
      at(kind, thing.name);
      Use& u = use(thing.value);
      if (!u.source.empty()) {
        spot_.refuse("its value already belongs to another " + std::string(u.source),
                     quoted(value(thing.value).name));
      }
      u.source = kind;
    }
  }

  void define_sources() {
    define(program_.inputs, "input");
    define(program_.weights, "weight");
    define(program_.constants, "constant");
    const auto section = static_cast<std::int64_t>(program_.constant_data.size());
    for (const ProgramConstant& constant : program_.constants) {
      at("constant", constant.name);
      if (!value(constant.value).extents.empty()) spot_.refuse("its shape depends on a symbol");
      const std::int64_t bytes = value(constant.value).bytes();
      if (constant.offset < 0 || bytes > section || constant.offset > section - bytes) {
        spot_.refuse("it lies outside the constants section",
                     std::to_string(bytes) + " bytes from " + std::to_string(constant.offset),
                     "an end within " + std::to_string(section));
      }
    }
    for (const ProgramWeight& weight : program_.weights) {
      at("weight", weight.name);
      if (!value(weight.value).extents.empty()) spot_.refuse("its shape depends on a symbol");
    }
    spot_.subject.clear();
  }

  void check_function(const std::vector<Op>& ops, const char* function) {
    const bool prepare = &ops == &program_.prepare;
    for (std::size_t i = 0; i < ops.size(); ++i) {
      const Op& op = ops[i];
      spot_.subject = std::string(function) + "[" + std::to_string(i) + "] " + quoted(op.name);
      for (const Operand& x : op.inputs) {
        if (x.present()) check_read(x, prepare, i);
      }
      bool writes = false;
      for (const Operand& x : op.outputs) {
        if (!x.present()) continue;
        writes = true;
        check_write(x, op, prepare, i);
      }
      if (!writes) spot_.refuse("it has no result");
      check_op({program_, op, spot_});
    }
    spot_.subject.clear();
  }

  // Every element that the view reaches must exist. The magnitudes are limited for empty views too, as
  // kernels compute with them.
  void check_bounds(const Operand& x) const {
    const std::int64_t elements = value(x.value).elements();
    std::int64_t low = x.offset, high = x.offset;
    bool fits = x.shape.size() == x.strides.size() && elements_of(x.shape).has_value();
    for (std::size_t d = 0; d < x.shape.size() && fits; ++d) {
      std::int64_t reach = 0;
      const std::int64_t steps = std::max<std::int64_t>(x.shape[d] - 1, 0);
      fits =
          !__builtin_mul_overflow(x.strides[d], steps, &reach) && reach <= kMostBytes && reach >= -kMostBytes;
      if (fits) (reach < 0 ? low : high) += reach;
    }
    const bool empty = fits && *elements_of(x.shape) == 0;
    if (fits && empty) {
      fits = x.offset >= 0 && x.offset <= elements;
    } else if (fits) {
      fits = low >= 0 && high < elements;
    }
    if (!fits) {
      spot_.refuse("a view reaches outside its value " + quoted(value(x.value).name),
                   std::to_string(low) + " to " + std::to_string(high),
                   "0 to " + std::to_string(elements - 1));
    }
  }

  void check_read(const Operand& x, bool prepare, std::size_t index) {
    check_bounds(x);
    Use& u = use(x.value);
    u.read = true;
    if (!prepare) u.read_at = index;
    const bool known = !u.source.empty() || !u.writers.empty();
    if (!known) spot_.refuse("it reads the value " + quoted(value(x.value).name) + " before it is written");
    if (prepare && u.source == "input") {
      spot_.refuse("it reads the input " + quoted(value(x.value).name), {},
                   "weights and constants in 'prepare'");
    }
  }

  void check_write(const Operand& x, const Op& op, bool prepare, std::size_t index) {
    check_bounds(x);
    Use& u = use(x.value);
    const auto refuse = [&](const std::string& what) {
      spot_.refuse("it writes the value " + quoted(value(x.value).name) + what);
    };
    if (!u.source.empty()) refuse(", which is defined as " + std::string(u.source));
    if (u.read) refuse(" after or while it is read");
    if (!u.writers.empty() && u.in_prepare != prepare) refuse(", which 'prepare' writes");
    const bool symbolic = !x.extents.empty() || !value(x.value).extents.empty();
    if (symbolic && !x.whole) refuse(" in part, with a shape that depends on a symbol");
    u.writers.push_back(&x);
    u.writer = &op;
    u.written_at = index;
    u.in_prepare = prepare;
  }

  void check_written() {
    for (std::size_t i = 0; i < uses_.size(); ++i) {
      const Use& u = uses_[i];
      if (!u.source.empty()) continue;
      at("value", program_.values[i].name);
      if (u.writers.empty()) spot_.refuse("nothing writes it");
      const std::string fault = check_writers(u.writers, program_.values[i].elements());
      if (!fault.empty()) spot_.refuse("its writers do not write every element once", fault);
    }
    spot_.subject.clear();
  }

  void check_outputs() {
    std::vector<bool> taken(uses_.size(), false);
    for (const ProgramOutput& output : program_.outputs) {
      at("output", output.name);
      const Use& u = use(output.value);
      if (!u.source.empty() || u.in_prepare) {
        spot_.refuse("it is not a value that 'main' writes", quoted(value(output.value).name));
      }
      if (taken[static_cast<std::size_t>(output.value)]) spot_.refuse("its value is an output already");
      taken[static_cast<std::size_t>(output.value)] = true;
    }
    for (const ProgramInput& input : program_.inputs) {
      at("input", input.name);
      // It may be absent when the program runs.
      if (!input.required && !input.state && use(input.value).read)
        spot_.refuse("it is read but not marked as required");
    }
  }

  // The memory of the input becomes that of the output: nothing may read the input once the output is
  // written, and the op that writes it only where the result may lie there.
  void check_alias(const ProgramOutput& output) {
    const int input = program_.inputs[static_cast<std::size_t>(output.alias)].value;
    const Value &before = value(input), &after = value(output.value);
    if (before.dtype != after.dtype || before.shape != after.shape ||
        !same_extents(before.extents, after.extents)) {
      spot_.refuse("it updates an input of another shape or dtype", quoted(before.name));
    }
    const Use& u = use(output.value);
    const Op& writer = *u.writer;
    std::size_t result = 0;
    while (writer.outputs[result].value != output.value) ++result;
    if (u.writers.size() != 1 || !u.writers[0]->whole || !writes_in_place(writer, result)) {
      spot_.refuse("it updates an input in place", quoted(writer.name),
                   "one op that writes the whole of it: " + ops_in_place());
    }
    const auto lies_there = [&](const Operand& operand) { return operand.value == input; };
    if (use(input).read_at > u.written_at)
      spot_.refuse("an op reads the input that it has updated", quoted(before.name));
    if (!may_write_over(writer, result, lies_there))
      spot_.refuse("the op that updates an input reads it while it is written", quoted(before.name));
  }

  void check_aliases() {
    std::vector<bool> taken(program_.inputs.size(), false);
    for (const ProgramOutput& output : program_.outputs) {
      if (output.alias < 0) continue;
      at("output", output.name);
      check_alias(output);
      if (taken[static_cast<std::size_t>(output.alias)])
        spot_.refuse("it updates an input that another output updates");
      taken[static_cast<std::size_t>(output.alias)] = true;
    }
  }

  const ProgramModel& program_;
  FileSpot spot_;
  std::vector<Use> uses_;
};

}  // namespace

void check_program(const ProgramModel& program, const std::string& where) {
  ProgramCheck(program, where).run();
}

}  // namespace npu
