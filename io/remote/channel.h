// FrameChannel: frames in both directions over a pair of descriptors, each direction with a thread of its own: whatever one end does, the
// other's receiver reads, so that the two never wait for each other.
//
// It notices a peer that is gone: both ends say something at least every 10 s, and who hears nothing for `silence_limit` ends, sooner
// once this process was interrupted. The time doesn't run while it is stopped.
//
// send() may be called from any thread. The Receiver is called on the channel's receiving thread, except for sent callbacks, which the
// sending thread calls. Memory: what is queued to be sent, which who sends has to bound.
#pragma once

#include <chrono>
#include <condition_variable>
#include <deque>
#include <exception>
#include <functional>
#include <mutex>
#include <span>
#include <string>
#include <thread>

#include "io/remote/frame.h"
#include "io/target/target.h"
#include "platform/file_descriptor.h"

namespace nodesnap::remote {

class FrameChannel {
public:
    class Receiver {
    public:
        virtual ~Receiver() = default;
        // Where the frame's payload belongs: exactly header.length bytes that stay until received() is called. What is thrown ends the
        // connection.
        virtual std::span<std::byte> place_for(const FrameHeader& header) = 0;
        // The frame is whole, and its checksum fits.
        virtual void received(const FrameHeader& header, std::span<std::byte> payload) = 0;
        // The last call: no frame comes any more, and none will be sent. `why` is empty if the peer has closed its side between two
        // frames.
        virtual void ended(const std::string& why) noexcept = 0;
    };

    static constexpr std::chrono::seconds kSilenceLimit{60};

    // Both descriptors may be the same socket's. They are made non-blocking.
    FrameChannel(FileDescriptor in, FileDescriptor out, Receiver& receiver, std::chrono::seconds silence_limit = kSilenceLimit);
    FrameChannel(const FrameChannel&) = delete;
    FrameChannel& operator=(const FrameChannel&) = delete;
    ~FrameChannel();  // stop()

    void start();
    void send(FrameHeader header, Bytes payload = {});
    // `payload` must stay until `sent` is called: when its bytes are on the way, or never will be.
    void send(FrameHeader header, std::span<const std::byte> payload, std::function<void()> sent);
    std::size_t queued_bytes() const;
    void wait_queued_below(std::size_t bytes) const;  // or until it has ended
    // What is queued is sent, and then this side closed. The other may still send.
    void close_sending();
    // Ends both directions now, and waits for the threads. Receiver::ended() has been called when it returns. Not from its callbacks.
    void stop() noexcept;

private:
    struct Entry {
        FrameHeader header;
        Bytes owned;
        std::span<const std::byte> payload;
        std::function<void()> sent;
    };
    class Input;

    void receive_all();
    void receive_frames(Input& input);
    void send_all();
    bool next_entry(Entry& entry);
    std::exception_ptr try_send(const Entry& entry) noexcept;
    void send_entry(const Entry& entry);
    void drop_queue();
    void tell_peer(const std::string& why);
    void end_waiting() noexcept;
    void write_all(std::span<const std::byte> header, std::span<const std::byte> payload);
    bool wait_for(int fd, short events, std::chrono::seconds& quiet) const;
    void end_sending(const std::string& why) noexcept;

    const FileDescriptor in_;
    FileDescriptor out_;
    FileDescriptor stop_;  // readable when all is to end
    Receiver& receiver_;
    const std::chrono::seconds silence_limit_;
    std::thread receiving_;
    std::thread sending_;

    mutable std::mutex mutex_;
    mutable std::condition_variable changed_;
    std::deque<Entry> queue_;
    std::size_t queued_bytes_ = 0;
    bool closing_ = false;  // after the queue
    bool broken_ = false;   // nothing is sent any more
    bool ended_ = false;    // nothing of what was queued is touched any more
    std::string send_error_;
    std::uint64_t sent_frames_ = 0;  // of the sending thread
};

}  // namespace nodesnap::remote
