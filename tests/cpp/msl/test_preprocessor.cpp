// The preprocessor, against what the C++ standard says and examples that it gives.
#include "msl/sources.h"

using namespace npu;
using namespace npu::test;

TEST(msl_preprocessor, macros_without_and_with_parameters) {
  CHECK_EQ(preprocessed("#define N 4\nint a[N], N2;"), "int a[ 4 ], N2;");
  CHECK_EQ(preprocessed("#define F(a, b) a + b\nF(1, (2, 3)) F"), "1 + (2, 3) F");
  CHECK_EQ(preprocessed("#define F() x\nF() F\n()"), "x x");
  CHECK_EQ(preprocessed("#define F(a,\\\n b) b \\\n a\nF(1,\n2)"), "2 1");
  CHECK_EQ(preprocessed("#define LOOP(T, ...) T f(__VA_ARGS__);\nLOOP(int, int a, int b) LOOP(int)"),
           "int f(int a, int b); int f();");
  CHECK_EQ(preprocessed("#define A 1\n#undef A\nA // none\n/* B\n */ B"), "A B");
  CHECK_EQ(preprocessed("#define NEG -1\nx-NEG;"), "x- -1 ;");
}

TEST(msl_preprocessor, a_macro_does_not_expand_itself) {
  CHECK_EQ(preprocessed("#define f(a) f(a + 1)\nf(f(2))"), "f(f(2 + 1) + 1)");
  CHECK_EQ(preprocessed("#define x y\n#define y x\nx y"), "x y");
  CHECK_EQ(preprocessed("#define g f\n#define f(a) [a]\ng(2)"), "[2]");
}

// [cpp.scope] of the standard, without the parts on redefinition.
TEST(msl_preprocessor, the_example_of_the_standard) {
  const std::string macros =
      "#define x 3\n#define f(a) f(x * (a))\n#undef x\n#define x 2\n#define g f\n#define z z[0]\n"
      "#define h g(~\n#define m(a) a(w)\n#define w 0,1\n#define t(a) a\n";
  std::string text = preprocessed(macros + "f(y+1) + f(f(z)) % t(t(g)(0) + t)(1);");
  std::erase(text, ' ');
  CHECK_EQ(text, "f(2*(y+1))+f(2*(f(2*(z[0]))))%f(2*(0))+t(1);");
  text = preprocessed(macros + "g(x+(3,4)-w) | h 5) & m\n(f)^m(m);");
  std::erase(text, ' ');
  CHECK_EQ(text, "f(2*(2+(3,4)-0,1))|f(2*(~5))&f(2*(0,1))^m(0,1);");
}

TEST(msl_preprocessor, hash_and_double_hash) {
  CHECK_EQ(preprocessed("#define NAME(k, T) #k \"_\" #T\nNAME(a   < b, vec(1, \"q\\n\"))"),
           "\"a < b\" \"_\" \"vec(1, \\\"q\\\\n\\\")\"");
  CHECK_EQ(preprocessed("#define FOUR(T) packed_##T##4 x\nFOUR(half);"), "packed_half4 x ;");
  CHECK_EQ(preprocessed("#define T int\n#define JOIN(a, b) a##b a b\nJOIN(T, )"), "int int");
  CHECK_EQ(preprocess_error("#define CAT(a, b) a##b\nCAT(CAT(1, 2), 3)"),
           "test:2: error: `)` ## `3` is not one token");
}

TEST(msl_preprocessor, conditions) {
  const auto chosen = [](const std::string& condition) {
    return preprocessed("#define TWO 2\n#define EMPTY\n#define SAME(x) x\n#if " + condition +
                        "\nyes\n#else\nno\n#endif");
  };
  for (const char* const yes :
       {"1", "TWO == 2", "defined TWO && defined(EMPTY) && !defined OTHER", "OTHER == 0", "1 ? 2 : 1 / 0",
        "0 && 1 / 0 || 1", "-1 < 0 && ~0 == -1", "(1 + 2) * 3 == 9", "1 + 2 * 3 == 7", "7 % 4 >> 1 == 1",
        "1 << 3 != 7", "0x10u == 16ul", "SAME(TWO) >= 2", "2 - 1 - 1 == 0", "6 & 3 | 8 ^ 1",
        "OTHER < 1 || x"})
    CHECK_EQ(chosen(yes), "yes");
  for (const char* const no : {"0", "OTHER", "TWO > 2", "defined OTHER", "1 == 2 == 1"})
    CHECK_EQ(chosen(no), "no");
  CHECK_EQ(preprocessed("#if 0\na\n#elif 1\nb\n#elif 1\nc\n#else\nd\n#endif"), "b");
  CHECK_EQ(preprocessed(
               "#ifdef A\n#if x y z\n#error don't\n#else\na\n#endif\n#else\nb\n#endif\n#ifndef A\nc\n#endif"),
           "b c");
  CHECK_EQ(preprocessed("#if 1\na\n#elif 1 / 0\nb\n#endif"), "a");
}

TEST(msl_preprocessor, files_that_are_included) {
  const Files files = {
      {"a.h", "#pragma once\n#include \"b.h\"\na"}, {"b.h", "b"}, {"c.h", "#include \"c.h\"\n"}};
  CHECK_EQ(preprocessed("#include \"a.h\"\n#include \"a.h\" // again\n#include \"b.h\"", options_with(files)),
           "b a b");
  CHECK_EQ(preprocess_error("\n#include \"d.h\"", files), "test:2: error: there is no file d.h to include");
  CHECK_EQ(preprocess_error("#include <a.h>", files), "test:1: error: there is no file a.h to include");
  CHECK_EQ(preprocess_error("#include \"c.h\"", files), "c.h:1: error: files include each other without end");
  CHECK_EQ(preprocess_error("#include a.h", files), "test:1: error: #include needs a name in \"\" or <>");
}

TEST(msl_preprocessor, pragmas_are_kept_changed_or_dropped) {
  const std::string text =
      "#define UNROLL _Pragma(\"clang loop unroll(full)\")\nUNROLL for (;;) ;\n#pragma clang fp "
      "contract(off)\nx";
  CHECK_EQ(preprocessed(text),
           "_Pragma(\"clang loop unroll(full)\") for (;;) ; _Pragma(\"clang fp contract(off)\") x");
  msl::PreprocessOptions options;
  options.pragma = [](const std::string& pragma) -> std::string {
    return pragma == "clang loop unroll(full)" ? "unroll" : "";
  };
  CHECK_EQ(preprocessed(text, options), "_Pragma(\"unroll\") for (;;) ; x");
}

TEST(msl_preprocessor, options_define_macros) {
  msl::PreprocessOptions options;
  options.macros = {{"__METAL_VERSION__", "310"}, {"EMPTY", ""}};
  CHECK_EQ(preprocessed("#ifdef __METAL_VERSION__\n__METAL_VERSION__ EMPTY;\n#endif", options), "310 ;");
}

TEST(msl_preprocessor, tokens_know_their_lines) {
  const Files files = {{"a.h", "one\n\n/* two\n*/ two"}};
  const msl::Tokens tokens = msl::preprocess("#define M(x) x y\n#include \"a.h\"\nthree M(\nfour\n) five",
                                             "test", options_with(files));
  std::string where;
  for (const msl::Token& token : tokens.list) where += tokens.where(token) + " " + token.spelling + "; ";
  CHECK_EQ(where, "a.h:1 one; a.h:4 two; test:3 three; test:3 four; test:3 y; test:5 five; test:0 ; ");
  CHECK_EQ(msl::with_lines(tokens),
           "\n#line 1 \"a.h\"\none\n\n\ntwo\n#line 3 \"test\"\nthree four y\n\nfive\n");
}

TEST(msl_preprocessor, errors_name_file_and_line) {
  CHECK_EQ(preprocess_error("\n#error no such thing"), "test:2: error: no such thing");
  CHECK_EQ(preprocess_error("#wrong"), "test:1: error: #wrong is not known here");
  CHECK_EQ(preprocess_error("\n#if 1\n\n"), "test:2: error: an #if without its #endif");
  CHECK_EQ(preprocess_error("#include \"a.h\"\n#endif", {{"a.h", "#if 1"}}),
           "a.h:1: error: an #if without its #endif");
  CHECK_EQ(preprocess_error("#endif"), "test:1: error: #endif without an #if");
  CHECK_EQ(preprocess_error("#if 1\n#else\n#elif 1\n#endif"), "test:3: error: #elif after #else");
  CHECK_EQ(preprocess_error("#if 1 +\n#endif"), "test:1: error: an expression that does not end");
  CHECK_EQ(preprocess_error("#if 1 / 0\n#endif"), "test:1: error: a division that has no result");
  CHECK_EQ(preprocess_error("#if 1.5\n#endif"), "test:1: error: `1.5` is not an integer");
  CHECK_EQ(preprocess_error("#if (1\n#endif"), "test:1: error: expected `)` in an expression");
  CHECK_EQ(preprocess_error("#if 1 2\n#endif"), "test:1: error: unexpected `2` in an expression");
  CHECK_EQ(preprocess_error("#ifdef 1\n#endif"), "test:1: error: #ifdef needs a name");
  CHECK_EQ(preprocess_error("#define F(a) a\n\nF(1, 2)"), "test:3: error: macro F takes 1 arguments, got 2");
  CHECK_EQ(preprocess_error("#define F(a) a\nF(1"), "test:2: error: the arguments of macro F do not end");
  CHECK_EQ(preprocess_error("#define F(a"), "test:1: error: the parameters of macro F do not end");
  CHECK_EQ(preprocess_error("#define A 1\n#define A 2"),
           "test:2: error: macro A is defined otherwise already");
  CHECK_EQ(preprocess_error("#define A 1\n#define A 1"), "");
  CHECK_EQ(preprocess_error("#define P(a, b) a##b\nP(+, x)"), "test:2: error: `+` ## `x` is not one token");
  CHECK_EQ(preprocess_error("#define P(a) ##a\n"), "test:1: error: ## stands between two tokens");
  CHECK_EQ(preprocess_error("#define S(a) #b\nS(1)"),
           "test:2: error: # in macro S stands before none of its parameters");
  CHECK_EQ(preprocess_error("x\n/* never"), "test:2: error: a comment that does not end");
  CHECK_EQ(preprocess_error("\n\"never\nx"), "test:2: error: a text that does not end on its line");
}
