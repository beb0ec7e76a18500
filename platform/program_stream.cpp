#include "platform/program_stream.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>

#include "platform/clock.h"
#include "platform/error.h"
#include "platform/program_run.h"
#include "platform/spawn.h"

namespace nodesnap {
namespace {

// Larger than the default, so that neither side wakes for each few pages.
constexpr int kSocketBytes = 1 << 20;

}  // namespace

ProgramStream::ProgramStream(const std::vector<std::string>& arguments, bool asks) {
    std::array<int, 2> ends{};
    if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends.data()) != 0) {
        throw Error::system("make", "a socket pair", errno);
    }
    in_.reset(ends[0]);
    const FileDescriptor theirs(ends[1]);
    for (const int end : ends) {
        ::setsockopt(end, SOL_SOCKET, SO_SNDBUF, &kSocketBytes, sizeof kSocketBytes);  // as much as is allowed
    }
    out_.reset(::fcntl(in_.get(), F_DUPFD_CLOEXEC, 0));
    if (!out_) {
        throw Error::system("duplicate", "a socket", errno);
    }
    Spawn start;
    start.arguments = arguments;
    start.input = theirs.get();
    start.output = theirs.get();
    start.error_output = error_output_.descriptor();
    start.keeps_session = true;
    pid_ = spawn(start);
    try {
        process_ = Pidfd::open(pid_);
    } catch (const Error&) {
        ::kill(-pid_, SIGKILL);
        wait_for_child(pid_);
        throw;
    }
    if (asks) {
        terminal_ = std::make_unique<TerminalLoan>(pid_);
    }
}

ProgramStream::~ProgramStream() {
    in_.reset();
    out_.reset();
    try {
        end(std::chrono::seconds(5));
    } catch (const Error&) {  // it is ended by then, or nothing can end it
    }
}

std::string ProgramStream::end(std::chrono::milliseconds at_most) {
    if (ended_) {
        return *ended_;
    }
    terminal_.reset();
    const std::int64_t until = monotonic_ns() + std::chrono::nanoseconds(at_most).count();
    ProgramResult result;
    result.timed_out = process_ && !process_->wait_ended(until);
    if (result.timed_out && may_outlive_) {
        return "";
    }
    if (result.timed_out) {
        constexpr std::chrono::nanoseconds kPatience = std::chrono::seconds(2);
        ::kill(-pid_, SIGTERM);
        if (!process_->wait_ended(monotonic_ns() + kPatience.count())) {
            ::kill(-pid_, SIGKILL);
        }
    }
    const int status = wait_for_child(pid_);
    result.exit_code = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
    result.signal = WIFSIGNALED(status) ? WTERMSIG(status) : 0;
    result.output = error_output_.written();
    ended_ = result.succeeded() || result.timed_out ? "" : result.explanation();
    return *ended_;
}

}  // namespace nodesnap
