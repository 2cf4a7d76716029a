#include "core/base/text.h"

#include <array>
#include <charconv>
#include <cstdio>
#include <cstdlib>

#include "npu/error.h"

namespace npu {

namespace {

constexpr int kMostCpus = 1 << 16;

std::vector<std::string_view> split(std::string_view text, char separator) {
  std::vector<std::string_view> parts;
  while (true) {
    const std::size_t end = text.find(separator);
    parts.push_back(text.substr(0, end));
    if (end == std::string_view::npos) return parts;
    text.remove_prefix(end + 1);
  }
}

bool contains(const std::vector<std::string_view>& values, std::string_view wanted) {
  for (const auto value : values) {
    if (value == wanted) return true;
  }
  return false;
}

}  // namespace

std::string_view trim(std::string_view text) {
  constexpr std::string_view kBlank = " \t\r\n";
  const std::size_t first = text.find_first_not_of(kBlank);
  if (first == std::string_view::npos) return {};
  return text.substr(first, text.find_last_not_of(kBlank) - first + 1);
}

std::vector<std::string_view> split_lines(std::string_view text) { return split(text, '\n'); }

std::optional<std::int64_t> parse_integer(std::string_view text) {
  text = trim(text);
  std::int64_t value = 0;
  const char* const end = text.data() + text.size();
  const auto [stop, error] = std::from_chars(text.data(), end, value);
  if (text.empty() || error != std::errc() || stop != end) return std::nullopt;
  return value;
}

std::vector<int> parse_cpu_list(std::string_view text) {
  std::vector<int> cpus;
  for (const auto item : split(trim(text), ',')) {
    const std::size_t dash = item.find('-');
    const auto first = parse_integer(item.substr(0, dash));
    const auto last = dash == std::string_view::npos ? first : parse_integer(item.substr(dash + 1));
    if (!first || !last || *first < 0 || *last < *first || *last >= kMostCpus) return {};
    for (auto cpu = *first; cpu <= *last; ++cpu) cpus.push_back(static_cast<int>(cpu));
  }
  return cpus;
}

std::optional<double> parse_cpu_max(std::string_view text) {
  text = trim(text);
  const std::size_t blank = text.find(' ');
  if (blank == std::string_view::npos) return std::nullopt;
  return parse_cfs_quota(text.substr(0, blank), text.substr(blank + 1));
}

std::optional<double> parse_cfs_quota(std::string_view quota, std::string_view period) {
  const auto granted = parse_integer(quota);
  const auto every = parse_integer(period);
  if (!granted || !every || *granted <= 0 || *every <= 0) return std::nullopt;
  return static_cast<double>(*granted) / static_cast<double>(*every);
}

std::optional<std::uint64_t> parse_memory_limit(std::string_view text) {
  constexpr std::int64_t kAnythingAboveIsUnlimited = std::int64_t{1} << 60;
  const auto bytes = parse_integer(text);
  if (!bytes || *bytes <= 0 || *bytes > kAnythingAboveIsUnlimited) return std::nullopt;
  return static_cast<std::uint64_t>(*bytes);
}

std::optional<std::string> cgroup_path(std::string_view proc_self_cgroup, std::string_view controller) {
  for (const auto line : split_lines(proc_self_cgroup)) {
    const std::size_t first = line.find(':');
    if (first == std::string_view::npos) continue;
    const std::size_t second = line.find(':', first + 1);
    if (second == std::string_view::npos) continue;
    const auto names = split(line.substr(first + 1, second - first - 1), ',');
    if (contains(names, controller)) return std::string(trim(line.substr(second + 1)));
  }
  return std::nullopt;
}

std::optional<std::string> cpuinfo_value(std::string_view cpuinfo, std::string_view key) {
  for (const auto line : split_lines(cpuinfo)) {
    const std::size_t colon = line.find(':');
    if (colon == std::string_view::npos || trim(line.substr(0, colon)) != key) continue;
    return std::string(trim(line.substr(colon + 1)));
  }
  return std::nullopt;
}

std::string arm_core_name(std::string_view implementer, std::string_view part) {
  struct Known {
    std::string_view implementer, part, name;
  };
  static constexpr Known kKnown[] = {
      {"0x41", "0xd0c", "Arm Neoverse N1"}, {"0x41", "0xd40", "Arm Neoverse V1"},
      {"0x41", "0xd49", "Arm Neoverse N2"}, {"0x41", "0xd4f", "Arm Neoverse V2"},
      {"0x41", "0xd08", "Arm Cortex-A72"},  {"0x41", "0xd0b", "Arm Cortex-A76"},
      {"0xc0", "0xac3", "Ampere-1"},
  };
  for (const auto& known : kKnown) {
    if (known.implementer == implementer && known.part == part) return std::string(known.name);
  }
  return "ARM core (implementer " + std::string(implementer) + ", part " + std::string(part) + ")";
}

std::string bytes_text(std::uint64_t bytes) {
  constexpr std::array<const char*, 5> kUnits = {" bytes", " KiB", " MiB", " GiB", " TiB"};
  double value = static_cast<double>(bytes);
  std::size_t unit = 0;
  for (; value >= 1024 && unit + 1 < kUnits.size(); ++unit) value /= 1024;
  std::array<char, 32> text{};
  std::snprintf(text.data(), text.size(), unit == 0 || value >= 100 ? "%.0f" : "%.1f", value);
  return text.data() + std::string(kUnits[unit]);
}

std::string environment_choice(const char* name, std::initializer_list<const char*> known) {
  const char* const value = std::getenv(name);
  if (value == nullptr || *value == '\0') return {};
  std::string expected;
  for (const char* const one : known) {
    if (std::string_view(one) == value) return value;
    expected += (expected.empty() ? "" : " or ") + std::string(one);
  }
  throw Error(ErrorKind::kInvalidValue,
              {.area = "environment",
               .what = std::string("the environment variable ") + name + " has an invalid value",
               .got = quoted(value),
               .expected = expected,
               .action = "unsetting it"});
}

}  // namespace npu
