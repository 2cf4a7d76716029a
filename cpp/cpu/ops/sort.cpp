#include "cpu/ops/sort.h"

#include <algorithm>
#include <utility>

#include "core/geometry/axis.h"
#include "cpu/element.h"
#include "cpu/strided.h"

namespace npu::cpu {

namespace {

// Keys are unsigned numbers in the order of the elements, NaN last; the index makes every item different, so
// that any sort is stable. Narrow elements share one word with their index.
struct WideItem {
  std::uint64_t key;
  std::uint32_t index;
  bool operator<(const WideItem& other) const {
    return key != other.key ? key < other.key : index < other.index;
  }
};

std::uint32_t index_of(std::uint64_t item) { return static_cast<std::uint32_t>(item); }
std::uint32_t index_of(const WideItem& item) { return item.index; }

template <class T>
std::uint32_t narrow_key(T value) {
  if constexpr (kIsFloat<T>) {
    const auto number = static_cast<float>(value);
    if (number != number) return 0xffffffffu;
    const std::uint32_t bits = number == 0.0f ? 0 : float_to_bits(number);
    return (bits & 0x80000000u) != 0 ? ~bits : bits | 0x80000000u;
  } else {
    return static_cast<std::uint32_t>(static_cast<std::int32_t>(value)) ^ 0x80000000u;
  }
}

// Rows this long and longer are sorted digit by digit.
constexpr std::int64_t kLong = 128;

std::uint64_t key_of(std::uint64_t item) { return item >> 32; }
std::uint64_t key_of(const WideItem& item) { return item.key; }

constexpr std::int64_t kFew = 16;  // that are kept in order while they are found

// By the bytes of the keys, the last one first; items of one byte keep their order, and bytes that all keys
// share are passed over. `other` has as much room.
template <class Item>
void sort_by_digits(Item* items, Item* other, std::int64_t n, int bytes) {
  Item* from = items;
  for (int b = 0; b < bytes; ++b) {
    std::int64_t starts[256] = {};
    const auto digit = [b](const Item& item) {
      return static_cast<std::size_t>(key_of(item) >> (8 * b) & 0xff);
    };
    for (std::int64_t i = 0; i < n; ++i) ++starts[digit(from[i])];
    if (starts[digit(from[0])] == n) continue;
    std::int64_t start = 0;
    for (std::int64_t& s : starts) start += std::exchange(s, start);
    Item* const to = from == items ? other : items;
    for (std::int64_t i = 0; i < n; ++i) to[starts[digit(from[i])]++] = from[i];
    from = to;
  }
  if (from != items) std::copy_n(from, n, items);
}

class Ordered : public HostKernel {
 public:
  Ordered(const KernelRequest& r, std::int64_t axis, bool descending, std::int64_t count, const char* name)
      : name_(name), threads_(r.threads), dtype_(r.inputs[0].dtype), descending_(descending), count_(count) {
    const AxisCut cut = cut_axis(axis, {&r.inputs[0], &r.outputs[0], &r.outputs[1]});
    n_ = cut.extent;
    sx_ = cut.steps[0];
    sv_ = cut.steps[1];
    si_ = cut.steps[2];
    nest_ = cut.rows;
    if (n_ > 0xffffffffll) unavailable(r.op, std::to_string(n_) + " elements to sort");
    count_ = std::min(count_, n_);
    units_ = count_ == 0 ? 0 : nest_.elements();
    pieces_ = piece_count(units_, 20 * static_cast<double>(n_), threads_);
    const std::size_t item = dtype_ == DType::kInt64 ? sizeof(WideItem) : sizeof(std::uint64_t);
    const std::int64_t room = std::min(n_, std::max<std::int64_t>(4 * count_, 256));
    by_digits_ = count_ >= kLong && count_ == n_;  // a selection is in no order, which equal keys need
    thread_bytes_ = round_up(static_cast<std::size_t>(room + (by_digits_ ? count_ : 0)) * item);
  }

  std::string name() const override { return name_; }
  std::size_t scratch_bytes() const override { return thread_bytes_ * static_cast<std::size_t>(threads_); }

  void run(const KernelArgs& args, ThreadPool& pool) const override {
    pool.run(pieces_, [&](std::int64_t piece, int thread) {
      std::byte* scratch = args.scratch + thread_bytes_ * static_cast<std::size_t>(thread);
      const Range range = split(units_, pieces_, piece);
      const std::int64_t width = nest_.inner();
      Cursor cursor(nest_, range.begin / width);
      for (std::int64_t u = range.begin; u < range.end; ++u) {
        std::int64_t offset[3];
        for (int k = 0; k < 3; ++k) offset[k] = cursor.offset[k] + u % width * nest_.step(k);
        run_row(args, offset, scratch);
        if (u % width == width - 1) cursor.advance();
      }
    });
  }

 private:
  void run_row(const KernelArgs& args, const std::int64_t* offset, std::byte* scratch) const {
    visit_dtype(dtype_, [&](auto zero) {
      using T = decltype(zero);
      const T* x = static_cast<const T*>(args.inputs[0]) + offset[0];
      if constexpr (std::is_same_v<T, std::int64_t>) {
        collect(args, offset, x, reinterpret_cast<WideItem*>(scratch), [this](T value, std::int64_t i) {
          const std::uint64_t key = static_cast<std::uint64_t>(value) ^ (std::uint64_t{1} << 63);
          return WideItem{descending_ ? ~key : key, static_cast<std::uint32_t>(i)};
        });
      } else {
        collect(args, offset, x, reinterpret_cast<std::uint64_t*>(scratch), [this](T value, std::int64_t i) {
          const std::uint32_t key = narrow_key(value);
          return static_cast<std::uint64_t>(descending_ ? ~key : key) << 32 | static_cast<std::uint32_t>(i);
        });
      }
    });
  }

  // The first of all, in order, with those found later put between them.
  template <class T, class Item, class F>
  void collect_few(const KernelArgs& args, const std::int64_t* offset, const T* x, Item* items,
                   F item_of) const {
    for (std::int64_t i = 0, kept = 0; i < n_; ++i) {
      const Item item = item_of(x[i * sx_], i);
      if (kept == count_) {
        if (!(item < items[kept - 1])) continue;
        --kept;
      }
      std::int64_t at = kept++;
      for (; at > 0 && item < items[at - 1]; --at) items[at] = items[at - 1];
      items[at] = item;
    }
    finish(args, offset, x, items);
  }

  // Of a few first elements, only those that can still be among them are kept.
  template <class T, class Item, class F>
  void collect(const KernelArgs& args, const std::int64_t* offset, const T* x, Item* items, F item_of) const {
    if (count_ <= kFew) return collect_few(args, offset, x, items, item_of);
    const std::int64_t room = std::min(n_, std::max<std::int64_t>(4 * count_, 256));
    std::int64_t i = 0, kept = 0;
    while (kept < room && i < n_) items[kept++] = item_of(x[i * sx_], i), ++i;
    while (i < n_) {
      std::nth_element(items, items + (count_ - 1), items + kept);
      const Item last = items[count_ - 1];
      for (kept = count_; kept < room && i < n_; ++i) {
        const Item item = item_of(x[i * sx_], i);
        items[kept] = item;
        kept += item < last;
      }
    }
    if (count_ < kept) std::nth_element(items, items + count_, items + kept);
    if (by_digits_) {
      sort_by_digits(items, items + room, count_, sizeof(T) == 8 ? 8 : 4);
    } else {
      std::sort(items, items + count_);
    }
    finish(args, offset, x, items);
  }

  template <class T, class Item>
  void finish(const KernelArgs& args, const std::int64_t* offset, const T* x, const Item* items) const {
    if (auto* values = static_cast<T*>(args.outputs[0])) {
      for (std::int64_t i = 0; i < count_; ++i) values[offset[1] + i * sv_] = x[index_of(items[i]) * sx_];
    }
    if (auto* indices = static_cast<std::int64_t*>(args.outputs[1])) {
      for (std::int64_t i = 0; i < count_; ++i) indices[offset[2] + i * si_] = index_of(items[i]);
    }
  }

  const char* name_;
  int threads_;
  DType dtype_;
  bool descending_, by_digits_ = false;
  Nest nest_;  // of x, values, indices, over the other dimensions
  std::int64_t count_, n_ = 1, sx_ = 1, sv_ = 1, si_ = 1, units_ = 0, pieces_ = 0;
  std::size_t thread_bytes_ = 0;
};

}  // namespace

KernelPtr make_ordered(const KernelRequest& request, std::int64_t axis, bool descending, std::int64_t count,
                       const char* name) {
  return std::make_unique<Ordered>(request, axis, descending, count, name);
}

KernelPtr make_sort(const KernelRequest& request) {
  const auto& attrs = std::get<SortAttrs>(request.op.attrs);
  const std::int64_t count = extent_along(request.inputs[0], attrs.axis);
  return make_ordered(request, attrs.axis, attrs.descending, count, "sort");
}

}  // namespace npu::cpu
