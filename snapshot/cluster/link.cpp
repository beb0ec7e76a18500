#include "snapshot/cluster/link.h"

#include <string_view>
#include <utility>

#include "platform/clock.h"
#include "platform/error.h"

namespace nodesnap::cluster {
namespace {

const Json& member(const Json& message, const char* key) {
    const auto found = message.find(key);
    if (found == message.end()) {
        throw Error::failed(std::string("what the other side says has no \"") + key + "\"");
    }
    return *found;
}

// Null if it isn't JSON, or nested so deeply that nobody could have meant it.
Json parse(std::string_view text) {
    constexpr int kDepthLimit = 8;
    bool too_deep = false;
    Json parsed = Json::parse(
        text,
        [&](int depth, Json::parse_event_t, Json&) {
            too_deep = too_deep || depth > kDepthLimit;
            return !too_deep;
        },
        false);
    return too_deep || parsed.is_discarded() ? Json() : parsed;
}

[[noreturn]] void throw_wrong(const char* key) {
    throw Error::failed(std::string("\"") + key + "\", as the other side says it, is of the wrong kind");
}

}  // namespace

ClusterLink::ClusterLink(FileDescriptor in, FileDescriptor out, Listener listener)
    : listener_(std::move(listener)), last_heard_ns_(monotonic_ns()) {
    channel_ = std::make_unique<remote::FrameChannel>(std::move(in), std::move(out), static_cast<remote::FrameChannel::Receiver&>(*this));
    channel_->start();
}

ClusterLink::~ClusterLink() {
    channel_->stop();
}

void ClusterLink::say(const Json& message) {
    // Texts of files and programs may be any bytes; they are for people only.
    const std::string text = message.dump(-1, ' ', false, Json::error_handler_t::replace);
    const auto bytes = std::as_bytes(std::span(text));
    remote::FrameHeader header;
    header.kind = remote::FrameKind::kSay;
    channel_->send(header, Bytes(bytes.begin(), bytes.end()));
}

std::span<std::byte> ClusterLink::place_for(const remote::FrameHeader& header) {
    payload_.resize(header.length);
    return payload_;
}

void ClusterLink::received(const remote::FrameHeader& header, std::span<std::byte> payload) {
    const std::int64_t now = monotonic_ns();
    last_heard_ns_ = now;
    if (header.kind == remote::FrameKind::kAlive) {
        return;
    }
    const std::string_view text(reinterpret_cast<const char*>(payload.data()), payload.size());
    const Json message = header.kind == remote::FrameKind::kSay ? parse(text) : Json();
    if (!message.is_object()) {
        throw Error::failed("the other side says what can't be understood");
    }
    if (const auto asked = message.find("do"); asked != message.end() && *asked == "ping") {
        say({{"is", "pong"}, {"number", number_of(message, "number")}, {"clock", now}});
        return;
    }
    listener_.heard(message, now);
}

void ClusterLink::ended(const std::string& why) noexcept {
    ended_ = true;
    try {
        listener_.ended(why);
    } catch (const std::exception&) {  // no memory: whoever waits finds out by ended()
    }
}

std::string text_of(const Json& message, const char* key) {
    const Json& value = member(message, key);
    if (!value.is_string()) {
        throw_wrong(key);
    }
    return value.get<std::string>();
}

std::int64_t number_of(const Json& message, const char* key) {
    const Json& value = member(message, key);
    if (!value.is_number_integer()) {
        throw_wrong(key);
    }
    return value.get<std::int64_t>();
}

bool flag_of(const Json& message, const char* key) {
    const Json& value = member(message, key);
    if (!value.is_boolean()) {
        throw_wrong(key);
    }
    return value.get<bool>();
}

Json error_message(const Error& error) {
    return {{"is", "failed"},
            {"status", static_cast<int>(error.status())},
            {"message", error.message()},
            {"hint", error.hint()},
            {"errno", error.error_number()}};
}

Error error_of(const Json& message, const std::string& node) {
    const std::int64_t status = number_of(message, "status");
    const bool known = status >= static_cast<int>(ExitStatus::kFailed) && status <= static_cast<int>(ExitStatus::kLocked);
    return {known ? static_cast<ExitStatus>(status) : ExitStatus::kFailed, "node " + node + ": " + text_of(message, "message"),
            text_of(message, "hint"), static_cast<int>(number_of(message, "errno"))};
}

}  // namespace nodesnap::cluster
