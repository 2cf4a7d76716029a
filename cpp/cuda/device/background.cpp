#include "cuda/device/background.h"

#include <algorithm>
#include <cstdlib>
#include <system_error>
#include <utility>

#include "gpu/device/forks.h"

namespace npu::cuda {

namespace {

// Those that have threads. Never destroyed, as they may be stopped while the process ends.
struct Running {
  std::mutex mutex;
  std::vector<Background*> all;
};

Running& running() {
  static auto* const once = new Running;
  return *once;
}

void stop_all() {
  std::vector<Background*> all;
  {
    const std::lock_guard lock(running().mutex);
    all = running().all;
  }
  for (Background* const one : all) one->stop();
}

void stop_at_exit(Background* background) {
  const std::lock_guard lock(running().mutex);
  static const bool registered = std::atexit(stop_all) == 0;
  auto& all = running().all;
  if (registered && std::find(all.begin(), all.end(), background) == all.end()) all.push_back(background);
}

}  // namespace

bool Background::add(std::function<void()> work) {
  const std::lock_guard lock(mutex_);
  if (stopped_) return false;
  if (threads_.empty()) stop_at_exit(this);
  if (idle_ <= open_.size() && threads_.size() < most_threads_) {
    try {
      threads_.emplace_back([this] { this->work(); });
    } catch (const std::system_error&) {  // there are no more threads
      if (threads_.empty()) return false;
    }
  }
  open_.push_back(std::move(work));
  more_.notify_one();
  return true;
}

void Background::work() {
  std::unique_lock lock(mutex_);
  while (true) {
    ++idle_;
    more_.wait(lock, [this] { return stopped_ || !open_.empty(); });
    --idle_;
    if (stopped_) return;
    const std::function<void()> next = std::move(open_.front());
    open_.pop_front();
    lock.unlock();
    next();
    lock.lock();
  }
}

void Background::stop() {
  if (gpu::is_forked()) {  // the threads are the parent's, and the mutex may be theirs
    static_cast<void>(new std::vector<std::thread>(std::move(threads_)));
    return;
  }
  std::vector<std::thread> threads;
  {
    const std::lock_guard lock(mutex_);
    stopped_ = true;
    open_.clear();
    threads.swap(threads_);
  }
  more_.notify_all();
  for (std::thread& thread : threads) thread.join();
  const std::lock_guard lock(running().mutex);
  std::erase(running().all, this);
}

}  // namespace npu::cuda
