#include "platform/lease.h"

#include <fcntl.h>

#include <cerrno>
#include <csignal>

#include "platform/fault.h"

namespace nodesnap {

ReadLease::ReadLease(int fd) noexcept : fd_(fd), error_(fault::inject("lease")) {
    // The signal for it is SIGIO where none is named, which would end the process.
    if (error_ == 0 && (::fcntl(fd, F_SETSIG, SIGURG) != 0 || ::fcntl(fd, F_SETLEASE, F_RDLCK) != 0)) {
        error_ = errno;
    }
}

ReadLease::~ReadLease() {
    if (error_ == 0) {
        ::fcntl(fd_, F_SETLEASE, F_UNLCK);
    }
}

bool ReadLease::lasts() const noexcept {
    return error_ == 0 && ::fcntl(fd_, F_GETLEASE) == F_RDLCK;
}

}  // namespace nodesnap
