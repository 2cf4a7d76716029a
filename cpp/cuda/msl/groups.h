// Products that four simdgroups make together, from factors in threadgroup memory (wgmma, of Hopper alone).
// For the kernels of ../kernels.
#pragma once

#include "tensor.h"

namespace metal::npu {

// What this thread's copies wrote can be read by products, once all threads have passed a barrier.
NPU_MSL void show_copies();
// Before the first product, and after its sums were touched by anything else.
NPU_MSL void begin_products();
// All that were begun since the last end become one group.
NPU_MSL void end_products();
// Until at most kOpen groups are under way.
template <int kOpen>
NPU_MSL void wait_for_products();
// sums += left * right over 32 bytes of the depth, from step * 32 on: 64 rows by 8 * kTiles columns. Rows are
// 128 bytes of the depth and lie as place_of() has them, from a multiple of 1024 bytes on. Of each 8 columns
// a lane has the sums that multiply() gives it, of the 16 rows of its simdgroup.
template <int kTiles, class T>
NPU_MSL void multiply_group(LaneSums (&sums)[kTiles], const void* left, const void* right, int step, T);

#ifdef __CUDA_ARCH_FEAT_SM90_ALL

NPU_MSL void show_copies() { asm volatile("fence.proxy.async.shared::cta;" ::: "memory"); }
NPU_MSL void begin_products() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
NPU_MSL void end_products() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }
template <int kOpen>
NPU_MSL void wait_for_products() {
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(kOpen) : "memory");
}

NPU_MSL ulong described(const void* rows) {
  constexpr ulong kEightRows = 1024 >> 4, kSwizzled = 1;
  return ulong((threadgroup_address(rows) & 0x3ffff) >> 4) | 1ul << 16 | kEightRows << 32 | kSwizzled << 62;
}

template <int kTiles, class T>
struct GroupProduct;
#define NPU_MSL_SUMS(i) "+f"(sums[i].of[0]), "+f"(sums[i].of[1]), "+f"(sums[i].of[2]), "+f"(sums[i].of[3])
#define NPU_MSL_SUMS_4(i) NPU_MSL_SUMS(i), NPU_MSL_SUMS(i + 1), NPU_MSL_SUMS(i + 2), NPU_MSL_SUMS(i + 3)
#define NPU_MSL_SUMS_8(i) NPU_MSL_SUMS_4(i), NPU_MSL_SUMS_4(i + 4)
#define NPU_MSL_SUMS_16(i) NPU_MSL_SUMS_8(i), NPU_MSL_SUMS_8(i + 8)
#define NPU_MSL_NAMES_0                                    \
  "%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15," \
  "%16,%17,%18,%19,%20,%21,%22,%23,%24,%25,%26,%27,%28,%29,%30,%31"
#define NPU_MSL_NAMES_32                                             \
  "%32,%33,%34,%35,%36,%37,%38,%39,%40,%41,%42,%43,%44,%45,%46,%47," \
  "%48,%49,%50,%51,%52,%53,%54,%55,%56,%57,%58,%59,%60,%61,%62,%63"
#define NPU_MSL_NAMES_64                                             \
  "%64,%65,%66,%67,%68,%69,%70,%71,%72,%73,%74,%75,%76,%77,%78,%79," \
  "%80,%81,%82,%83,%84,%85,%86,%87,%88,%89,%90,%91,%92,%93,%94,%95"
#define NPU_MSL_NAMES_96                                                         \
  "%96,%97,%98,%99,%100,%101,%102,%103,%104,%105,%106,%107,%108,%109,%110,%111," \
  "%112,%113,%114,%115,%116,%117,%118,%119,%120,%121,%122,%123,%124,%125,%126,%127"
#define NPU_MSL_GROUP_PRODUCT(T, type, tiles, columns, names, left_name, right_name, ...)                 \
  template <>                                                                                             \
  struct GroupProduct<tiles, T> {                                                                         \
    static NPU_MSL void add(LaneSums (&sums)[tiles], ulong left, ulong right) {                           \
      asm volatile(                                                                                       \
          "{ .reg .pred added; setp.eq.u32 added, 0, 0; "                                                 \
          "wgmma.mma_async.sync.aligned.m64n" columns "k16.f32." type "." type " {" names "}, " left_name \
          ", " right_name ", added, 1, 1, 0, 0; }"                                                        \
          : __VA_ARGS__                                                                                   \
          : "l"(left), "l"(right));                                                                       \
    }                                                                                                     \
  };
#define NPU_MSL_GROUP_PRODUCTS(T, type)                                                                 \
  NPU_MSL_GROUP_PRODUCT(T, type, 8, "64", NPU_MSL_NAMES_0, "%32", "%33", NPU_MSL_SUMS_8(0))             \
  NPU_MSL_GROUP_PRODUCT(T, type, 16, "128", NPU_MSL_NAMES_0 "," NPU_MSL_NAMES_32, "%64", "%65",         \
                        NPU_MSL_SUMS_16(0))                                                             \
  NPU_MSL_GROUP_PRODUCT(T, type, 32, "256",                                                             \
                        NPU_MSL_NAMES_0 "," NPU_MSL_NAMES_32 "," NPU_MSL_NAMES_64 "," NPU_MSL_NAMES_96, \
                        "%128", "%129", NPU_MSL_SUMS_16(0), NPU_MSL_SUMS_16(16))
NPU_MSL_GROUP_PRODUCTS(half, "f16")
NPU_MSL_GROUP_PRODUCTS(bfloat, "bf16")
#undef NPU_MSL_GROUP_PRODUCTS
#undef NPU_MSL_GROUP_PRODUCT
#undef NPU_MSL_NAMES_0
#undef NPU_MSL_NAMES_32
#undef NPU_MSL_NAMES_64
#undef NPU_MSL_NAMES_96
#undef NPU_MSL_SUMS_16
#undef NPU_MSL_SUMS_8
#undef NPU_MSL_SUMS_4
#undef NPU_MSL_SUMS

template <int kTiles, class T>
NPU_MSL void multiply_group(LaneSums (&sums)[kTiles], const void* left, const void* right, int step, T) {
  const ulong turn = ulong(step) * (32 >> 4);
  GroupProduct<kTiles, T>::add(sums, described(left) + turn, described(right) + turn);
}

#endif

}  // namespace metal::npu
