// The operations: how each is asked of io_uring, and how it is done by a plain system call.
#include "io/ring_operation.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <ctime>

#include "io/ring_impl.h"
#include "platform/fault.h"

namespace nodesnap {
namespace {

constexpr std::uint64_t kMaxTransfer = 0x7ffff000;  // the kernel's own limit for one read or write

// The name under which a test makes an operation fail; nullptr for those that move no data, names or durability.
template <typename Kind>
const char* fault_name(Kind kind) noexcept {
    switch (kind) {
        case Kind::kRead:
            return "read";
        case Kind::kWrite:
            return "write";
        case Kind::kOpen:
            return "open";
        case Kind::kClose:
            return "close";
        case Kind::kStat:
            return "stat";
        case Kind::kSync:
            return "fsync";
        case Kind::kAllocate:
            return "allocate";
        default:
            return nullptr;
    }
}

// Calls until it isn't interrupted; the result in the manner of the kernel.
template <typename Call>
std::int64_t repeat(Call call) noexcept {
    for (;;) {
        const std::int64_t result = call();
        if (result >= 0) {
            return result;
        }
        if (errno != EINTR) {
            return -errno;
        }
    }
}

// A pread or pwrite that also works on pipes and on descriptors that don't block.
template <typename Call, typename StreamCall>
std::int64_t transfer(int fd, short events, Call call, StreamCall stream_call) noexcept {
    for (;;) {
        std::int64_t result = repeat(call);
        if (result == -ESPIPE) {
            result = repeat(stream_call);
        }
        if (result != -EAGAIN) {
            return result;
        }
        pollfd waiting{fd, events, 0};
        poll(&waiting, 1, -1);
    }
}

std::int64_t sleep_for(const __kernel_timespec& duration) noexcept {
    timespec left{duration.tv_sec, duration.tv_nsec};
    while (clock_nanosleep(CLOCK_MONOTONIC, 0, &left, &left) == EINTR) {
    }
    return 0;
}

}  // namespace

Ring::Operation::~Operation() {
    if (request_.kind == Kind::kOpen && state_ == State::kDone && result_ >= 0) {
        ::close(static_cast<int>(result_));
    } else if (request_.kind == Kind::kClose && state_ == State::kQueued) {
        ::close(request_.fd);
    }
}

bool Ring::Operation::await_ready() noexcept {
    const char* name = fault_name(request_.kind);
    int fault = 0;
    do {
        fault = name != nullptr ? fault::inject(name) : 0;
    } while (fault == EINTR || fault == EAGAIN);
    if (fault != 0) {
        if (request_.kind == Kind::kClose) {
            ::close(request_.fd);  // as in the kernel: a close that fails has closed
        }
        result_ = -fault;
    } else if (!ring_.offers(*this)) {
        result_ = execute();
    } else {
        return false;
    }
    state_ = State::kDone;
    return true;
}

void Ring::Operation::await_suspend(std::coroutine_handle<> awaiting) noexcept {
    coroutine = awaiting;
    ring_.start(*this);
}

std::int64_t Ring::Operation::execute() noexcept {
    const auto offset = static_cast<off_t>(request_.offset);
    const auto length = static_cast<off_t>(request_.length);
    switch (request_.kind) {
        case Kind::kRead:
            return transfer(
                request_.fd, POLLIN, [&] { return ::pread(request_.fd, request_.into, request_.length, offset); },
                [&] { return ::read(request_.fd, request_.into, request_.length); });
        case Kind::kWrite:
            return transfer(
                request_.fd, POLLOUT, [&] { return ::pwrite(request_.fd, request_.from, request_.length, offset); },
                [&] { return ::write(request_.fd, request_.from, request_.length); });
        case Kind::kOpen:
            return repeat([&] { return ::openat(request_.fd, request_.name, request_.flags, request_.mode); });
        case Kind::kClose:
            return ::close(request_.fd) == 0 || errno == EINTR ? 0 : -errno;
        case Kind::kStat:
            return repeat([&] { return ::statx(request_.fd, request_.name, request_.flags, request_.mode, request_.stat); });
        case Kind::kSync:
            return repeat([&] { return request_.flags != 0 ? ::fdatasync(request_.fd) : ::fsync(request_.fd); });
        case Kind::kSyncRange:
            return repeat([&] { return ::sync_file_range(request_.fd, offset, length, SYNC_FILE_RANGE_WRITE); });
        case Kind::kAllocate:
            return repeat([&] { return ::fallocate(request_.fd, request_.flags, offset, length); });
        case Kind::kAdvise:
            return -::posix_fadvise(request_.fd, offset, length, request_.flags);
        case Kind::kSleep:
            return sleep_for(request_.duration);
    }
    return -EINVAL;
}

void Ring::Operation::prepare(io_uring_sqe* entry) const noexcept {
    const auto length = static_cast<unsigned>(request_.length);
    switch (request_.kind) {
        case Kind::kRead:
        case Kind::kWrite:
            return prepare_transfer(entry);
        case Kind::kOpen:
            return io_uring_prep_openat(entry, request_.fd, request_.name, request_.flags, request_.mode);
        case Kind::kClose:
            return io_uring_prep_close(entry, request_.fd);
        case Kind::kStat:
            return io_uring_prep_statx(entry, request_.fd, request_.name, request_.flags, request_.mode, request_.stat);
        case Kind::kSync:
            return io_uring_prep_fsync(entry, request_.fd, request_.flags != 0 ? IORING_FSYNC_DATASYNC : 0);
        case Kind::kSyncRange:
            return io_uring_prep_sync_file_range(entry, request_.fd, length, request_.offset, SYNC_FILE_RANGE_WRITE);
        case Kind::kAllocate:
            return io_uring_prep_fallocate(entry, request_.fd, request_.flags, static_cast<off_t>(request_.offset),
                                           static_cast<off_t>(request_.length));
        case Kind::kAdvise:
            return io_uring_prep_fadvise(entry, request_.fd, request_.offset, static_cast<off_t>(length), request_.flags);
        case Kind::kSleep:
            return io_uring_prep_timeout(entry, const_cast<__kernel_timespec*>(&request_.duration), 0, 0);
    }
}

void Ring::Operation::prepare_transfer(io_uring_sqe* entry) const noexcept {
    const bool reads = request_.kind == Kind::kRead;
    const auto length = static_cast<unsigned>(request_.length);
    if (polling_) {
        io_uring_prep_poll_add(entry, request_.fd, reads ? POLLIN : POLLOUT);
    } else if (ring_.in_region(reads ? request_.into : request_.from, request_.length)) {
        reads ? io_uring_prep_read_fixed(entry, request_.fd, request_.into, length, request_.offset, 0)
              : io_uring_prep_write_fixed(entry, request_.fd, request_.from, length, request_.offset, 0);
    } else {
        reads ? io_uring_prep_read(entry, request_.fd, request_.into, length, request_.offset)
              : io_uring_prep_write(entry, request_.fd, request_.from, length, request_.offset);
    }
}

Ring::Operation Ring::read(int fd, std::span<std::byte> into, std::uint64_t offset) noexcept {
    const auto length = std::min<std::uint64_t>(into.size(), kMaxTransfer);
    return {*this, {.kind = Operation::Kind::kRead, .fd = fd, .offset = offset, .length = length, .into = into.data()}};
}

Ring::Operation Ring::write(int fd, std::span<const std::byte> from, std::uint64_t offset) noexcept {
    const auto length = std::min<std::uint64_t>(from.size(), kMaxTransfer);
    return {*this, {.kind = Operation::Kind::kWrite, .fd = fd, .offset = offset, .length = length, .from = from.data()}};
}

Ring::Operation Ring::open_at(int directory, const char* name, int flags, mode_t mode) noexcept {
    return {*this, {.kind = Operation::Kind::kOpen, .fd = directory, .flags = flags | O_CLOEXEC, .mode = mode, .name = name}};
}

Ring::Operation Ring::close(int fd) noexcept {
    return {*this, {.kind = Operation::Kind::kClose, .fd = fd}};
}

Ring::Operation Ring::stat_at(int directory, const char* name, int flags, unsigned mask, struct statx* result) noexcept {
    return {*this, {.kind = Operation::Kind::kStat, .fd = directory, .flags = flags, .mode = mask, .name = name, .stat = result}};
}

Ring::Operation Ring::fsync(int fd, bool data_only) noexcept {
    return {*this, {.kind = Operation::Kind::kSync, .fd = fd, .flags = data_only ? 1 : 0}};
}

Ring::Operation Ring::sync_range(int fd, std::uint64_t offset, std::uint64_t length) noexcept {
    return {*this, {.kind = Operation::Kind::kSyncRange, .fd = fd, .offset = offset, .length = length}};
}

Ring::Operation Ring::allocate(int fd, int mode, std::uint64_t offset, std::uint64_t length) noexcept {
    return {*this, {.kind = Operation::Kind::kAllocate, .fd = fd, .flags = mode, .offset = offset, .length = length}};
}

Ring::Operation Ring::advise(int fd, std::uint64_t offset, std::uint64_t length, int advice) noexcept {
    return {*this, {.kind = Operation::Kind::kAdvise, .fd = fd, .flags = advice, .offset = offset, .length = length}};
}

Ring::Operation Ring::sleep(std::chrono::nanoseconds duration) noexcept {
    constexpr std::int64_t kSecond = 1'000'000'000;
    const std::int64_t nanoseconds = std::max<std::int64_t>(0, duration.count());
    return {*this, {.kind = Operation::Kind::kSleep, .duration = {nanoseconds / kSecond, nanoseconds % kSecond}}};
}

}  // namespace nodesnap
