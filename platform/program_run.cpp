#include "platform/program_run.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <cstdint>
#include <memory>
#include <string_view>
#include <vector>

#include "platform/clock.h"
#include "platform/error.h"
#include "platform/file_descriptor.h"
#include "platform/output_memory.h"
#include "platform/pidfd.h"
#include "platform/spawn.h"

namespace nodesnap {
namespace {

constexpr std::int64_t kCallbackNs = 500'000'000;
constexpr std::size_t kToldBytes = 500;

// A pipe from the program to who takes what it prints.
class OutputPipe {
public:
    explicit OutputPipe(const std::function<void(std::string_view)>& take) : take_(take) {
        std::array<int, 2> ends{};
        if (::pipe2(ends.data(), O_CLOEXEC) != 0) {
            throw Error::system("make a pipe for the output of a program", "", errno);
        }
        read_.reset(ends[0]);
        write_.reset(ends[1]);
        ::fcntl(read_.get(), F_SETFL, O_NONBLOCK);  // who is left behind may hold the other end for ever
    }
    int write_end() const { return write_.get(); }
    void close_write_end() { write_.reset(); }
    pollfd wait() const { return {ended_ ? -1 : read_.get(), POLLIN, 0}; }
    // False if there is none (yet).
    bool take_piece() {
        const ssize_t count = ::read(read_.get(), buffer_.data(), buffer_.size());
        if (count > 0) {
            take_(std::string_view(buffer_.data(), static_cast<std::size_t>(count)));
            return true;
        }
        ended_ = ended_ || count == 0;
        return count < 0 && errno == EINTR;
    }

private:
    const std::function<void(std::string_view)>& take_;
    FileDescriptor read_;
    FileDescriptor write_;
    bool ended_ = false;
    std::array<char, 64U << 10> buffer_{};
};

// One for each stream that is taken.
using OutputPipes = std::vector<std::unique_ptr<OutputPipe>>;

// As Pidfd::wait_ended(), but returns when there was something to take, too. All is taken if it returns true.
bool take_until_ended(const Pidfd& process, const OutputPipes& pipes, std::int64_t deadline_ns) {
    constexpr std::int64_t kMillisecondNs = 1'000'000;
    const std::int64_t left_ns = std::clamp<std::int64_t>(deadline_ns - monotonic_ns(), 0, kCallbackNs);
    std::vector<pollfd> waits{{process.get(), POLLIN, 0}};
    for (const auto& pipe : pipes) {
        waits.push_back(pipe->wait());
    }
    if (::poll(waits.data(), waits.size(), static_cast<int>((left_ns + kMillisecondNs - 1) / kMillisecondNs)) < 0) {
        return false;  // by a signal
    }
    const bool has_ended = waits[0].revents != 0;
    for (std::size_t i = 0; i < pipes.size(); ++i) {
        if (waits[i + 1].revents != 0) {
            pipes[i]->take_piece();
        }
        while (has_ended && pipes[i]->take_piece()) {
        }
    }
    return has_ended;
}

// Returns when the program has ended; it isn't waited for yet, so that its number still belongs to its group. True if it took too long.
bool wait_for_end(const Pidfd& process, const ProgramRun& run, const OutputPipes& pipes) {
    std::int64_t deadline = run.time_limit.count() > 0 ? monotonic_ns() + run.time_limit.count() : INT64_MAX;
    std::int64_t next_callback = monotonic_ns() + kCallbackNs;
    bool timed_out = false;
    for (;;) {
        const std::int64_t until = std::min(next_callback, deadline);
        if (pipes.empty() ? process.wait_ended(until) : take_until_ended(process, pipes, until)) {
            break;
        }
        if (monotonic_ns() >= next_callback) {
            next_callback = monotonic_ns() + kCallbackNs;
            if (run.while_waiting) {
                run.while_waiting();
            }
            if (!timed_out && run.give_up && run.give_up()) {
                deadline = monotonic_ns();
            }
        }
        if (monotonic_ns() >= deadline) {
            ::kill(-process.pid(), timed_out ? SIGKILL : SIGTERM);
            deadline = timed_out ? INT64_MAX : monotonic_ns() + std::chrono::nanoseconds(ProgramRun::kKillDelay).count();
            timed_out = true;
        }
    }
    if (timed_out) {
        ::kill(-process.pid(), SIGKILL);  // what it has started, and left
    }
    return timed_out;
}

}  // namespace

std::string ProgramResult::explanation() const {
    std::string text = timed_out     ? "it took too long"
                       : signal != 0 ? "killed by signal " + std::to_string(signal)
                                     : "exit status " + std::to_string(exit_code);
    std::string_view last = output;
    while (!last.empty() && (last.back() == '\n' || last.back() == ' ')) {
        last.remove_suffix(1);
    }
    last = last.substr(last.rfind('\n') + 1);
    return last.empty() ? text : text + ": " + std::string(last.substr(0, kToldBytes));
}

ProgramResult run_program(const ProgramRun& run) {
    const OutputMemory output;
    OutputPipes pipes;
    for (const auto* take : {&run.take_output, &run.take_error_output}) {
        if (*take) {
            pipes.push_back(std::make_unique<OutputPipe>(*take));
        }
    }
    Spawn start;
    start.arguments = run.arguments;
    start.environment = run.environment;
    start.output = run.take_output ? pipes.front()->write_end() : output.descriptor();
    start.error_output = run.take_error_output ? pipes.back()->write_end() : output.descriptor();
    start.inherited = run.inherited;
    start.cgroup_procs = run.cgroup_procs;
    const pid_t pid = spawn(start);
    ProgramResult result;
    try {
        for (const auto& pipe : pipes) {
            pipe->close_write_end();
        }
        result.timed_out = wait_for_end(Pidfd::open(pid).value(), run, pipes);
    } catch (...) {
        if (!pipes.empty()) {
            ::kill(-pid, SIGKILL);
            wait_for_child(pid);
        }
        throw;
    }
    const int status = wait_for_child(pid);
    result.exit_code = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
    result.signal = WIFSIGNALED(status) ? WTERMSIG(status) : 0;
    result.output = output.written();
    return result;
}

}  // namespace nodesnap
