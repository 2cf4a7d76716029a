// Convolutions in groups of few channels, down to one filter for each channel. A vector of output channels is
// summed in registers for some pixels of a row at a time, each by the taps that the image has.
#include "cpu/ops/conv.h"
#include "cpu/ops/conv_room.h"

namespace npu::cpu {

namespace {

constexpr std::int64_t kMostOfGroup = 64;     // channels; more are a product worth its packing
constexpr std::int64_t kLongestSum = 320;     // products added in float32 in one go, for accuracy
constexpr std::int64_t kLargestDepth = 1024;  // of a filter; what is deeper has work enough for a product
constexpr std::int64_t kFewProducts = 50000;  // a few microseconds: not worth waking threads
constexpr std::int64_t kNarrow = 16;          // pixels of a row of which the border is a large part
constexpr int kMostLanes = 16;

// Neighbouring output channels that fit a vector.
struct Block {
  std::int64_t channel, count, input;  // the first output channel, how many, the first input channel
};

// Neighbouring pixels of an output row, summed at a time.
struct Strip {
  Range pixels;
  std::vector<std::uint32_t> seen;  // as a tile has it; empty if the image has all
};

class GroupConv final : public ConvBase {
 public:
  explicit GroupConv(const KernelRequest& r)
      : ConvBase(r),
        room_(g_, r.inputs[0].dtype, false),
        copies_(room_.needed() && pays_for_room(g_, r.inputs[0].dtype)),
        depthwise_tile_(takes_rows(g_) ? micro_->depthwise_tile(g_.kernel[2], g_.stride[2]) : nullptr) {
    make_blocks();
    make_strips();
    const auto floats = [](std::int64_t n) {
      return (static_cast<std::size_t>(n) * sizeof(float) + 63) / 64 * 64;
    };
    converts_ = r.inputs[0].dtype != DType::kFloat32 && !copies_;
    row_floats_ = converts_ ? g_.in[2] * g_.in_channels : 0;
    sums_at_ = (static_cast<std::size_t>(g_.taps()) * sizeof(GroupTap) + 63) / 64 * 64;
    rows_at_ = sums_at_ + (epilogue_.in_tile() ? 0 : floats(g_.out[2] * g_.out_channels));
    expression_at_ = rows_at_ + floats(g_.kernel[0] * g_.kernel[1] * row_floats_);
    per_thread_ = (expression_at_ + epilogue_.scratch_bytes() + 63) / 64 * 64;
  }

  static bool fits(const KernelRequest& r) {
    const ConvGeometry g = geometry_of(r);
    const std::int64_t lanes = micro().lanes, in = g.group_in(), out = g.group_out();
    const bool few = g.groups > 1 && in <= kMostOfGroup && out <= kMostOfGroup && g.depth() <= kLargestDepth;
    const bool filled = shares_lanes(g) || 2 * out >= lanes;
    return few && filled && g.x_channel == 1 && !g.spreads() && r.inputs[1].constant;
  }

  std::string name() const override {
    return std::string(g_.depthwise() ? "conv[depthwise " : "conv[groups ") + micro_->name +
           (epilogue_.in_tile() || epilogue_.after_tile() ? "]" : " +map]");
  }
  std::size_t scratch_bytes() const override {
    return per_thread_ * static_cast<std::size_t>(threads_) + (copies_ ? room_.bytes() : 0);
  }
  int packed_input() const override { return 1; }
  std::size_t packed_bytes() const override {
    return blocks_.size() * static_cast<std::size_t>(block_floats()) * sizeof(float);
  }
  std::string packing() const override {
    return "conv groups " + std::to_string(g_.groups) + " vectors " + std::to_string(micro_->lanes) + " of" +
           weight_text(inputs_[1]);
  }
  void pack(const void* raw, std::byte* packed, ThreadPool&) const override {
    const DType dtype = inputs_[1].dtype;
    float* to = reinterpret_cast<float*>(packed);
    for (const Block& block : blocks_) {
      for (std::int64_t k = 0; k < g_.depth(); ++k, to += micro_->lanes) {
        std::fill_n(to, micro_->lanes, 0.0f);
        load_row(dtype, element(raw, dtype, g_.weight_at(block.channel, k)), g_.weight_column, to,
                 block.count);
      }
    }
  }

  void run(const KernelArgs& args, ThreadPool& pool) const override {
    const std::int64_t all = g_.batch * g_.out[0] * g_.out[1];
    if (all * g_.out[2] * g_.out_channels == 0) return;
    const bool worth = all * g_.out[2] * g_.out_channels * g_.depth() > kFewProducts;
    const std::int64_t most = worth ? 4 * threads_ : 1, images = copies_ ? room_.images() : g_.batch;
    float* const room =
        reinterpret_cast<float*>(args.scratch + per_thread_ * static_cast<std::size_t>(threads_));
    for (std::int64_t first = 0; first < g_.batch; first += images) {
      const std::int64_t count = std::min(images, g_.batch - first);
      const std::int64_t begin = first * g_.out[0] * g_.out[1], lines = count * g_.out[0] * g_.out[1];
      if (copies_) {
        room_.fill(element(args.inputs[0], inputs_[0].dtype, first * g_.x_batch), count, room, most, pool);
      }
      const std::int64_t pieces = std::min(lines, most);
      pool.run(pieces, [&](std::int64_t piece, int thread) {
        const Range range = split(lines, pieces, piece);
        std::byte* const scratch = args.scratch + per_thread_ * static_cast<std::size_t>(thread);
        for (std::int64_t line = range.begin; line < range.end; ++line) {
          const float* const image = room + line / g_.out[1] * room_.batch_step();
          run_line(args, begin + line, copies_ ? image : nullptr, scratch);
        }
      });
    }
  }

 private:
  // Several groups fill a vector, each with its own lanes of the input.
  static bool shares_lanes(const ConvGeometry& g) {
    const std::int64_t out = g.group_out();
    return g.group_in() <= out && out < micro().lanes && micro().lanes % out == 0;
  }

  // Where many lines would convert the same rows, and where many tiles would ask of each tap what the image
  // has.
  static bool pays_for_room(const ConvGeometry& g, DType dtype) {
    const bool flat = g.kernel[0] == 1 && g.in[0] == 1 && g.out[0] == 1 && g.low[0] == 0;
    const bool asks = g.out[2] <= kNarrow && g.kernel[2] > 1 && !takes_rows(g);
    return flat && (dtype != DType::kFloat32 || asks);
  }

  // Whether tiles take a row of taps at a time.
  static bool takes_rows(const ConvGeometry& g) {
    const std::int64_t beyond = (g.out[2] - 1) * g.stride[2] - g.low[2] + g.kernel[2] - g.in[2];
    return g.depthwise() && g.dilation[2] == 1 && g.low[2] < g.kernel[2] && beyond < g.kernel[2] &&
           micro().depthwise_tile(g.kernel[2], g.stride[2]) != nullptr;
  }

  std::int64_t block_floats() const { return g_.depth() * micro_->lanes; }

  void make_blocks() {
    shares_lanes_ = shares_lanes(g_);
    const std::int64_t span = shares_lanes_ ? g_.out_channels : g_.group_out(), lanes = micro_->lanes;
    for (std::int64_t first = 0; first < g_.out_channels; first += span) {
      for (std::int64_t c = 0; c < span; c += lanes) {
        const std::int64_t input = (shares_lanes_ ? c / g_.group_out() : first / span) * g_.group_in();
        blocks_.push_back({first + c, std::min(lanes, span - c), input});
      }
    }
  }

  void make_strips() {
    const std::int64_t most = depthwise_tile_ ? micro_->depthwise_pixels : micro_->group_pixels;
    const std::int64_t count = (g_.out[2] + most - 1) / most;
    for (std::int64_t i = 0; i < count; ++i) {
      const Range pixels = split(g_.out[2], count, i);
      std::vector<std::uint32_t> seen(static_cast<std::size_t>(g_.kernel[2]));
      bool all = true;
      for (std::int64_t kw = 0; kw < g_.kernel[2]; ++kw) {
        for (std::int64_t w = pixels.begin; w < pixels.end; ++w) {
          const bool has = copies_ || g_.source(2, w, kw) >= 0;
          seen[static_cast<std::size_t>(kw)] |= static_cast<std::uint32_t>(has) << (w - pixels.begin);
          all = all && has;
        }
      }
      strips_.push_back({pixels, all ? std::vector<std::uint32_t>() : seen});
    }
  }

  // `room` is the line's image in the room, or null.
  void run_line(const KernelArgs& args, std::int64_t line, const float* room, std::byte* scratch) const {
    const Pixel at(g_, line * g_.out[2]);
    const DType dtype = inputs_[0].dtype;
    const void* const image = element(args.inputs[0], dtype, at.n * g_.x_batch);
    float* const rows = reinterpret_cast<float*>(scratch + rows_at_);
    if (converts_) convert_rows(image, at, rows);
    const float* const x = room ? room : converts_ ? rows : static_cast<const float*>(image);
    GroupTap* const taps = reinterpret_cast<GroupTap*>(scratch);
    GroupTile tile;
    tile.taps = taps;
    tile.tap_count = find_taps(at, taps);
    run_strips(args, line, x, tile, reinterpret_cast<float*>(scratch + sums_at_));
    if (!epilogue_.in_tile()) finish_line(args, line, scratch);
  }

  // Of a line, those rows of the image that it sees, one after the other.
  void convert_rows(const void* image, const Pixel& at, float* to) const {
    for (std::int64_t kd = 0; kd < g_.kernel[0]; ++kd) {
      const std::int64_t d = g_.source(0, at.d, kd);
      for (std::int64_t kh = 0; kh < g_.kernel[1]; ++kh, to += row_floats_) {
        const std::int64_t h = g_.source(1, at.h, kh);
        if (d < 0 || h < 0) continue;
        const DType dtype = inputs_[0].dtype;
        const std::int64_t row = d * g_.x_step[0] + h * g_.x_step[1];
        for (std::int64_t w = 0; w < g_.in[2]; ++w) {
          load_row(dtype, element(image, dtype, row + w * g_.x_step[2]), 1, to + w * g_.in_channels,
                   g_.in_channels);
        }
      }
    }
  }

  // From the first pixel of the row that the image has, at its first channel; one for each row of a filter
  // if tiles take those.
  int find_taps(const Pixel& at, GroupTap* taps) const {
    int count = 0;
    for (std::int64_t kd = 0; kd < g_.kernel[0]; ++kd) {
      const std::int64_t d = g_.source(0, at.d, kd);
      for (std::int64_t kh = 0; kh < g_.kernel[1]; ++kh) {
        const std::int64_t h = copies_ ? at.h * g_.stride[1] + kh * g_.dilation[1] : g_.source(1, at.h, kh),
                           line = kd * g_.kernel[1] + kh;
        if (d < 0 || h < 0) continue;
        const std::int64_t row = copies_     ? h * room_.row_step()
                                 : converts_ ? line * row_floats_
                                             : d * g_.x_step[0] + h * g_.x_step[1];
        for (std::int64_t kw = 0; kw < (depthwise_tile_ ? 1 : g_.kernel[2]); ++kw) {
          taps[count++] = {row + kw * g_.dilation[2] * pixel_step(),
                           (line * g_.kernel[2] + kw) * g_.group_in() * micro_->lanes, kw};
        }
      }
    }
    return count;
  }

  std::int64_t pixel_step() const { return converts_ || copies_ ? g_.in_channels : g_.x_step[2]; }

  void run_strips(const KernelArgs& args, std::int64_t line, const float* x, GroupTile tile,
                  float* sums) const {
    const bool direct = epilogue_.in_tile();
    const int extra = direct ? epilogue_.residual() : -1;
    std::int64_t at[2], extra_at[2];
    const ConvOperands operands(g_, request_, epilogue_, 0, nullptr, nullptr, false);
    operands.locate_rows(line * g_.out[2], 2, extra, at, extra_at);
    tile.inputs = static_cast<int>(g_.group_in());
    tile.outputs = static_cast<int>(g_.group_out());
    tile.one_group = !shares_lanes_;
    tile.x_stride = (depthwise_tile_ ? 1 : g_.stride[2]) * pixel_step();
    tile.c_stride = direct ? g_.out_step[2] : g_.out_channels;
    if (direct) tile.limits = epilogue_.limits();
    tile.residual_stride = extra_at[1] - extra_at[0];
    float* const out = direct ? static_cast<float*>(args.outputs[0]) + at[0] : sums;
    const float* const residual =
        extra >= 0 ? static_cast<const float*>(args.inputs[3 + extra]) + extra_at[0] : nullptr;
    tile.w = reinterpret_cast<const float*>(args.packed);
    float bias[kMostLanes];
    for (const Block& block : blocks_) {
      if (args.inputs[2]) {
        const TensorDesc& b = inputs_[2];
        const std::byte* const from = element(args.inputs[2], b.dtype, block.channel * b.strides[0]);
        const bool in_place = b.dtype == DType::kFloat32 && b.strides[0] == 1;
        if (!in_place) load_row(b.dtype, from, b.strides[0], bias, block.count);
        tile.bias = in_place ? reinterpret_cast<const float*>(from) : bias;
      }
      tile.channels = block.count;
      for (const Strip& strip : strips_) {
        const std::int64_t w = strip.pixels.begin, count = strip.pixels.end - w;
        const std::int64_t first = w * g_.stride[2] - (copies_ ? 0 : g_.low[2]);  // may lie before the row
        tile.seen = strip.seen.empty() ? nullptr : strip.seen.data();
        tile.begin = std::max<std::int64_t>(0, -first);
        tile.end = (copies_ ? room_.columns() : g_.in[2]) - first;
        tile.x = x + block.input + first * pixel_step();
        tile.c = out + w * tile.c_stride + block.channel;
        if (residual) tile.residual = residual + w * tile.residual_stride + block.channel;
        run_tile(static_cast<int>(count), tile);
        if (direct) {
          epilogue_.apply_function(tile.c, tile.c_stride, count, tile.channels, args.inputs + 3);
        }
      }
      tile.w += block_floats();
    }
  }

  // Some taps at a time: sums of sums are more exact than one long sum.
  void run_tile(int pixels, const GroupTile& whole) const {
    const GroupTileRun sum = depthwise_tile_ ? depthwise_tile_ : micro_->group_tile;
    const std::int64_t each = g_.group_in() * (depthwise_tile_ ? g_.kernel[2] : 1);
    const int most = static_cast<int>(std::max<std::int64_t>(1, kLongestSum / each));
    if (whole.tap_count <= most) return sum(pixels, whole);
    for (int first = 0; first < whole.tap_count; first += most) {
      const bool last = first + most >= whole.tap_count;
      GroupTile tile = whole;
      tile.taps = whole.taps + first;
      tile.tap_count = std::min(most, whole.tap_count - first);
      tile.accumulate = first > 0;
      if (!last) {
        tile.bias = tile.residual = nullptr;
        tile.limits = {};
      }
      sum(pixels, tile);
    }
  }

  void finish_line(const KernelArgs& args, std::int64_t line, std::byte* scratch) const {
    const ConvOperands operands(g_, request_, epilogue_, 0, nullptr, nullptr, false);
    const auto& extras = epilogue_.extras();
    std::int64_t at = 0, next = 0, extra_at[kMaxExtras], next_extra[kMaxExtras];
    operands.locate(line * g_.out[2], &at, extra_at);
    operands.locate(line * g_.out[2] + std::min<std::int64_t>(1, g_.out[2] - 1), &next, next_extra);
    Epilogue::Rows rows;
    rows.sums = reinterpret_cast<float*>(scratch + sums_at_);
    rows.sums_step = rows.n = g_.out_channels;
    rows.rows = g_.out[2];
    rows.out = element(args.outputs[0], outputs_[0].dtype, at);
    rows.out_step = next - at;
    for (std::size_t k = 0; k < extras.size(); ++k) {
      rows.at[k] = element(args.inputs[3 + k], extras[k].dtype, extra_at[k]);
      rows.extra_steps[k] = next_extra[k] - extra_at[k];
    }
    epilogue_.run_rows(rows, scratch + expression_at_);
  }

  ConvRoom room_;
  bool copies_;                  // into the room
  GroupTileRun depthwise_tile_;  // or null
  bool shares_lanes_ = false, converts_ = false;
  std::vector<Block> blocks_;
  std::vector<Strip> strips_;
  std::int64_t row_floats_ = 0;
  std::size_t sums_at_ = 0, rows_at_ = 0, expression_at_ = 0, per_thread_ = 0;  // in a thread's scratch
};

}  // namespace

bool is_in_groups(const KernelRequest& request) { return GroupConv::fits(request); }
KernelPtr make_group_conv(const KernelRequest& request) { return std::make_unique<GroupConv>(request); }

}  // namespace npu::cpu
