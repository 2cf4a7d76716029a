#include "check/checker.h"

#include <algorithm>

#include "image.h"

namespace softmetal {

namespace {

std::mutex one_at_a_time;
std::uint32_t last_moment = 0;  // of the process

std::uint32_t next_moment() {
  if (++last_moment == 0) throw MachineError("checked mode has run for too long: start another process");
  return last_moment;
}

std::string range_text(std::size_t begin, std::size_t end) {
  return "bytes " + std::to_string(begin) + " to " + std::to_string(end);
}

}  // namespace

void order_after_now(Shadow& shadow) {
  std::lock_guard lock(one_at_a_time);
  shadow.ordered_since = last_moment + 1;
}

Checker::Checker(const Launch& launch, Hazards* hazards)
    : alone_(one_at_a_time), launch_(launch), hazards_(hazards ? hazards : &own_hazards_) {
  dispatch_start_ = next_moment();
  hazards_->begin(launch.function->name(), dispatch_start_);
  add_buffers();
  find_constants();
}

// Function constants lie in thread-local memory of the library, which a kernel may read.
void Checker::find_constants() {
  for (const ConstantEntry* c = launch_.function->image().table().constants; c; c = c->next) {
    auto* at = static_cast<const char*>(c->address());
    if (!constants_begin_ || at < constants_begin_) constants_begin_ = at;
    constants_end_ = std::max(constants_end_, at + c->bytes + 8);
  }
}

void Checker::add_buffers() {
  for (const Argument& argument : launch_.function->arguments()) {
    if (argument.source != Source::buffer) continue;
    const Binding& binding = launch_.buffers[argument.index];
    Range range;
    range.begin = static_cast<const char*>(binding.data);
    range.end = range.begin + binding.bytes;
    range.name = argument.name;
    range.buffer = static_cast<int>(argument.index);
    range.writable = argument.writable;
    range.shadow = binding.shadow;
    range.shadow_offset = binding.shadow_offset;
    if (!range.shadow && argument.writable) {
      own_shadows_.push_back(std::make_unique<Shadow>(binding.data, binding.bytes, true));
      range.shadow = own_shadows_.back().get();
    }
    buffers_.push_back(range);
  }
}

void Checker::begin_threadgroup(const Worker& worker) {
  group_start_ = next_moment();
  moment_[device] = moment_[local] = group_start_;
  for (auto& epochs : simd_epoch_) std::fill(std::begin(epochs), std::end(epochs), 0u);
  const Group& group = worker.group();
  if (!locals_.empty()) return;
  local_begin_ = group.memory;
  local_cells_.resize(worker.memory_used());
  const Layout& layout = launch_.function->layout();
  for (unsigned i = 0; i < layout.count; ++i) {
    const ThreadgroupVariable& v = layout.variables[i];
    Range range;
    range.begin = group.memory + v.offset;
    range.end = range.begin + v.bytes;
    range.name = v.name;
    locals_.push_back(range);
  }
  for (const Argument& argument : launch_.function->arguments()) {
    if (argument.source != Source::threadgroup_memory) continue;
    Range range;
    range.begin = static_cast<const char*>(group.arguments[argument.index]);
    range.end = range.begin + launch_.threadgroup_bytes[argument.index];
    range.name = argument.name;
    locals_.push_back(range);
  }
}

void Checker::threadgroup_barrier(unsigned flags) {
  std::uint32_t moment = next_moment();
  for (Space space : {device, local})
    if (flags & (space == device ? 1u : 2u)) {
      moment_[space] = moment;
      std::fill(std::begin(simd_epoch_[space]), std::end(simd_epoch_[space]), 0u);
    }
}

void Checker::simdgroup_barrier(unsigned simdgroup, unsigned flags) {
  if (flags & 1u) ++simd_epoch_[device][simdgroup];
  if (flags & 2u) ++simd_epoch_[local][simdgroup];
}

void Checker::access(Worker& worker, void* address, std::size_t bytes, unsigned kind, void* caller) {
  Access access{static_cast<const char*>(address), bytes, (kind & kWrite) != 0, (kind & kAtomic) != 0,
                caller};
  if (is_own(worker, access.address)) return;
  if (access.address >= local_begin_ && access.address < local_begin_ + local_cells_.size()) {
    const Range* range = find(locals_, last_local_, access);
    if (!range) fail_outside(worker, access);
    return check_local(worker, *range, access);
  }
  if (const Range* range = find(buffers_, last_buffer_, access)) return check_device(worker, *range, access);
  if (!is_known(access.address)) fail_outside(worker, access);
}

// Where memory is bound twice, the argument that may be written to is taken to be the one that is.
const Checker::Range* Checker::find(std::vector<Range>& ranges, std::size_t& last,
                                    const Access& access) const {
  auto fits = [&](const Range& range) {
    return access.address >= range.begin && access.address + access.bytes <= range.end;
  };
  if (last < ranges.size() && fits(ranges[last]) && (ranges[last].writable || !access.write))
    return &ranges[last];
  const Range* match = nullptr;
  for (std::size_t i = 0; i < ranges.size(); ++i) {
    if (!fits(ranges[i])) continue;
    if (!match || (access.write && !match->writable)) match = &ranges[last = i];
  }
  return match;
}

// The stack of the thread, and where the lanes of simdgroups lay values down for each other.
bool Checker::is_own(const Worker& worker, const char* address) const {
  const char* stack = static_cast<const char*>(worker.thread().stack);
  if (address >= stack && address < stack + StackPool::kStackBytes) return true;
  const char* machine = reinterpret_cast<const char*>(&worker);
  return address >= machine && address < machine + sizeof(Worker);
}

// What else a kernel may read: the table of the runtime, the library's data, function constants.
bool Checker::is_known(const char* address) const {
  const char* table = reinterpret_cast<const char*>(&Worker::runtime());
  if (address >= table && address < table + sizeof(Runtime)) return true;
  if (address >= constants_begin_ && address < constants_end_) return true;
  return launch_.function->image().holds(address);
}

// --- ordering ---

// Whether an earlier access, not of this thread, may in truth be later.
bool Checker::conflicts(const Worker& worker, Stamp stamp, bool atomic, Space space,
                        std::uint32_t ordered_since) const {
  if (stamp.moment == 0 || stamp.moment < ordered_since || (atomic && stamp.atomic)) return false;
  if (stamp.moment < group_start_) return true;     // another threadgroup, or another dispatch
  if (stamp.moment < moment_[space]) return false;  // a barrier lies between
  const Thread& me = worker.thread();
  if (stamp.thread == me.index) return stamp.several;
  bool same_simdgroup = stamp.thread / kSimdWidth == me.index / kSimdWidth;
  return !same_simdgroup || stamp.simd_epoch >= simd_epoch_[space][me.simdgroup->index];
}

// Of readers that nothing orders the first is kept, and that there were others.
void Checker::note(Stamp& stamp, Stamp mine, bool read, bool stale) const {
  if (!read || stale || stamp.moment == 0 || (stamp.atomic && !mine.atomic)) {
    stamp = mine;
  } else if (stamp.thread != mine.thread || stamp.moment < group_start_) {
    stamp.several = 1;
  }
}

void Checker::check_cells(Worker& worker, const Range& range, const Access& access, Space space, Cell* cells,
                          std::size_t at, std::size_t count) {
  std::uint32_t since = group_start_;
  if (space == device) since = std::max(hazards_->unordered_since(), range.shadow->ordered_since);
  const Thread& me = worker.thread();
  Stamp mine;
  mine.moment = moment_[space];
  mine.thread = me.index;
  mine.atomic = access.atomic;
  mine.simd_epoch = simd_epoch_[space][me.simdgroup->index];
  for (std::size_t i = 0; i < count; ++i) {
    Cell& cell = cells[i];
    if (conflicts(worker, cell.write, access.atomic, space, since))
      fail_race(worker, range, access, space, at + i, cell.write, true);
    bool read_conflict = conflicts(worker, cell.read, access.atomic, space, since);
    if (access.write && read_conflict) fail_race(worker, range, access, space, at + i, cell.read, false);
    bool own = cell.read.thread == mine.thread && cell.read.moment >= group_start_ && !cell.read.several;
    note(access.write ? cell.write : cell.read, mine, !access.write, !read_conflict || own);
  }
}

void Checker::check_device(Worker& worker, const Range& range, const Access& access) {
  if (access.write && !range.writable)
    fail(worker, Fault::read_only, access, &range, words(access, range) + ", which is const");
  if (!range.shadow) return;
  std::size_t at = static_cast<std::size_t>(access.address - range.begin);
  if (!access.write && range.shadow->unwritten(range.shadow_offset + at, access.bytes))
    fail(worker, Fault::uninitialised, access, &range, words(access, range) + ", which nothing has written");
  for (std::size_t done = 0; done < access.bytes;) {
    std::size_t offset = range.shadow_offset + at + done;
    std::size_t count = std::min(access.bytes - done, Shadow::cells_left(offset));
    check_cells(worker, range, access, device, range.shadow->cells(offset), at + done, count);
    done += count;
  }
}

void Checker::check_local(Worker& worker, const Range& range, const Access& access) {
  Cell* cells = local_cells_.data() + (access.address - local_begin_);
  std::size_t at = static_cast<std::size_t>(access.address - range.begin);
  if (!access.write)
    for (std::size_t i = 0; i < access.bytes; ++i)
      if (cells[i].write.moment < group_start_)
        fail(worker, Fault::uninitialised, access, &range,
             words(access, range) + ", which no thread of the threadgroup has written");
  check_cells(worker, range, access, local, cells, at, access.bytes);
}

// --- failing ---

std::string Checker::name_of(const Range& range) {
  return range.buffer < 0 ? "threadgroup variable " + range.name
                          : "buffer " + std::to_string(range.buffer) + " (" + range.name + ")";
}

std::string Checker::words(const Access& access, const Range& range) const {
  std::size_t at = static_cast<std::size_t>(access.address - range.begin);
  return std::string(access.write ? "writes " : "reads ") + range_text(at, at + access.bytes) + " of " +
         name_of(range);
}

void Checker::fail(Worker& worker, Fault::Kind kind, const Access& access, const Range* range,
                   std::string text) {
  Fault fault;
  fault.kind = kind;
  fault.text = std::move(text);
  if (range) {
    fault.buffer = range->buffer;
    fault.begin = static_cast<std::size_t>(access.address - range->begin);
    fault.end = fault.begin + access.bytes;
  }
  std::string line = launch_.function->image().line_of(access.caller);
  if (!line.empty()) fault.text += ", at " + line;
  worker.fail(std::move(fault));
}

void Checker::fail_race(Worker& worker, const Range& range, const Access& access, Space space, std::size_t at,
                        Stamp other, bool other_wrote) {
  std::string text = words(access, range);
  const char* did = other_wrote ? " wrote" : " read";
  Fault::Kind kind = Fault::race;
  if (other.moment < dispatch_start_) {
    kind = Fault::missing_barrier;
    text += ", and no barrier separates it from dispatch " + std::to_string(hazards_->at(other.moment)) +
            " (" + hazards_->kernel(hazards_->at(other.moment)) + "), which" + did + " byte " +
            std::to_string(at) + "; this is dispatch " + std::to_string(hazards_->current());
  } else if (other.moment < group_start_) {
    text += ": a race, since another threadgroup" + std::string(did) + " byte " + std::to_string(at);
  } else {
    Extent n = worker.group().threads;
    Extent who{other.thread % n.x, other.thread / n.x % n.y, other.thread / (n.x * n.y)};
    bool self = other.thread == worker.thread().index;
    text += ": a race, since " + (self ? std::string("another thread") : "thread " + text_of(who)) + did +
            " byte " + std::to_string(at) + " and no barrier with mem_" +
            (space == device ? "device" : "threadgroup") + " lies between";
  }
  fail(worker, kind, access, &range, text);
}

void Checker::fail_misaligned(Worker& worker, void* address, std::size_t alignment, Site site) {
  std::string text = "a pointer whose type wants " + std::to_string(alignment) + " bytes of alignment";
  Access access{static_cast<const char*>(address), 1, false, false, nullptr};
  for (auto* ranges : {&locals_, &buffers_})
    for (const Range& range : *ranges)
      if (access.address >= range.begin && access.address < range.end)
        text += " points to byte " + std::to_string(access.address - range.begin) + " of " + name_of(range);
  worker.fail(Fault::misaligned, text + ", at " + text_of(site));
}

// Outside of everything: the text says what it is nearest to.
void Checker::fail_outside(Worker& worker, const Access& access) {
  const Range* nearest = nullptr;
  std::size_t least = 1 << 20;
  auto consider = [&](const Range& range) {
    std::size_t away = access.address < range.begin
                           ? static_cast<std::size_t>(range.begin - access.address)
                           : static_cast<std::size_t>(access.address + access.bytes - range.end);
    if (away < least) least = away, nearest = &range;
  };
  for (const Range& range : locals_) consider(range);
  if (access.address < local_begin_ || access.address >= local_begin_ + local_cells_.size())
    for (const Range& range : buffers_) consider(range);
  std::string text = std::string(access.write ? "writes " : "reads ") + std::to_string(access.bytes) +
                     " bytes outside of everything that is bound";
  if (reinterpret_cast<std::uintptr_t>(access.address) < 4096) text += ", through a null pointer";
  if (!nearest) fail(worker, Fault::out_of_bounds, access, nullptr, text);

  auto offset = access.address - nearest->begin;
  fail(worker, Fault::out_of_bounds, access, nearest,
       std::string(access.write ? "writes " : "reads ") + std::to_string(access.bytes) + " bytes at " +
           std::to_string(offset) + " of " + name_of(*nearest) + ", which has " +
           std::to_string(nearest->end - nearest->begin) + " bytes");
}

}  // namespace softmetal
