// The ring's kernel side: setting io_uring up, submitting, reaping.
#include <fcntl.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdint>
#include <cstring>
#include <ctime>
#include <fstream>
#include <limits>
#include <utility>

#include "io/ring_impl.h"
#include "platform/error.h"
#include "platform/file.h"

namespace nodesnap {
namespace {

// How often a submission that the kernel is too short of memory for is tried again, a millisecond apart, when nothing is in flight whose
// end could free some.
constexpr unsigned kMaxStarvedTries = 10000;

// What newer kernels do better, dropped step by step where an older one doesn't know it (5.15 has none but CLAMP).
constexpr std::array<unsigned, 4> kSetupFlags = {
    IORING_SETUP_CLAMP | IORING_SETUP_COOP_TASKRUN | IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN,
    IORING_SETUP_CLAMP | IORING_SETUP_COOP_TASKRUN | IORING_SETUP_SINGLE_ISSUER,
    IORING_SETUP_CLAMP | IORING_SETUP_COOP_TASKRUN,
    IORING_SETUP_CLAMP,
};

// With O_NONBLOCK kernels before 6.10 say EAGAIN of a file whose device can't be asked not to block (of device mapper most) again and
// again, and to poll it says that it is ready. To a regular file the flag means nothing.
bool may_block_now(int fd) noexcept {
    struct stat status {};
    return ::fstat(fd, &status) == 0 && S_ISREG(status.st_mode) && clear_status_flag(fd, O_NONBLOCK);
}

std::string why_not(int error_number) {
    std::string reason = std::string("io_uring_setup: ") + std::strerror(error_number);
    int disabled = 0;
    if (error_number == EPERM && std::ifstream("/proc/sys/kernel/io_uring_disabled") >> disabled && disabled != 0) {
        reason += " (kernel.io_uring_disabled = " + std::to_string(disabled) + ")";
    }
    return reason;
}

void pause_briefly() noexcept {
    const timespec pause{0, 1'000'000};
    nanosleep(&pause, nullptr);
}

}  // namespace

Ring::Impl::Impl(const Options& options) {
    entries = std::max(1U, options.entries);
    if (options.force_blocking) {
        reason = "turned off";
        return;
    }
    active = set_up(entries);
}

Ring::Impl::~Impl() {
    if (active) {
        io_uring_queue_exit(&uring);
    }
}

bool Ring::Impl::set_up(unsigned wanted) noexcept {
    int result = -EINVAL;
    io_uring_params parameters{};
    for (std::size_t i = 0; i < kSetupFlags.size() && result == -EINVAL; ++i) {
        parameters = {};
        parameters.flags = kSetupFlags[i];
        result = io_uring_queue_init_params(wanted, &uring, &parameters);
    }
    if (result < 0) {
        reason = why_not(-result);
        return false;
    }
    if ((parameters.features & IORING_FEAT_NODROP) == 0) {
        io_uring_queue_exit(&uring);
        reason = "this kernel's io_uring is too old";
        return false;
    }
    entries = std::min(wanted, parameters.sq_entries);
    probe();
    return true;
}

void Ring::Impl::probe() noexcept {
    io_uring_probe* found = io_uring_get_probe_ring(&uring);
    if (found == nullptr) {
        return;  // nothing is offered then, so everything is done by plain calls
    }
    for (unsigned opcode = 0; opcode < opcodes.size(); ++opcode) {
        opcodes[opcode] = io_uring_opcode_supported(found, static_cast<int>(opcode)) != 0;
    }
    io_uring_free_probe(found);
}

bool Ring::Impl::offers(const Operation& operation) const noexcept {
    using Kind = Operation::Kind;
    const bool fits = operation.request_.length <= std::numeric_limits<unsigned>::max();  // some lengths have 32 bits in an entry
    if (!active) {
        return false;
    }
    switch (operation.request_.kind) {
        case Kind::kRead:
            return opcodes[IORING_OP_READ];
        case Kind::kWrite:
            return opcodes[IORING_OP_WRITE];
        case Kind::kOpen:
            return opcodes[IORING_OP_OPENAT];
        case Kind::kClose:
            return opcodes[IORING_OP_CLOSE];
        case Kind::kStat:
            return opcodes[IORING_OP_STATX];
        case Kind::kSync:
            return opcodes[IORING_OP_FSYNC];
        case Kind::kSyncRange:
            return fits && opcodes[IORING_OP_SYNC_FILE_RANGE];
        case Kind::kAllocate:
            return opcodes[IORING_OP_FALLOCATE];
        case Kind::kAdvise:
            return fits && opcodes[IORING_OP_FADVISE];
        case Kind::kSleep:
            return opcodes[IORING_OP_TIMEOUT];
    }
    return false;
}

void Ring::register_region(std::span<std::byte> region) {
    if (!impl_->active) {
        return;
    }
    if (!impl_->region.empty()) {
        io_uring_unregister_buffers(&impl_->uring);
        impl_->region = {};
    }
    if (region.empty()) {
        return;
    }
    const iovec vector{region.data(), region.size()};
    if (io_uring_register_buffers(&impl_->uring, &vector, 1) == 0) {
        impl_->region = region;
    }
}

bool Ring::region_registered() const noexcept {
    return !impl_->region.empty();
}

bool Ring::Impl::in_region(const std::byte* data, std::uint64_t length) const noexcept {
    const auto begin = reinterpret_cast<std::uintptr_t>(region.data());
    const auto address = reinterpret_cast<std::uintptr_t>(data);
    return !region.empty() && address >= begin && address - begin <= region.size() && length <= region.size() - (address - begin);
}

void Ring::Impl::start(Operation& operation) noexcept {
    operation.state_ = Operation::State::kQueued;
    if (!waiting.empty() || in_flight_count >= entries || !launch(operation)) {
        waiting.push(operation);
    }
}

bool Ring::Impl::launch(Operation& operation) noexcept {
    io_uring_sqe* entry = io_uring_get_sqe(&uring);
    if (entry == nullptr) {
        io_uring_submit(&uring);  // if this fails, the next submit() sees why
        entry = io_uring_get_sqe(&uring);
        if (entry == nullptr) {
            return false;
        }
    }
    operation.prepare(entry);
    io_uring_sqe_set_data(entry, &operation);
    operation.state_ = Operation::State::kInFlight;
    in_flight.push(operation);
    ++in_flight_count;
    return true;
}

// Hands everything queued to the kernel; with `wait`, returns when there is a completion to reap.
void Ring::Impl::submit(bool wait) {
    for (unsigned tries = 0;;) {
        const int result = wait ? io_uring_submit_and_wait(&uring, 1) : io_uring_submit_and_get_events(&uring);
        if (!wait || io_uring_cq_ready(&uring) > 0) {
            if (result >= 0 || result == -EINTR || result == -EBUSY || result == -EAGAIN || result == -ENOMEM) {
                return;  // what wasn't taken stays queued for the next time
            }
        }
        if (result >= 0 || result == -EINTR) {
            continue;
        }
        const bool starved = result == -EBUSY || result == -EAGAIN || result == -ENOMEM;
        if (starved && in_flight_count > io_uring_sq_ready(&uring)) {
            io_uring_cqe* completion = nullptr;
            io_uring_wait_cqe(&uring, &completion);
        } else if (starved && ++tries < kMaxStarvedTries) {
            pause_briefly();
        } else {
            broken = true;
            throw Error::system("submit I/O to", "io_uring", -result);
        }
    }
}

// Takes all completions that there are before anyone is resumed: coroutines may start operations, but never reap.
void Ring::Impl::reap() noexcept {
    unsigned head = 0;
    unsigned count = 0;
    io_uring_cqe* completion = nullptr;
    std::array<std::pair<Operation*, int>, 64> batch;
    do {
        count = 0;
        io_uring_for_each_cqe(&uring, head, completion) {
            batch[count++] = {static_cast<Operation*>(io_uring_cqe_get_data(completion)), completion->res};
            if (count == batch.size()) {
                break;
            }
        }
        io_uring_cq_advance(&uring, count);
        for (unsigned i = 0; i < count; ++i) {
            if (batch[i].first != nullptr) {  // a cancellation's own result tells nothing
                complete(*batch[i].first, batch[i].second);
            }
        }
    } while (count == batch.size());
    while (!abandoning && !waiting.empty() && in_flight_count < entries) {
        auto& next = static_cast<Operation&>(waiting.pop());
        if (!launch(next)) {
            waiting.push(next);
            break;
        }
    }
}

void Ring::Impl::complete(Operation& operation, int result) noexcept {
    operation.leave();
    --in_flight_count;
    if (!abandoning && must_repeat(operation, result)) {
        if (!launch(operation)) {
            waiting.push(operation);
        }
        return;
    }
    if (operation.request_.kind == Operation::Kind::kSleep && result == -ETIME) {
        result = 0;
    } else if (operation.request_.kind == Operation::Kind::kClose && result == -EINTR) {
        result = 0;  // the descriptor is gone
    }
    operation.result_ = result;
    operation.state_ = Operation::State::kDone;
    ready.push(operation);
}

bool Ring::Impl::must_repeat(Operation& operation, int result) const noexcept {
    if (operation.polling_) {
        operation.polling_ = false;
        return true;
    }
    if (operation.request_.kind == Operation::Kind::kClose || (result != -EINTR && result != -EAGAIN)) {
        return false;
    }
    const bool transfers = operation.request_.kind == Operation::Kind::kRead || operation.request_.kind == Operation::Kind::kWrite;
    if (result != -EAGAIN || !transfers || may_block_now(operation.request_.fd)) {
        return true;
    }
    operation.polling_ = opcodes[IORING_OP_POLL_ADD];
    return true;
}

// Sleeps, and reads of what isn't a file, could last for ever. Everything else ends by itself.
void Ring::Impl::cancel_idle_operations() noexcept {
    for (Parked* parked = in_flight.first(); parked != nullptr; parked = parked->next()) {
        auto& operation = static_cast<Operation&>(*parked);
        if (operation.request_.kind != Operation::Kind::kSleep && operation.request_.kind != Operation::Kind::kRead) {
            continue;
        }
        io_uring_sqe* entry = io_uring_get_sqe(&uring);
        if (entry == nullptr) {
            io_uring_submit(&uring);
            entry = io_uring_get_sqe(&uring);
        }
        if (entry != nullptr) {
            io_uring_prep_cancel(entry, &operation, 0);
            io_uring_sqe_set_data(entry, nullptr);
        }
    }
}

}  // namespace nodesnap
