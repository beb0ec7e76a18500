#include "io/remote/channel.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <utility>
#include <vector>

#include "io/remote/message.h"
#include "platform/blocked_signals.h"
#include "platform/error.h"
#include "platform/interrupt.h"

namespace nodesnap::remote {
namespace {

constexpr std::chrono::seconds kAliveEvery{10};
constexpr std::chrono::seconds kSilenceWhenInterrupted{15};  // who lives says so more often
constexpr std::chrono::milliseconds kSlice{1000};
constexpr std::size_t kInputBytes = std::size_t{64} << 10;

void make_non_blocking(int fd) {
    const int flags = ::fcntl(fd, F_GETFL);
    if (flags < 0 || ::fcntl(fd, F_SETFL, flags | O_NONBLOCK) != 0) {
        throw Error::system("use the connection", "", errno);
    }
}

}  // namespace

// Bytes that have come, read ahead a little, so that small frames cost no system call each.
class FrameChannel::Input {
public:
    explicit Input(const FrameChannel& channel) : channel_(channel), buffer_(kInputBytes) {}

    // False if the peer has closed its side before the first byte. Throws if it does so later, or is silent for too long.
    bool read(std::span<std::byte> into) {
        std::size_t done = take_buffered(into);
        while (done < into.size()) {
            const auto rest = into.subspan(done);
            // What is large goes where it belongs at once.
            const bool direct = rest.size() >= buffer_.size() / 2;
            const std::size_t count = direct ? read_some(rest) : read_some(buffer_);
            if (count == 0) {
                if (done == 0) {
                    return false;
                }
                throw Error::failed("it ended in the middle of a frame");
            }
            if (!direct) {
                begin_ = 0;
                end_ = count;
                done += take_buffered(rest);
            } else {
                done += count;
            }
        }
        return true;
    }

private:
    std::size_t take_buffered(std::span<std::byte> into) {
        const std::size_t count = std::min(into.size(), end_ - begin_);
        if (count > 0) {
            std::memcpy(into.data(), buffer_.data() + begin_, count);
            begin_ += count;
        }
        return count;
    }

    std::size_t read_some(std::span<std::byte> into) {
        std::chrono::seconds quiet{0};
        for (;;) {
            const ssize_t count = ::read(channel_.in_.get(), into.data(), into.size());
            if (count >= 0) {
                return static_cast<std::size_t>(count);
            }
            if (errno == EAGAIN) {
                if (!channel_.wait_for(channel_.in_.get(), POLLIN, quiet)) {
                    return 0;  // stopped
                }
            } else if (errno != EINTR) {
                throw Error::system("receive from", "the other side", errno);
            }
        }
    }

    const FrameChannel& channel_;
    std::vector<std::byte> buffer_;
    std::size_t begin_ = 0, end_ = 0;
};

FrameChannel::FrameChannel(FileDescriptor in, FileDescriptor out, Receiver& receiver, std::chrono::seconds silence_limit)
    : in_(std::move(in)), out_(std::move(out)), stop_(::eventfd(0, EFD_CLOEXEC)), receiver_(receiver), silence_limit_(silence_limit) {
    if (!stop_) {
        throw Error::system("make", "an event", errno);
    }
    make_non_blocking(in_.get());
    make_non_blocking(out_.get());
}

FrameChannel::~FrameChannel() {
    stop();
}

void FrameChannel::start() {
    const BlockedSignals blocked;
    sending_ = std::thread([this] { send_all(); });
    receiving_ = std::thread([this] { receive_all(); });
}

void FrameChannel::stop() noexcept {
    end_waiting();
    end_sending("");
    if (sending_.joinable()) {
        sending_.join();
    }
    if (receiving_.joinable()) {
        receiving_.join();
    }
}

void FrameChannel::end_waiting() noexcept {
    const std::uint64_t one = 1;
    [[maybe_unused]] const ssize_t told = ::write(stop_.get(), &one, sizeof one);
}

// False if all is to end. Counts in slices of a second, so that a time in which this process was stopped counts as one of them.
bool FrameChannel::wait_for(int fd, short events, std::chrono::seconds& quiet) const {
    for (;;) {
        std::array<pollfd, 2> waits{{{fd, events, 0}, {stop_.get(), POLLIN, 0}}};
        const int ready = ::poll(waits.data(), waits.size(), static_cast<int>(kSlice.count()));
        if (ready < 0 && errno != EINTR) {
            throw Error::system("wait for", "the other side", errno);
        }
        if (ready > 0) {
            return waits[1].revents == 0;
        }
        if (ready == 0 && (++quiet >= silence_limit_ || (quiet >= kSilenceWhenInterrupted && interrupted()))) {
            throw Error::failed("nothing was heard of it for " + std::to_string(quiet.count()) + " s",
                                "check the network, and whether the host is alive");
        }
    }
}

void FrameChannel::receive_all() {
    std::string why;
    try {
        Input input(*this);
        receive_frames(input);
    } catch (const std::exception& error) {
        why = error.what();
        tell_peer(why);
    }
    {
        const std::lock_guard lock(mutex_);
        if (why.empty()) {
            why = send_error_;
        }
    }
    end_sending(why);
    end_waiting();
    {
        // Of what is on its way to be sent the sending thread says so; after that nothing of theirs is touched any more.
        std::unique_lock lock(mutex_);
        changed_.wait(lock, [this] { return ended_; });
    }
    receiver_.ended(why);
}

// Why this side ends the connection, if the other one takes it.
void FrameChannel::tell_peer(const std::string& why) {
    constexpr std::chrono::seconds kAtMost{3};
    send({0, FrameKind::kError, 0, 0, 0}, encode_error(Error::failed(why)));
    close_sending();
    std::unique_lock lock(mutex_);
    changed_.wait_for(lock, kAtMost, [this] { return ended_; });
}

void FrameChannel::receive_frames(Input& input) {
    for (std::uint64_t place = 0;; ++place) {
        HeaderBytes bytes;
        if (!input.read(bytes)) {
            return;
        }
        const FrameHeader header = decode_header(bytes);
        const std::span<std::byte> payload = receiver_.place_for(header);
        if (header.length > 0 && !input.read(payload)) {
            throw Error::failed("it ended in the middle of a frame");
        }
        if (!fits(bytes, payload, place)) {
            throw Error::failed("a frame's checksum doesn't fit: one of the two programs, or a host's memory, is at fault");
        }
        receiver_.received(header, payload);
    }
}

void FrameChannel::send(FrameHeader header, Bytes payload) {
    Entry entry{header, std::move(payload), {}, {}};
    entry.payload = entry.owned;  // a vector's bytes stay where they are when it is moved
    const std::lock_guard lock(mutex_);
    if (!broken_) {
        queued_bytes_ += kFrameHeaderBytes + entry.payload.size();
        queue_.push_back(std::move(entry));
        changed_.notify_all();
    }
}

void FrameChannel::send(FrameHeader header, std::span<const std::byte> payload, std::function<void()> sent) {
    {
        const std::lock_guard lock(mutex_);
        if (!broken_) {
            queued_bytes_ += kFrameHeaderBytes + payload.size();
            queue_.push_back({header, {}, payload, std::move(sent)});
            changed_.notify_all();
            return;
        }
    }
    sent();
}

std::size_t FrameChannel::queued_bytes() const {
    const std::lock_guard lock(mutex_);
    return queued_bytes_;
}

void FrameChannel::wait_queued_below(std::size_t bytes) const {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return broken_ || queued_bytes_ < bytes; });
}

void FrameChannel::close_sending() {
    const std::lock_guard lock(mutex_);
    closing_ = true;
    changed_.notify_all();
}

void FrameChannel::end_sending(const std::string& why) noexcept {
    const std::lock_guard lock(mutex_);
    broken_ = true;
    if (send_error_.empty()) {
        send_error_ = why;
    }
    changed_.notify_all();
}

// False when there is nothing more to send. An entry stays in the queue until it is sent.
bool FrameChannel::next_entry(Entry& entry) {
    std::unique_lock lock(mutex_);
    if (!changed_.wait_for(lock, kAliveEvery, [this] { return broken_ || closing_ || !queue_.empty(); })) {
        entry = Entry{};
        queued_bytes_ += kFrameHeaderBytes;
        return true;
    }
    if (broken_ || queue_.empty()) {
        return false;
    }
    entry = std::move(queue_.front());
    queue_.pop_front();
    return true;
}

void FrameChannel::send_all() {
    try {
        for (Entry entry; next_entry(entry);) {
            const std::exception_ptr failure = try_send(entry);
            if (entry.sent) {
                entry.sent();
            }
            {
                const std::lock_guard lock(mutex_);
                queued_bytes_ -= kFrameHeaderBytes + entry.payload.size();
                changed_.notify_all();
            }
            if (failure) {
                std::rethrow_exception(failure);
            }
        }
    } catch (const Error& error) {
        end_sending(error.what());
        if (error.error_number() == 0) {
            end_waiting();  // it doesn't read, although it may say that it lives; who has gone may have left a word
        }
    }
    drop_queue();
    if (::shutdown(out_.get(), SHUT_WR) != 0 && errno == ENOTSOCK) {
        out_.reset();  // a pipe
    }
    const std::lock_guard lock(mutex_);
    ended_ = true;
    changed_.notify_all();
}

std::exception_ptr FrameChannel::try_send(const Entry& entry) noexcept {
    try {
        send_entry(entry);
        return nullptr;
    } catch (...) {
        return std::current_exception();
    }
}

void FrameChannel::drop_queue() {
    std::unique_lock lock(mutex_);
    broken_ = true;
    while (!queue_.empty()) {
        const Entry entry = std::move(queue_.front());
        queue_.pop_front();
        lock.unlock();
        if (entry.sent) {
            entry.sent();
        }
        lock.lock();
    }
    queued_bytes_ = 0;
}

void FrameChannel::send_entry(const Entry& entry) {
    const HeaderBytes header = encode_header(entry.header, entry.payload, sent_frames_++);
    write_all(header, entry.payload);
}

void FrameChannel::write_all(std::span<const std::byte> header, std::span<const std::byte> payload) {
    std::chrono::seconds quiet{0};
    while (!header.empty() || !payload.empty()) {
        const auto part = [](std::span<const std::byte> bytes) { return iovec{const_cast<std::byte*>(bytes.data()), bytes.size()}; };
        const std::array<iovec, 2> parts{part(header), part(payload)};
        const ssize_t count = ::writev(out_.get(), parts.data(), parts.size());
        if (count >= 0) {
            const auto of_header = std::min(header.size(), static_cast<std::size_t>(count));
            header = header.subspan(of_header);
            payload = payload.subspan(static_cast<std::size_t>(count) - of_header);
            quiet = std::chrono::seconds{0};
        } else if (errno == EAGAIN) {
            if (!wait_for(out_.get(), POLLOUT, quiet)) {
                throw Error::failed("the connection is ended");
            }
        } else if (errno != EINTR) {
            throw Error::system("send to", "the other side", errno);
        }
    }
}

}  // namespace nodesnap::remote
