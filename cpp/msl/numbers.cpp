#include "msl/numbers.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdlib>
#include <string_view>

#include "msl/error.h"

namespace npu::msl {

namespace {

constexpr std::array<std::string_view, 12> kTypes{"bool",     "char",    "short",    "int",
                                                  "uint",     "long",    "ulong",    "int32_t",
                                                  "uint32_t", "int64_t", "uint64_t", "size_t"};

struct Operator {
  std::string_view spelling;
  int precedence;
};
// Longer ones before those that they begin with.
constexpr std::array kOperators{
    Operator{"||", 1}, Operator{"&&", 2}, Operator{"==", 6}, Operator{"!=", 6}, Operator{"<=", 7},
    Operator{">=", 7}, Operator{"<<", 8}, Operator{">>", 8}, Operator{"|", 3},  Operator{"^", 4},
    Operator{"&", 5},  Operator{"<", 7},  Operator{">", 7},  Operator{"+", 9},  Operator{"-", 9},
    Operator{"*", 10}, Operator{"/", 10}, Operator{"%", 10},
};

class Evaluator {
 public:
  Evaluator(const Tokens& tokens, Range range, const Lookup& lookup)
      : tokens_(tokens), at_(range.begin), end_(range.end), lookup_(lookup) {}

  std::int64_t run() {
    const std::int64_t value = conditional();
    if (at_ < end_) fail("unexpected `" + token().spelling + "` in an expression");
    return value;
  }

 private:
  const Token& token(std::size_t ahead = 0) const {
    return at_ + ahead < end_ ? tokens_.list[at_ + ahead] : tokens_.list.back();
  }
  bool is(std::string_view spelling) const { return at_ < end_ && token().is(spelling); }
  bool take(std::string_view spelling) {
    if (!is(spelling)) return false;
    ++at_;
    return true;
  }
  void expect(std::string_view spelling) {
    if (!take(spelling)) fail("expected `" + std::string(spelling) + "` in an expression");
  }
  [[noreturn]] void fail(const std::string& what) const {
    throw SourceError(tokens_.where(token()) + ": error: " + what);
  }

  std::int64_t conditional() {
    const std::int64_t condition = binary(1);
    if (!take("?")) return condition;
    unused_ += condition == 0;
    const std::int64_t yes = conditional();
    unused_ -= condition == 0;
    expect(":");
    unused_ += condition != 0;
    const std::int64_t no = conditional();
    unused_ -= condition != 0;
    return condition != 0 ? yes : no;
  }

  const Operator* next_operator() const {
    for (const Operator& op : kOperators) {
      if (!is(op.spelling.substr(0, 1))) continue;
      if (op.spelling.size() == 1) return &op;
      if (at_ + 1 < end_ && token(1).space.empty() && token(1).is(op.spelling.substr(1))) return &op;
    }
    return nullptr;
  }

  std::int64_t binary(int least) {
    std::int64_t left = unary();
    for (;;) {
      const Operator* const op = next_operator();
      if (op == nullptr || op->precedence < least) return left;
      at_ += op->spelling.size();
      const bool decided = (op->spelling == "&&" && left == 0) || (op->spelling == "||" && left != 0);
      unused_ += decided;
      const std::int64_t right = binary(op->precedence + 1);
      unused_ -= decided;
      left = apply(op->spelling, left, right);
    }
  }

  std::int64_t apply(std::string_view op, std::int64_t a, std::int64_t b) const {
    const auto ua = static_cast<std::uint64_t>(a), ub = static_cast<std::uint64_t>(b);
    const auto wrapped = [](std::uint64_t value) { return static_cast<std::int64_t>(value); };
    if (op == "||") return a != 0 || b != 0;
    if (op == "&&") return a != 0 && b != 0;
    if (op == "==") return a == b;
    if (op == "!=") return a != b;
    if (op == "<=") return a <= b;
    if (op == ">=") return a >= b;
    if (op == "<") return a < b;
    if (op == ">") return a > b;
    if (op == "|") return a | b;
    if (op == "^") return a ^ b;
    if (op == "&") return a & b;
    if (op == "+") return wrapped(ua + ub);
    if (op == "-") return wrapped(ua - ub);
    if (op == "*") return wrapped(ua * ub);
    if (op == "<<" || op == ">>") {
      if (b < 0 || b > 63) return unused_ ? 0 : (fail("a shift by " + std::to_string(b) + " bits"), 0);
      return op == "<<" ? wrapped(ua << b) : a >> b;
    }
    if (b == 0 || (a == INT64_MIN && b == -1))
      return unused_ ? 0 : (fail("a division that has no result"), 0);
    return op == "/" ? a / b : a % b;
  }

  std::int64_t unary() {
    if (take("-")) return apply("-", 0, unary());
    if (take("+")) return unary();
    if (take("!")) return unary() == 0;
    if (take("~")) return ~unary();
    if (take("(")) {
      const std::int64_t value = conditional();
      expect(")");
      return value;
    }
    if (at_ < end_ && token().kind == Token::number) return number();
    if (at_ < end_ && token().kind == Token::word) return name();
    fail(at_ < end_ ? "unexpected `" + token().spelling + "` in an expression"
                    : "an expression that does not end");
  }

  std::int64_t number() {
    std::string digits = token().spelling;
    while (!digits.empty() && std::string_view("uUlL").find(digits.back()) != std::string_view::npos)
      digits.pop_back();
    char* rest = nullptr;
    errno = 0;
    const bool binary = digits.starts_with("0b") || digits.starts_with("0B");
    const unsigned long long value = std::strtoull(digits.c_str() + (binary ? 2 : 0), &rest, binary ? 2 : 0);
    if (digits.empty() || *rest != '\0' || errno != 0) fail("`" + token().spelling + "` is not an integer");
    ++at_;
    return static_cast<std::int64_t>(value);
  }

  std::int64_t name() {
    std::string name = token().spelling;
    if (name == "true" || name == "false") return ++at_, name == "true";
    const bool is_type = std::find(kTypes.begin(), kTypes.end(), name) != kTypes.end();
    if (is_type && at_ + 1 < end_ && token(1).is("(")) return ++at_, unary();
    std::size_t past = 1;
    while (at_ + past + 1 < end_ && token(past).is("::")) {
      name += "::" + token(past + 1).spelling;
      past += 2;
    }
    const std::optional<std::int64_t> value = lookup_(name);
    if (!value) fail("`" + name + "` has no value that is known here");
    at_ += past;
    return *value;
  }

  const Tokens& tokens_;
  std::size_t at_, end_;
  const Lookup& lookup_;
  int unused_ = 0;  // depth of operands whose value does not matter
};

}  // namespace

std::int64_t evaluate(const Tokens& tokens, Range range, const Lookup& lookup) {
  return Evaluator(tokens, range, lookup).run();
}

}  // namespace npu::msl
