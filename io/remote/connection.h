// RemoteConnection: the client's end of one connection to a `nodesnap serve`: requests, and their answers in any order.
//
// Any thread. What is asked waits for its answer by a Signal, on a ring or blocking. When the connection ends all that waits fails, and so
// does all that is asked afterwards, with an Error that says how it ended: there is no second try, since what was asked may have been done.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>

#include "io/remote/channel.h"
#include "io/remote/message.h"
#include "io/remote/signal.h"

namespace nodesnap::remote {

// The way to the other side: ssh, or whatever gives a stream in both directions.
class Transport {
public:
    virtual ~Transport() = default;
    virtual FileDescriptor take_in() = 0;
    virtual FileDescriptor take_out() = 0;
    virtual void greeted() {}                  // the other side is there: nobody has to be asked for anything any more
    virtual std::string describe() const = 0;  // "backup@host2"
    // When nothing more comes: what it said last, and how it ended; empty if there is nothing to be said. Waits a moment for its end.
    virtual std::string last_words() = 0;
};

// The two ends have greeted each other. Error::failed, with what ssh has said, if the other doesn't, or not in that time (0: any).
struct Streams {
    FileDescriptor in, out;
};
Streams greeted_streams(Transport& transport, std::chrono::seconds at_most = std::chrono::seconds(0));

// What the other side says of itself.
struct Greeting {
    std::string place;  // the repository, as it calls it
    bool read_only = false;
    bool runs_commands = false;
    std::string host, version, machine_id;
    std::int64_t time_ns = 0;             // its clock's, when it answered
    std::string directory;                // where the objects are there, if they are in one
    std::uint64_t device = 0, inode = 0;  // of it
};

class RemoteConnection : private FrameChannel::Receiver {
public:
    // Greets, and is greeted; `make` the place if it isn't there. `session`: the same number for all connections of one client.
    RemoteConnection(std::unique_ptr<Transport> transport, std::uint64_t session, bool make);
    ~RemoteConnection() override;

    const Greeting& greeting() const { return greeting_; }
    std::string host() const { return transport_->describe(); }
    std::size_t queued_bytes() const { return channel_->queued_bytes(); }

    // The answer's payload, of at most `limit` bytes. `request` gets the number under which it was asked.
    Bytes call(FrameKind kind, Bytes payload, std::uint64_t number = 0, std::size_t limit = kMaxPayload, std::uint64_t* request = nullptr);
    Bytes call(FrameKind kind, std::uint64_t request);  // about what `request` has begun
    Task<Bytes> call(Ring& ring, FrameKind kind, std::uint64_t request, Bytes payload, std::uint64_t number);
    // What is too large for one frame goes before in pieces; one at a time.
    Bytes call_large(FrameKind kind, Bytes payload, std::span<const std::byte> content);
    // Each part of the answer; the server sends a few, and the next ones as `each` returns.
    void call_in_parts(FrameKind kind, Bytes payload, const std::function<void(std::span<const std::byte>)>& each,
                       std::uint64_t number = 0);

    std::uint64_t new_request();
    void tell(FrameKind kind, std::uint64_t request, Bytes payload = {}, std::uint64_t number = 0);  // what has no answer
    // Data of a large object that `request` has begun: it completes when the bytes are on their way.
    Task<void> write(Ring& ring, std::uint64_t request, std::span<const std::byte> data, std::uint64_t offset);
    void begin(std::uint64_t request, Bytes payload);
    // Throws what the server has said of it since it was begun, if anything.
    void check(std::uint64_t request);
    void forget(std::uint64_t request);  // nothing is to be remembered of it any more
    // Fills `into` with what of the object that `opened` stands for begins at `offset`.
    Task<void> read(Ring& ring, std::uint64_t opened, std::span<std::byte> into, std::uint64_t offset);
    void read(std::uint64_t opened, std::span<std::byte> into, std::uint64_t offset);

private:
    // What waits for an answer.
    struct Pending {
        Signal done;
        std::optional<Error> error;
        Bytes answer;
        std::size_t limit = 0;      // of the answer
        std::span<std::byte> into;  // in place of it
        bool has_place = false;
        std::size_t received = 0;
        bool in_parts = false;
        std::deque<Bytes> parts;
        bool complete = false;
        std::condition_variable changed;  // of parts
    };
    struct WaitingWrite {
        std::uint64_t request;
        std::span<const std::byte> data;
        std::uint64_t offset;
        Signal* sent;
    };

    void greet(std::uint64_t session, bool make);
    std::span<std::byte> place_for(const FrameHeader& header) override;
    void received(const FrameHeader& header, std::span<std::byte> payload) override;
    void ended(const std::string& why) noexcept override;

    std::shared_ptr<Pending> expect(std::uint64_t request, std::size_t limit);
    std::shared_ptr<Pending> ask_read(std::uint64_t opened, std::span<std::byte> into, std::uint64_t offset);
    static Bytes result_of(Pending& pending);
    void finish(const FrameHeader& header, Pending& pending, std::span<std::byte> payload);
    void send_waiting_writes();
    [[nodiscard]] Error end_error() const;

    const std::unique_ptr<Transport> transport_;
    Greeting greeting_;

    mutable std::mutex mutex_;
    std::uint64_t last_request_ = 0;
    std::map<std::uint64_t, std::shared_ptr<Pending>> pending_;
    std::map<std::uint64_t, std::optional<Error>> begun_;  // large objects, and what has gone wrong with them
    std::deque<WaitingWrite> writes_;
    std::uint64_t credit_ = 0;
    bool ended_ = false;
    std::string why_ended_;
    Bytes scratch_;                          // for what nobody wants any more
    std::mutex large_;                       // call_large()
    std::unique_ptr<FrameChannel> channel_;  // the last: its threads use the others
};

}  // namespace nodesnap::remote
