#include "options.h"

#include <charconv>
#include <functional>
#include <string_view>
#include <vector>

#include "npu/error.h"

namespace npu::bench {

namespace {

struct Option {
  std::string_view name;
  std::string_view value;  // its name in the usage; empty for a switch
  std::string_view help;
  std::function<void(Options&, const std::string& name, const std::string& value)> set;
};

[[noreturn]] void refuse(const std::string& what, const std::string& got) {
  throw Error(ErrorKind::kInvalidValue,
              {.area = "npu-bench", .what = what, .got = got, .action = "npu-bench --help"});
}

template <class Number>
auto number(Number Options::* member, Number least) {
  return [member, least](Options& options, const std::string& name, const std::string& text) {
    Number value{};
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (error != std::errc() || end != text.data() + text.size() || value < least) {
      refuse(name + " needs a number of at least " + std::to_string(least), quoted(text));
    }
    options.*member = value;
  };
}

auto text(std::string Options::* member) {
  return
      [member](Options& options, const std::string&, const std::string& value) { options.*member = value; };
}

auto flag(bool Options::* member) {
  return [member](Options& options, const std::string&, const std::string&) { options.*member = true; };
}

const std::vector<Option>& table() {
  static const std::vector<Option> options = {
      {"--weights", "FILE", "a .safetensors file or .safetensors.index.json; random weights without it",
       text(&Options::weights)},
      {"--device", "KIND", "cpu; the best one present without it", text(&Options::device)},
      {"--threads", "N", "threads to use (default: all usable cores)", number(&Options::threads, 1)},
      {"--runs", "N", "runs to time (default 20)", number(&Options::runs, 1)},
      {"--warmup", "N", "runs before those (default 3)", number(&Options::warmup, 0)},
      {"--seed", "N", "of random weights and inputs (default 0)", number(&Options::seed, std::uint64_t{0})},
      {"--profile", "", "show what each kernel took", flag(&Options::profile)},
      {"--plan", "", "print the plan and stop", flag(&Options::plan)},
      {"--text", "", "print the program and stop", flag(&Options::text)},
      {"--json", "FILE", "write the figures as JSON ('-': to standard output)", text(&Options::json)},
      {"--version", "", "print the version", flag(&Options::version)},
      {"--help", "", "print this", flag(&Options::help)},
  };
  return options;
}

}  // namespace

Options parse_options(int argc, const char* const* argv) {
  Options options;
  for (int i = 1; i < argc; ++i) {
    std::string argument = argv[i];
    if (argument == "-h") argument = "--help";
    if (argument.rfind("--", 0) != 0) {
      if (!options.program.empty()) refuse("more than one program", quoted(argument));
      options.program = argument;
      continue;
    }
    const auto equals = argument.find('=');
    const std::string name = argument.substr(0, equals);
    const Option* match = nullptr;
    for (const Option& option : table()) {
      if (option.name == name) match = &option;
    }
    if (match == nullptr) refuse("unknown option", quoted(name));
    std::string value;
    if (!match->value.empty()) {
      if (equals != std::string::npos) {
        value = argument.substr(equals + 1);
      } else if (++i < argc) {
        value = argv[i];
      } else {
        refuse("an option needs a value", quoted(name));
      }
    } else if (equals != std::string::npos) {
      refuse("a switch takes no value", quoted(argument));
    }
    match->set(options, name, value);
  }
  if (options.program.empty() && !options.help && !options.version) refuse("no program given", "");
  return options;
}

std::string usage() {
  std::string text =
      "usage: npu-bench PROGRAM.npubin [options]\n\nLoad a compiled program, run it and print how long it "
      "takes.\n\n";
  for (const Option& option : table()) {
    std::string line =
        "  " + std::string(option.name) + (option.value.empty() ? "" : " ") + std::string(option.value);
    line.resize(std::max<std::size_t>(line.size() + 2, 20), ' ');
    text += line + std::string(option.help) + "\n";
  }
  return text;
}

}  // namespace npu::bench
