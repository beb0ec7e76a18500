// ServedObjects: the large objects that a client writes and reads, on a ring and thread of their own, so that many operations are on their
// way at once while the connection's receiver goes on.
//
// All functions may be called from any thread; what is asked is done in the order in which it was asked, as far as it is about one object.
// `answer` and `fail` are called on this thread. Bounds: kObjects open at once, kReads waiting; more is an Error of the caller.
#pragma once

#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>

#include "io/remote/payload_buffers.h"
#include "io/remote/signal.h"
#include "io/ring.h"
#include "io/semaphore.h"
#include "io/target/target.h"
#include "platform/error.h"

namespace nodesnap::remote {

struct ReadState;

class ServedObjects {
public:
    // What becomes of a request.
    struct Answers {
        std::function<void(std::uint64_t request, Bytes payload)> answer;
        std::function<void(std::uint64_t request, const Error& error)> fail;
        // A piece of what is read; `sent` is called when its bytes may go.
        std::function<void(std::uint64_t request, std::uint64_t offset, std::span<const std::byte> data, std::function<void()> sent)> data;
        std::function<void(std::uint64_t bytes)> stored;  // of what was written, whatever became of it
    };

    ServedObjects(std::shared_ptr<Target> target, Answers answers, bool use_io_uring);
    ~ServedObjects();  // waits for what is being done; what isn't finished leaves nothing

    void begin(std::uint64_t request, std::string name, std::string staging_id);
    void write(std::uint64_t request, PayloadBuffers::Buffer data, std::uint64_t offset);
    void finish(std::uint64_t request, std::uint64_t length);
    void drop(std::uint64_t request);  // is answered when nothing is left of it
    void open(std::uint64_t request, std::string name, std::uint64_t tail);
    void read(std::uint64_t request, std::uint64_t opened, std::uint64_t offset, std::uint64_t length);
    void close(std::uint64_t opened);

private:
    static constexpr std::size_t kObjects = 1024;
    static constexpr std::size_t kReads = 4096;
    static constexpr std::uint64_t kReadBuffers = 16;  // of kPiece

    struct Written {
        std::unique_ptr<ObjectWriter> writer;
        std::uint64_t length = 0;      // that has come
        std::size_t on_their_way = 0;  // writes
        bool failed = false;           // and said so
        bool finishing = false;
        bool dropping = false;
        std::uint64_t finish_length = 0;
    };

    void post(std::function<void()> work);
    void run();
    Task<void> take_work();
    Task<void> write_one(std::uint64_t request, std::shared_ptr<Written> object, PayloadBuffers::Buffer data, std::uint64_t offset);
    Task<void> finish_one(std::uint64_t request, std::shared_ptr<Written> object);
    Task<void> read_range(std::uint64_t request, std::shared_ptr<ObjectReader> reader, std::uint64_t offset, std::uint64_t length);
    Task<void> read_piece(std::uint64_t request, ObjectReader& reader, std::uint64_t from, std::uint64_t offset, std::size_t length,
                          AsyncSemaphore::Hold hold, ReadState& state);
    void fail(std::uint64_t request, Written& object, const Error& error);
    void end_if_due(std::uint64_t request, const std::shared_ptr<Written>& object);

    const std::shared_ptr<Target> target_;
    const Answers answers_;
    const bool use_io_uring_;

    std::mutex mutex_;
    std::deque<std::function<void()>> work_;
    std::unique_ptr<Signal> wake_;
    bool waiting_ = false;
    bool ending_ = false;

    // Of the thread alone.
    std::unique_ptr<Ring> ring_;
    std::unique_ptr<AsyncSemaphore> read_buffers_;
    PayloadBuffers buffers_;
    std::map<std::uint64_t, std::shared_ptr<Written>> written_;
    std::map<std::uint64_t, std::shared_ptr<ObjectReader>> opened_;
    std::size_t reads_ = 0;
    std::map<std::uint64_t, AsyncSemaphore::Hold> sent_;  // of pieces whose bytes aren't on their way yet
    std::uint64_t last_sent_ = 0;
    std::thread thread_;
};

}  // namespace nodesnap::remote
