// The inner loops, compiled once per instruction set and chosen at run time. Everything above them is
// portable.
#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>
#include <string>
#include <string_view>
#include <vector>

#include "core/program/opset.gen.h"
#include "core/program/quantization.h"
#include "cpu/integer_steps.h"
#include "npu/dtype.h"

namespace npu::cpu {

// Packed rows of the left matrix are this far apart (in elements), whatever their length. No power of two, or
// the rows would share cache sets.
inline constexpr std::int64_t kPackedK = 256;  // a panel of AVX-512 then has 32 KB, a first-level cache
inline constexpr std::int64_t kPackedStride = kPackedK + 16;

// Two bfloat16 that the hardware multiplies and adds at once. They are packed as float32 are, as one word.
struct Bf16Pair {
  std::uint16_t first, second;
};
static_assert(sizeof(Bf16Pair) == sizeof(float));

// What results are kept between, where they are: relu and its like. A NaN stays.
struct Limits {
  bool apply = false;
  float low = 0, high = 0;
};

// Up to mr rows times a panel of nr columns. When it is done with k: + what c held, + bias, + residual, then
// the limits.
struct GemmTile {
  const void* a = nullptr;  // row i starts at a + i * a_stride
  std::int64_t a_stride = kPackedStride;
  const void* b = nullptr;  // packed panel: [segments * k][nr]
  std::int64_t k = 0;
  // Rows in several segments of k each, the s-th at a + segment_at[s]; null: one, at a.
  int segments = 1;
  const std::int64_t* segment_at = nullptr;
  float* c = nullptr;  // c[i * c_stride + j]
  std::int64_t c_stride = 0;
  bool accumulate = false;
  const float* bias = nullptr;  // nr values
  const float* residual = nullptr;
  std::int64_t residual_stride = 0;
  Limits limits;
  const float* next = nullptr;  // prefetched: a cache line at each of k steps
  std::int64_t next_step = 16;  // from one to the next, in floats
};

// Rows of sums that become results of 16 bits: + residual, the limits, then rounded. Distances are in
// elements.
struct HalfTile {
  float* sums = nullptr;
  std::int64_t sums_step = 0, rows = 0, n = 0;
  const void* residual = nullptr;  // float32, or as the results
  std::int64_t residual_step = 0;
  bool residual_is_half = true;
  Limits limits;
  std::uint16_t* out = nullptr;  // null: sums stay float32, where they are
  std::int64_t out_step = 0;
};

// Rows of floats of any dtype, at x + offsets[i], in elements.
struct WindowRows {
  DType dtype;
  const void* x;
  const std::int64_t* offsets;
  std::int64_t count;
};

// Where the input and the weights of a tap lie, in floats, and its column of the filter.
struct GroupTap {
  std::int64_t x, w, column;
};

// Some output pixels of a convolution in groups, for neighbouring channels that fit a vector. Each channel
// sees only the input channels of its own group.
struct GroupTile {
  // Pixel i starts at x + i * x_stride, for a tap at taps[t].x from there: at the first channel of the group
  // if all channels are of one, else of the first of their groups, which follow each other.
  const float* x = nullptr;
  std::int64_t x_stride = 0;
  const float* w = nullptr;  // w + taps[t].w: [input of a group][a vector]
  const GroupTap* taps = nullptr;
  int tap_count = 0;
  // By the column of a tap: bit i is set if the image has it for pixel i. Null: it has all.
  const std::uint32_t* seen = nullptr;
  // Of a depthwise tile, whose taps are rows: the pixels from x on that the image has. Others are zeros.
  std::int64_t begin = 0, end = 0;
  int inputs = 1, outputs = 1;  // of a group; of several groups, no more inputs than outputs
  bool one_group = false;
  std::int64_t channels = 0;  // at most a vector
  float* c = nullptr;         // c[i * c_stride + channel]
  std::int64_t c_stride = 0;
  bool accumulate = false;  // then + what c held
  const float* bias = nullptr;
  const float* residual = nullptr;
  std::int64_t residual_stride = 0;
  Limits limits;
};

using GroupTileRun = void (*)(int pixels, const GroupTile& tile);

// Rows of pixels of a few output channels, summed over taps that lie in planes of the input:
// y[c * y_stride + i] += sum_t w[t * channels + c] * x[at[t] + i].
struct PlanarRows {
  const float* x = nullptr;
  const std::int64_t* at = nullptr;
  const float* w = nullptr;
  std::int64_t taps = 0;
  int channels = 1;  // at most kPlanarChannels
  float* y = nullptr;
  std::int64_t y_stride = 0, n = 0;
};

inline constexpr int kPlanarChannels = 4;  // their sums, of several vectors each, fit the registers
// A patch of 4x4 input pixels, and the 16 values of each channel that stand for it, `to_step` apart.
struct WinogradInput {
  const float* x = nullptr;
  std::int64_t row_step = 0, column_step = 0;
  std::int64_t channels = 0;
  float* to = nullptr;
  std::int64_t to_step = 0;
};

// The 16 sums of each channel, `from_step` apart, and the 2x2 output pixels that they stand for, or fewer at
// a border.
struct WinogradOutput {
  const float* from = nullptr;
  std::int64_t from_step = 0;
  std::int64_t channels = 0;
  int rows = 2, columns = 2;
  float* y = nullptr;
  std::int64_t row_step = 0, column_step = 0;
  const float* bias = nullptr;
  const float* residual = nullptr;
  std::int64_t residual_row = 0, residual_column = 0;
  Limits limits;
};

inline constexpr int kGemvRows = 8;  // with more, the sums of a few columns no longer fit registers

struct GemvCall {
  int rows = 1;  // of x, at most kGemvRows
  std::int64_t columns = 0, depth = 0;
  const void* x = nullptr;  // float32, but for pairs
  std::int64_t x_stride = 0;
  const void* w = nullptr;
  std::int64_t stride = 0;
  float* out = nullptr;
  std::int64_t out_stride = 0;
};

// At most kDequantized neighbours of a quantised row, from bit `bit` of q[0] on. The first `left` of them
// have the first scale and offset, the next `group` the second, and so on.
inline constexpr std::int64_t kDequantized = 2 * kPackedK;  // what a panel has of a column, in pairs
struct DequantizeCall {
  int bits = 8;  // 2, 3, 4, 6 or 8
  bool is_signed = false;
  Quantization::Offset offset = Quantization::Offset::kNone;
  DType scale_dtype = DType::kFloat32, offset_dtype = DType::kFloat32;
  const std::uint8_t* q = nullptr;
  std::int64_t bit = 0, n = 0, left = 0, group = 0;
  const void* scales = nullptr;
  const void* offsets = nullptr;
  // What scales and offsets are multiples of, if there are units: the first unit_left groups of the first one
  // (and the second one, if there are offsets), and so on.
  DType unit_dtype = DType::kFloat32;
  const void* units = nullptr;
  std::int64_t unit_groups = 0, unit_left = 0;
};

// Columns of a quantised right side that are laid across together.
inline constexpr std::int64_t kPanelColumns = 16;  // the first cache has room for them

// The scales and shifts of their groups, column by column: first all scales, `stride` apart. What is written
// are whole vectors.
struct PanelFactorsCall {
  int bits = 8;
  bool is_signed = false;
  Quantization::Offset offset = Quantization::Offset::kNone;
  DType scale_dtype = DType::kFloat32, offset_dtype = DType::kFloat32;
  const void* scales = nullptr;  // strides count elements
  const void* offsets = nullptr;
  std::int64_t scale_stride = 0, offset_stride = 0;
  std::int64_t columns = 0, groups = 0;
  float* factors = nullptr;
  std::int64_t stride = 0;
};

// Words of 4 or 8 bits as rows of a panel, `nr` apart. Words, scales and shifts lie as transpose_words leaves
// them, kPanelColumns to a row. The first group has `left` elements, others `group`: whole words.
struct UnpackCall {
  bool is_signed = false;
  const float* q = nullptr;
  std::int64_t words = 0, width = 0;
  const float* scales = nullptr;
  const float* shifts = nullptr;
  std::int64_t left = 0, group = 0;
  float* to = nullptr;
  std::int64_t nr = 0;
};

// How many elements of a quantised row its loops take as one word: 24 bits of those of 6 bits, or else 32.
constexpr int quantized_word(int bits) { return bits == 6 ? 4 : 32 / bits; }

// The factors of a set of columns and of the next set: whole vectors for each column, and one more.
inline constexpr int kQuantizedColumns = 4;  // of a set, at most
constexpr std::int64_t quantized_room(std::int64_t groups, std::int64_t lanes) {
  return 2 * kQuantizedColumns * ((groups + lanes - 1) / lanes + 1) * lanes;
}

// Few rows of x times many quantised ones: out[i * out_stride + j] = sum_k x[i][k] * number(j, k).
//
// A block of a quantised row fills a vector of words; the elements of a word lie `bits` bits apart. x is laid
// out in the same way (QuantizedLoops::arrange): for each block, the first element of every word, then the
// second, and so on, with zeros behind the depth.
struct QuantizedGemvCall {
  int rows = 1;  // of x, at most kGemvRows
  bool is_signed = false;
  std::int64_t columns = 0, depth = 0;
  const void* x = nullptr;
  std::int64_t x_stride = 0;          // elements; whole blocks
  const float* group_sums = nullptr;  // of each row of x, sums_stride apart; zeros fill the last vector
  std::int64_t sums_stride = 0;
  const std::uint8_t* q = nullptr;
  std::int64_t q_stride = 0;  // bytes
  DType scale_dtype = DType::kFloat32, offset_dtype = DType::kFloat32;
  const void* scales = nullptr;  // strides count elements
  const void* offsets = nullptr;
  std::int64_t scale_stride = 0, offset_stride = 0;
  // What scales and offsets are multiples of, or null: one (or with offsets two) for unit_groups groups,
  // which is a multiple of the lanes, or divides them.
  DType unit_dtype = DType::kFloat32;
  const void* units = nullptr;
  std::int64_t unit_stride = 0, unit_groups = 0;
  Quantization::Offset offset = Quantization::Offset::kNone;
  std::int64_t group = 0, groups = 0;
  float* room = nullptr;  // of quantized_room floats
  float* out = nullptr;
  std::int64_t out_stride = 0;
};

// Lays out a row of x; `to` has whole blocks.
struct ArrangeCall {
  const void* x = nullptr;
  std::int64_t depth = 0;
  void* to = nullptr;
};

// For x of one dtype and one number of bits.
struct QuantizedLoops {
  void (*multiply)(const QuantizedGemvCall& call) = nullptr;  // null: there is none
  void (*arrange)(const ArrangeCall& call) = nullptr;
};

// sums[i * sums_stride + e] += sum_t weights[i * weights_stride + t] * values[t * stride + e].
struct WeighCall {
  int rows = 1;  // at most kGemvRows
  std::int64_t count = 0, width = 0;
  const float* weights = nullptr;
  std::int64_t weights_stride = 0;
  const void* values = nullptr;
  std::int64_t stride = 0;
  float* sums = nullptr;
  std::int64_t sums_stride = 0;
};

// y[i * y_stride + j] += sum_k a[i * a_stride + k] * b[k * b_stride + j].
template <class T>
struct IntegerProduct {
  std::int64_t rows = 0, depth = 0, columns = 0;
  const T* a = nullptr;
  std::int64_t a_stride = 0;
  const T* b = nullptr;
  std::int64_t b_stride = 0;
  T* y = nullptr;
  std::int64_t y_stride = 0;
};

// Sums wrap.
template <class T>
struct IntegerLoops {
  void (*multiply)(const IntegerProduct<T>& product);
  T (*dot)(DType dtype, const void* x, const T* y, std::int64_t n);  // the sum of x[i] * y[i]
};

// An axis of what is sampled at coordinates g, which stand for element (g + 1) * scale - shift.
struct GridAxis {
  GridSampleAttrs::Kind kind;
  GridSampleAttrs::Padding padding;
  float scale, shift, last;
  float low, span;         // reflection is at `low` and at low + span
  std::int32_t keeps_nan;  // -1: a position that is not finite gives NaN; 0: it lies outside
  std::int64_t step;
};

// The weight of what lies outside. No weight of an element has these bits: it may be 0, not -0.
inline constexpr float kOutside = -0.0f;
inline constexpr std::int32_t kOutsideBits = std::numeric_limits<std::int32_t>::min();

// Offsets that indices say: of each, counted from the end where it is negative and `wrap` is set, times
// `stride`.
struct IndexOffsets {
  DType dtype = DType::kInt64;  // of the indices, integers or bools
  const void* indices = nullptr;
  std::int64_t index_step = 1;
  std::int64_t extent = 0;
  bool wrap = false;
  std::int64_t stride = 0;
  std::int64_t start = 0, step = 0;  // of start_offsets
  std::int64_t n = 0;
  std::int64_t* offsets = nullptr;
};

// Updates combined with elements of y, one after the other.
struct ScatterCall {
  ScatterAttrs::Kind kind;
  DType dtype;
  const void* updates = nullptr;
  std::int64_t step = 0;
  void* y = nullptr;
  std::int64_t y_step = 0;                // where there are no offsets
  const std::int64_t* offsets = nullptr;  // of the elements
  std::int64_t n = 0;
};

struct FusedStep;  // cpu/fused.h

struct Micro {
  const char* name;  // "portable", "avx2", "avx512", "avx512_bf16", "neon"

  // Matrix products. rows <= mr, the panel is nr wide; `columns` <= nr are stored.
  int mr, nr;
  void (*gemm_f32)(int rows, int columns, const GemmTile& tile);
  // The same with pairs of bfloat16 for each float32 of a and b; null where the hardware has no such product.
  void (*gemm_bf16)(int rows, int columns, const GemmTile& tile);
  void (*finish_f16)(const HalfTile& tile);
  void (*finish_bf16)(const HalfTile& tile);
  // Convolutions in groups, of at most group_pixels pixels and `lanes` channels.
  int lanes, group_pixels;
  GroupTileRun group_tile;
  // For filters of so many columns, of each channel by itself, or null: a tile of at most depthwise_pixels
  // pixels whose input pixels are x_stride apart. Padding must be less than a filter's columns.
  int depthwise_pixels;
  GroupTileRun (*depthwise_tile)(std::int64_t columns, std::int64_t stride);
  void (*planar_rows)(const PlanarRows& rows);
  // 3x3 convolutions by transformed tiles. The output's says whether all sums are finite.
  void (*winograd_input)(const WinogradInput& patch);
  bool (*winograd_output)(const WinogradOutput& pixels);
  // Few rows of x times many of w: out[i * out_stride + j] = sum_k x[i * x_stride + k] * w[j * stride + k].
  // All rows of x share each read of w.
  void (*gemv_f32)(const GemvCall& call);
  void (*gemv_bf16)(const GemvCall& call);
  void (*gemv_f16)(const GemvCall& call);
  void (*gemv_i8)(const GemvCall& call);        // x of float32
  void (*gemv_i8_pairs)(const GemvCall& call);  // x of bfloat16; null as gemm_bf16 is
  void (*gemv_pairs)(const GemvCall& call);     // x of bfloat16 too; null as gemm_bf16 is

  // Numbers of quantised rows; bfloat16 ones are rounded.
  void (*dequantize_f32)(const DequantizeCall& call, float* to);
  void (*dequantize_bf16)(const DequantizeCall& call, std::uint16_t* to);

  // Few rows times quantised ones of 4, 6 and 8 bits: of float32, and of bfloat16 that the hardware
  // multiplies in pairs.
  QuantizedLoops fours_f32, sixes_f32, eights_f32, fours_pairs, sixes_pairs, eights_pairs;
  // The sums of each `group` elements of a row of float32; zeros fill the last vector.
  void (*group_sums)(const float* x, std::int64_t depth, std::int64_t group, float* to);

  // Words of rows across: to[i * nr + j] = word i of row j, for j < count, and 0 for j < width. Rows are
  // `stride` bytes apart; count <= width <= nr, and width is a multiple of 4.
  void (*transpose_words)(const void* rows, std::int64_t stride, std::int64_t count, std::int64_t length,
                          float* to, std::int64_t nr, std::int64_t width);
  // Words of two rows' elements: to[j] = first[j] and second[j] (null: zeros).
  void (*pair_rows)(const std::uint16_t* first, const std::uint16_t* second, float* to, std::int64_t n);
  // Words that are pairs of `dtype`: the first of each, and the second, as float32.
  void (*split_pairs)(DType dtype, const float* words, float* first, float* second, std::int64_t n);

  // Multiply-adds in registers alone, to measure what the core can do; returns how many operations.
  double (*burn)(std::int64_t rounds);

  // Contiguous conversion between storage and float32.
  void (*load_f16)(const std::uint16_t* x, float* y, std::int64_t n);
  void (*load_bf16)(const std::uint16_t* x, float* y, std::int64_t n);
  void (*store_f16)(const float* x, std::uint16_t* y, std::int64_t n);
  void (*store_bf16)(const float* x, std::uint16_t* y, std::int64_t n);

  // Steps of an expression one after the other on some vectors, which stay in the processor's registers, then
  // on the next: of `rows` rows of n elements.
  void (*fused)(const FusedStep* steps, int count, std::int64_t rows, std::int64_t n);
  // Steps of expressions over float32 registers of n elements (n <= kExprBlock).
  void (*unary)(ExprOp op, const float* x, float* y, std::int64_t n);
  // In place, rows of n elements `step` apart.
  void (*unary_rows)(ExprOp op, float* y, std::int64_t step, std::int64_t rows, std::int64_t n);
  // y * by + plus, each rounded.
  void (*scale_rows)(float* y, std::int64_t step, std::int64_t rows, std::int64_t n, float by, float plus);
  void (*limit)(float* y, const Limits& limits, std::int64_t n);
  void (*binary)(ExprOp op, const float* a, const float* b, float* y, std::int64_t n);
  void (*where)(const std::uint8_t* c, const float* a, const float* b, float* y, std::int64_t n);
  // Where results are rounded to 16 bits, these are as good.
  void (*half_unary)(const Micro& micro, ExprOp op, const float* x, float* y, std::int64_t n);
  void (*half_binary)(const Micro& micro, ExprOp op, const float* a, const float* b, float* y,
                      std::int64_t n);
  // The same over integers and bools.
  IntegerSteps int8s, int16s, int32s, int64s, uint8s;
  void (*bools)(ExprOp op, const std::uint8_t* a, const std::uint8_t* b, std::uint8_t* y, std::int64_t n);
  void (*choose_bools)(const std::uint8_t* c, const std::uint8_t* a, const std::uint8_t* b, std::uint8_t* y,
                       std::int64_t n);

  // Between registers and elements at a distance of `stride`. load_floats takes any dtype, store_floats
  // floating-point ones, the others integers and bools.
  void (*load_floats)(DType dtype, const void* x, std::int64_t stride, std::int64_t n, float* y);
  void (*store_floats)(DType dtype, const float* x, void* y, std::int64_t stride, std::int64_t n);
  void (*load_integers)(DType dtype, const void* x, std::int64_t stride, std::int64_t n, std::int64_t* y);
  void (*store_integers)(DType dtype, const std::int64_t* x, void* y, std::int64_t stride, std::int64_t n);

  // Reductions of n contiguous values, accumulated so that long rows stay exact to float32.
  double (*sum)(const float* x, std::int64_t n);
  double (*sum_stored)(DType dtype, const void* x, std::int64_t n);     // of a floating-point dtype
  double (*sum_around)(const float* x, float centre, std::int64_t n);   // of x - centre
  double (*sum_squares)(const float* x, float centre, std::int64_t n);  // of x - centre
  float (*maximum)(const float* x, std::int64_t n);                     // NaN wins
  float (*minimum)(const float* x, std::int64_t n);                     // NaN wins
  double (*product)(const float* x, std::int64_t n);
  // y[i] = before + x[0] + ... + x[i]; returns the last in double.
  double (*running_sum)(const float* x, double before, float* y, std::int64_t n);
  // Of stored integers or bools: kAdd and kMul wrap; kMax and kMin leave `start` out unless n is 0; kOr says
  // whether `start` or any of them is not 0.
  std::int64_t (*fold_integers)(ExprOp op, DType dtype, const void* x, std::int64_t n, std::int64_t start);
  // total[i] = total[i] + x[i], or the larger or smaller of both: kAdd wraps.
  void (*fold_row)(ExprOp op, DType dtype, const void* x, std::int64_t* total, std::int64_t n);
  // Products of integers, in words as wide as the results or wider.
  IntegerLoops<std::uint16_t> words_16;
  IntegerLoops<std::uint32_t> words_32;
  IntegerLoops<std::uint64_t> words_64;
  // y[i * y_step] = x[i * x_step], of n > 0 elements of `size` bytes.
  void (*copy_strided)(std::size_t size, const void* x, std::int64_t x_step, void* y, std::int64_t y_step,
                       std::int64_t n);
  // offsets[i] = start + i * step + what index i says, or added to what is there. Returns whether all indices
  // are within the extent.
  bool (*start_offsets)(const IndexOffsets& call);
  bool (*add_offsets)(const IndexOffsets& call);
  void (*scatter)(const ScatterCall& call);
  // y[i] = x[at[i]], of words of 4 bytes.
  void (*pick_words)(const void* x, const std::int64_t* at, void* y, std::int64_t n);
  // y[i] = the maximum (NaN wins) or the sum of x[i * stride + k * step] for k < count.
  void (*fold_strided)(const float* x, std::int64_t stride, std::int64_t count, std::int64_t step,
                       bool maximum, float* y, std::int64_t n);
  // y[i] = the sum of weights[k * n + i] * x[at[k * n + i]] for k < count, without those of weight 0.
  void (*blend_cells)(const float* x, const std::int64_t* at, const float* weights, int count, float* y,
                      std::int64_t n);
  // Where elements lie along one axis that has these coordinates, times its step, and their weights: all
  // first ones, then all second ones. The weight of one outside is kOutside.
  void (*grid_taps)(const GridAxis& axis, const float* grid, std::int64_t n, std::int64_t* at,
                    float* weights);
  // Of two axes: sums of places, products of weights.
  void (*join_taps)(const std::int64_t* at_a, const float* weights_a, const std::int64_t* at_b,
                    const float* weights_b, std::int64_t* at, float* weights, std::int64_t n);
  // y[i] = the sum of weights[k * n + i] * x[at[k * n + i]] for k < count, without those outside.
  void (*sample_cells)(DType dtype, const void* x, const std::int64_t* at, const float* weights, int count,
                       float* y, std::int64_t n);
  // y = exp(x - centre), returns the sum.
  float (*exp_minus)(const float* x, float centre, float* y, std::int64_t n);
  float (*exp_sum)(const float* x, float centre, std::int64_t n);  // the sum alone

  // Rows of n contiguous values; y may be x.
  void (*max_into)(const float* x, float* y, std::int64_t n);                      // y = max(y, x), NaN wins
  void (*add_into)(const float* x, float* y, std::int64_t n);                      // y += x
  void (*multiply_add)(const float* x, const float* w, float* y, std::int64_t n);  // y += x * w
  void (*scale_shift)(const float* x, float scale, float shift, float* y, std::int64_t n);
  // (x - centre) * scale + shift: nothing is left of x where it is its centre.
  void (*scale_centred)(const float* x, float centre, float scale, float shift, float* y, std::int64_t n);
  void (*scale_centred_each)(const float* x, const float* centre, const float* scale, const float* shift,
                             float* y, std::int64_t n);
  void (*add_around_into)(const float* x, const float* centre, float* y, std::int64_t n);  // y += x - centre
  void (*add_squares_into)(const float* x, const float* centre, float* y,
                           std::int64_t n);  // y += (x - centre)^2
  // y = (x - mean) * scale * w + b; w and b may be null.
  void (*normalize)(const float* x, float mean, float scale, const float* w, const float* b, float* y,
                    std::int64_t n);

  // Several rows into one: the maximum (NaN wins), the sum times `scale`, the sum of weights[i] * row.
  void (*window_max)(const WindowRows& rows, float* y, std::int64_t n);
  void (*window_sum)(const WindowRows& rows, float scale, float* y, std::int64_t n);
  void (*window_weighted)(const WindowRows& rows, const float* weights, float* y, std::int64_t n);

  // Scores of attention: x = x * scale + addend, or x * scale where `seen` and -inf elsewhere; both may be
  // null. Returns the maximum, NaN wins.
  float (*scaled_peak)(float* x, float scale, const float* addend, const std::uint8_t* seen, std::int64_t n);
  // x = exp(x - peak), and the sum. The peak is the maximum, finite; if not, anything.
  float (*weights)(float* x, float peak, std::int64_t n);
  // Weights times values for few rows, which share each read of the values.
  void (*weigh_f32)(const WeighCall& call);
  void (*weigh_bf16)(const WeighCall& call);
  void (*weigh_f16)(const WeighCall& call);
  void (*weigh_i8)(const WeighCall& call);
  bool (*any_set)(const std::uint8_t* x, std::int64_t n);
  // Of n > 0 addends: 0 when all are -inf, 1 when none is above `bound` (> -inf), else 2, as for NaN.
  int (*addends_above)(const float* x, float bound, std::int64_t n);
  // y = x rotated: element i with i + n / 2, or 2i with 2i + 1. y is not x.
  void (*rotate)(const float* x, const float* cos, const float* sin, bool interleaved, float* y,
                 std::int64_t n);

  // Panels of quantised right sides of 4 and 8 bits; of pairs, null where the hardware does not multiply
  // them.
  void (*panel_factors)(const PanelFactorsCall& call);
  void (*unpack_fours_f32)(const UnpackCall& call);
  void (*unpack_eights_f32)(const UnpackCall& call);
  void (*unpack_fours_pairs)(const UnpackCall& call) = nullptr;
  void (*unpack_eights_pairs)(const UnpackCall& call) = nullptr;

  // One row of float32 times quantised ones, where that is faster than fours_f32 and so on. They have a
  // vector of their own before each block of x.
  QuantizedLoops fours_row, sixes_row, eights_row;
};

inline constexpr std::int64_t kExprBlock = 512;  // a register of floats has 2 KB: several fit the first cache

const Micro& micro();  // the best that this machine can run, or the one NPU_CPU_ISA names

// For tests: the sets that this build has and this machine can run, best first; and the one for kernels
// created from now on.
std::vector<std::string> available_micros();
void select_micro(std::string_view name);

}  // namespace npu::cpu
