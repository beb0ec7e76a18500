#include "platform/pidfd.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <cstddef>
#include <exception>
#include <string>
#include <string_view>
#include <utility>

#include "platform/clock.h"
#include "platform/error.h"
#include "platform/fault.h"

namespace nodesnap {

std::optional<Pidfd> Pidfd::open(pid_t pid) {
    if (const int error = fault::inject("pidfd-open")) {
        throw Error::system("open process", std::to_string(pid), error);
    }
    const long fd = ::syscall(SYS_pidfd_open, pid, 0);  // always close-on-exec
    if (fd < 0 && errno != ESRCH) {
        throw Error::system("open process", std::to_string(pid), errno);
    }
    return fd < 0 ? std::nullopt : std::optional(Pidfd(FileDescriptor(static_cast<int>(fd)), pid));
}

Pidfd Pidfd::adopt(FileDescriptor descriptor, pid_t pid) {
    return {std::move(descriptor), pid};
}

bool Pidfd::ended() const {
    return wait_ended(0);
}

bool Pidfd::wait_ended(std::int64_t deadline_ns) const {
    for (;;) {
        const std::int64_t left_ms = (deadline_ns - monotonic_ns() + 999'999) / 1'000'000;
        pollfd ended{descriptor_.get(), POLLIN, 0};
        const int count = ::poll(&ended, 1, static_cast<int>(std::clamp<std::int64_t>(left_ms, 0, 60'000)));
        if (count > 0) {
            return true;
        }
        if (count < 0 && errno != EINTR) {
            throw Error::system("wait for process", std::to_string(pid_), errno);
        }
        if (monotonic_ns() >= deadline_ns) {
            return false;
        }
    }
}

// It is this one's: while the descriptor is open the kernel reads it of no other process, whoever gets the number.
void Pidfd::watch() noexcept {
    try {
        status_.reset(::open(("/proc/" + std::to_string(pid_) + "/status").c_str(), O_RDONLY | O_CLOEXEC));
        if (ended()) {
            status_.reset();  // it may be another's
        }
    } catch (const std::exception&) {
        status_.reset();
    }
}

namespace {

// The value of a line of /proc/PID/status; empty if there is none.
std::string_view field_of(std::string_view status, std::string_view name) {
    const std::size_t at = status.find(name);
    if (at == std::string_view::npos) {
        return {};
    }
    const std::string_view rest = status.substr(at + name.size());
    return rest.substr(0, rest.find('\n'));
}

// A mask of signals in hexadecimal digits, the last of which has the first four.
bool has_kill(std::string_view mask) {
    constexpr std::size_t kDigitOfKill = (SIGKILL - 1) / 4 + 1;
    constexpr int kBitOfKill = 1 << (SIGKILL - 1) % 4;
    if (mask.size() < kDigitOfKill) {
        return false;
    }
    const char digit = mask[mask.size() - kDigitOfKill];
    const int value = digit >= 'a' ? digit - 'a' + 10 : digit - '0';
    return (value & kBitOfKill) != 0;
}

}  // namespace

bool Pidfd::is_dying() const noexcept {
    std::array<char, 4096> buffer;
    const ssize_t length = status_ ? ::pread(status_.get(), buffer.data(), buffer.size(), 0) : 0;
    if (length <= 0) {
        return length < 0 && errno == ESRCH;
    }
    const std::string_view status(buffer.data(), static_cast<std::size_t>(length));
    const std::string_view state = field_of(status, "\nState:\t");
    return state.starts_with('Z') || state.starts_with('X') || has_kill(field_of(status, "\nSigPnd:\t")) ||
           has_kill(field_of(status, "\nShdPnd:\t"));
}

bool Pidfd::signal(int number) const {
    if (::syscall(SYS_pidfd_send_signal, descriptor_.get(), number, nullptr, 0) == 0) {
        return true;
    }
    if (errno != ESRCH) {
        throw Error::system("signal process", std::to_string(pid_), errno);
    }
    return false;
}

}  // namespace nodesnap
