#include "process.h"

#include <fcntl.h>
#include <poll.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstring>

#include "machine.h"

extern char** environ;

namespace softmetal {

namespace {

struct Pipe {
  int ends[2] = {-1, -1};
  Pipe() {
    if (pipe2(ends, O_CLOEXEC) != 0)
      throw MachineError(std::string("cannot make a pipe: ") + std::strerror(errno));
  }
  ~Pipe() { close_end(0), close_end(1); }
  void close_end(int which) {
    if (ends[which] >= 0) close(ends[which]);
    ends[which] = -1;
  }
};

// A child that exits early must not end this process: the write then fails with EPIPE.
class IgnoredBrokenPipe {
 public:
  IgnoredBrokenPipe() {
    sigset_t broken;
    sigemptyset(&broken);
    sigaddset(&broken, SIGPIPE);
    pthread_sigmask(SIG_BLOCK, &broken, &before_);
  }
  ~IgnoredBrokenPipe() {
    sigset_t broken;
    sigemptyset(&broken);
    sigaddset(&broken, SIGPIPE);
    timespec now{};
    while (sigtimedwait(&broken, nullptr, &now) > 0) {
    }
    pthread_sigmask(SIG_SETMASK, &before_, nullptr);
  }

 private:
  sigset_t before_;
};

void feed(Pipe& pipe, const std::string& input, size_t& written) {
  ssize_t n = write(pipe.ends[1], input.data() + written, input.size() - written);
  if (n > 0) written += static_cast<size_t>(n);
  if (n < 0 || written == input.size()) pipe.close_end(1);
}

void drain(Pipe& pipe, std::string& text) {
  char part[65536];
  ssize_t n = read(pipe.ends[0], part, sizeof part);
  if (n > 0)
    text.append(part, static_cast<size_t>(n));
  else
    pipe.close_end(0);
}

void exchange(Pipe& in, Pipe& out, Pipe& err, const std::string& input, ProcessResult& result) {
  IgnoredBrokenPipe guard;
  size_t written = 0;
  fcntl(in.ends[1], F_SETFL, O_NONBLOCK);
  if (input.empty()) in.close_end(1);
  while (out.ends[0] >= 0 || err.ends[0] >= 0) {
    pollfd waits[3] = {{in.ends[1], POLLOUT, 0}, {out.ends[0], POLLIN, 0}, {err.ends[0], POLLIN, 0}};
    if (poll(waits, 3, -1) < 0) continue;
    if (in.ends[1] >= 0 && waits[0].revents) feed(in, input, written);
    if (out.ends[0] >= 0 && waits[1].revents) drain(out, result.output);
    if (err.ends[0] >= 0 && waits[2].revents) drain(err, result.errors);
  }
}

}  // namespace

ProcessResult run_process(const std::vector<std::string>& command, const std::string& input) {
  Pipe in, out, err;
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_adddup2(&actions, in.ends[0], 0);
  posix_spawn_file_actions_adddup2(&actions, out.ends[1], 1);
  posix_spawn_file_actions_adddup2(&actions, err.ends[1], 2);
  std::vector<char*> arguments;
  for (const std::string& part : command) arguments.push_back(const_cast<char*>(part.c_str()));
  arguments.push_back(nullptr);
  pid_t child = 0;
  int failed = posix_spawnp(&child, arguments[0], &actions, nullptr, arguments.data(), environ);
  posix_spawn_file_actions_destroy(&actions);
  if (failed) throw MachineError("cannot start " + command[0] + ": " + std::strerror(failed));
  in.close_end(0), out.close_end(1), err.close_end(1);

  ProcessResult result;
  exchange(in, out, err, input, result);
  int status = 0;
  while (waitpid(child, &status, 0) < 0 && errno == EINTR) {
  }
  result.status = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  return result;
}

}  // namespace softmetal
