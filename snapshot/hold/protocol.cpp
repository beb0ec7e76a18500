#include "snapshot/hold/protocol.h"

#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>

#include "platform/clock.h"

namespace nodesnap::hold {
namespace {

void copy(std::string_view from, char (&to)[Message::kTextBytes]) noexcept {
    const std::size_t length = std::min(from.size(), sizeof(to) - 1);
    std::copy_n(from.data(), length, to);
    to[length] = '\0';
}

}  // namespace

void Message::set_text(std::string_view value) noexcept {
    copy(value, text);
}

void Message::add_text(std::string_view value) noexcept {
    const std::size_t length = std::strlen(text);
    text[length + value.copy(text + length, kTextBytes - 1 - length)] = '\0';
}

Message Message::failure(const std::exception& error) noexcept {
    Message message;
    message.kind = Kind::kFailed;
    message.status = static_cast<std::int32_t>(ExitStatus::kFailed);
    if (const auto* ours = dynamic_cast<const Error*>(&error)) {
        message.status = static_cast<std::int32_t>(ours->status());
        copy(ours->message(), message.text);
        copy(ours->hint(), message.hint);
    } else {
        copy(error.what(), message.text);
    }
    return message;
}

Error Message::error() const {
    const auto exit_status = static_cast<ExitStatus>(status);
    return {exit_status == ExitStatus::kRefused ? exit_status : ExitStatus::kFailed, text, hint};
}

bool send_message(int socket, const Message& message) {
    for (;;) {
        if (::send(socket, &message, sizeof(message), MSG_NOSIGNAL | MSG_DONTWAIT) == static_cast<ssize_t>(sizeof(message))) {
            return true;
        }
        if (errno == EAGAIN) {
            return true;  // it was stopped for so long that it has unread messages enough; what it misses, it takes for silence
        }
        if (errno == EPIPE || errno == ECONNRESET) {
            return false;
        }
        if (errno != EINTR) {
            throw Error::system("write to", "the guard's socket", errno);
        }
    }
}

Receive receive_message(int socket, Message& message, std::int64_t deadline_ns, int pidfd) {
    const std::int64_t left_ms = (deadline_ns - monotonic_ns() + 999'999) / 1'000'000;
    std::array<pollfd, 2> readable{{{socket, POLLIN, 0}, {pidfd, POLLIN, 0}}};
    const int count = ::poll(readable.data(), readable.size(), static_cast<int>(std::clamp<std::int64_t>(left_ms, 0, 60'000)));
    if (count < 0 && errno != EINTR) {
        throw Error::system("wait for", "the guard's socket", errno);
    }
    if (count <= 0) {
        return Receive::kTimeout;
    }
    const ssize_t length = ::recv(socket, &message, sizeof(message), MSG_DONTWAIT);
    if (length == static_cast<ssize_t>(sizeof(message))) {
        message.text[Message::kTextBytes - 1] = message.hint[Message::kTextBytes - 1] = '\0';
        return Receive::kMessage;
    }
    if (length < 0 && (errno == EAGAIN || errno == EINTR)) {
        return readable[1].revents == 0 ? Receive::kTimeout : Receive::kGone;
    }
    return Receive::kGone;  // the end, or what isn't a message
}

}  // namespace nodesnap::hold
