#include "platform/file_descriptor.h"

#include <unistd.h>

#include <cerrno>

namespace nodesnap {

void FileDescriptor::reset(int fd) noexcept {
    const int old = std::exchange(fd_, fd);
    if (old >= 0) {
        const int saved_errno = errno;
        // Linux frees the number even when close() fails, so that trying again could close another's descriptor.
        ::close(old);
        errno = saved_errno;
    }
}

}  // namespace nodesnap
