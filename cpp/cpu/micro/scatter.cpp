// Elements combined with what lies where indices say, one after the other: the same one may come twice.
#include "cpu/micro/half.h"
#include "cpu/micro/table.h"

namespace npu::cpu::NPU_ISA {

namespace {

using Kind = ScatterAttrs::Kind;

// Elements as they are stored, and the numbers that they are computed as.
struct AsFloat {
  using Element = float;
  static float read(float x) { return x; }
  static float write(float x) { return x; }
};
template <F32 (*from)(U16), U16 (*to)(F32)>
struct AsHalf {
  using Element = std::uint16_t;
  static float read(std::uint16_t x) { return from(U16{} + x)[0]; }
  static std::uint16_t write(float x) { return to(all(x))[0]; }
};
template <class T>
struct AsInteger {
  using Element = T;
  static std::int64_t read(T x) { return static_cast<std::int64_t>(x); }
  static T write(std::int64_t x) { return static_cast<T>(x); }
};
struct AsBool {
  using Element = std::uint8_t;
  static bool read(std::uint8_t x) { return x != 0; }
  static std::uint8_t write(bool x) { return x ? 1 : 0; }
};

template <Kind kind>
inline bool combined(bool old, bool update) {
  return kind == Kind::kAdd || kind == Kind::kMax ? old || update : old && update;
}
template <Kind kind>
inline float combined(float old, float update) {
  if constexpr (kind == Kind::kAdd) return old + update;
  if constexpr (kind == Kind::kMul) return old * update;
  const bool better = kind == Kind::kMax ? old < update : update < old;
  return better || update != update ? update : old;  // NaN wins
}
template <Kind kind>
inline std::int64_t combined(std::int64_t old, std::int64_t update) {
  const auto a = static_cast<std::uint64_t>(old), b = static_cast<std::uint64_t>(update);  // they wrap
  if constexpr (kind == Kind::kAdd) return static_cast<std::int64_t>(a + b);
  if constexpr (kind == Kind::kMul) return static_cast<std::int64_t>(a * b);
  const bool better = kind == Kind::kMax ? old < update : update < old;
  return better ? update : old;
}

template <Kind kind, class As>
void scatter_as(const ScatterCall& c) {
  using Element = typename As::Element;
  const auto* const updates = static_cast<const Element*>(c.updates);
  auto* const y = static_cast<Element*>(c.y);
  const auto one = [&](std::int64_t i, std::int64_t at) {
    const Element update = updates[i * c.step];
    if constexpr (kind == Kind::kSet) {
      y[at] = update;
    } else {
      y[at] = As::write(combined<kind>(As::read(y[at]), As::read(update)));
    }
  };
  if (c.offsets != nullptr) {
    for (std::int64_t i = 0; i < c.n; ++i) one(i, c.offsets[i]);
  } else {
    for (std::int64_t i = 0; i < c.n; ++i) one(i, i * c.y_step);
  }
}

template <Kind kind>
void scatter_kind(const ScatterCall& c) {
  switch (c.dtype) {
    case DType::kFloat32:
      return scatter_as<kind, AsFloat>(c);
    case DType::kFloat16:
      return scatter_as<kind, AsHalf<from_f16, to_f16>>(c);
    case DType::kBFloat16:
      return scatter_as<kind, AsHalf<from_bf16, to_bf16>>(c);
    case DType::kInt8:
      return scatter_as<kind, AsInteger<std::int8_t>>(c);
    case DType::kInt16:
      return scatter_as<kind, AsInteger<std::int16_t>>(c);
    case DType::kInt32:
      return scatter_as<kind, AsInteger<std::int32_t>>(c);
    case DType::kInt64:
      return scatter_as<kind, AsInteger<std::int64_t>>(c);
    case DType::kUInt8:
      return scatter_as<kind, AsInteger<std::uint8_t>>(c);
    case DType::kBool:
      return scatter_as<kind, AsBool>(c);
  }
}

void scatter(const ScatterCall& c) {
  switch (c.kind) {
    case Kind::kSet:
      return scatter_kind<Kind::kSet>(c);
    case Kind::kAdd:
      return scatter_kind<Kind::kAdd>(c);
    case Kind::kMul:
      return scatter_kind<Kind::kMul>(c);
    case Kind::kMax:
      return scatter_kind<Kind::kMax>(c);
    case Kind::kMin:
      return scatter_kind<Kind::kMin>(c);
  }
}

}  // namespace

void fill_scatter(Micro& micro) { micro.scatter = scatter; }

}  // namespace npu::cpu::NPU_ISA
