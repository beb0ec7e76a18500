#include "platform/pidfd.h"

#include <poll.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <string>
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
