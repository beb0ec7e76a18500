// ClusterLink: one end of the conversation between a coordinator and the agent of one node: JSON messages in the frames of io/remote.
//
// What the coordinator says has a member "do", what the agent says a member "is". A "ping" is answered at once, by the receiving thread,
// with the agent's monotonic clock: so the two clocks can be compared, and that the other side lives is known while it is busy.
//
// say() may be called from any thread; the listener is called on the receiving one. Memory: what is queued to be sent, a few KiB.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>

#include "io/remote/channel.h"
#include "platform/error.h"

namespace nodesnap::cluster {

using Json = nlohmann::ordered_json;

class ClusterLink : private remote::FrameChannel::Receiver {
public:
    struct Listener {
        std::function<void(const Json& message, std::int64_t at_ns)> heard;  // at that instant of the monotonic clock
        std::function<void(const std::string& why)> ended;                   // the last; `why` is empty if the other side closed it
    };

    ClusterLink(FileDescriptor in, FileDescriptor out, Listener listener);
    ~ClusterLink() override;
    ClusterLink(const ClusterLink&) = delete;
    ClusterLink& operator=(const ClusterLink&) = delete;

    void say(const Json& message);
    std::int64_t last_heard_ns() const { return last_heard_ns_; }  // monotonic
    bool ended() const { return ended_; }
    void close_saying() { channel_->close_sending(); }  // what was said is still sent
    void stop() noexcept { channel_->stop(); }

private:
    std::span<std::byte> place_for(const remote::FrameHeader& header) override;
    void received(const remote::FrameHeader& header, std::span<std::byte> payload) override;
    void ended(const std::string& why) noexcept override;

    const Listener listener_;
    Bytes payload_;
    std::atomic<std::int64_t> last_heard_ns_;
    std::atomic<bool> ended_{false};
    std::unique_ptr<remote::FrameChannel> channel_;  // the last: its threads use the others
};

// A text of a message; Error::failed if it isn't there, or is something else.
std::string text_of(const Json& message, const char* key);
std::int64_t number_of(const Json& message, const char* key);
bool flag_of(const Json& message, const char* key);
Json error_message(const Error& error);  // {"is": "failed", ...}
// What the agent `node` has said with it.
Error error_of(const Json& message, const std::string& node);

}  // namespace nodesnap::cluster
