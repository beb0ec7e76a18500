// PackStream: one worker's way of data into packs. Room is reserved in a write buffer, the read from the snapshot lands there, and the
// buffer is written from where it is: file data is never copied in user space.
//
// A worker's packs follow one another: a pack that has reached its size is sealed (tail, fsync, visible) in the background while the
// next one fills. All functions are for the ring's thread. Buffers are written strictly in the order in which their room was reserved.
// Memory: the pool's buffers, and the indexes and logs of the packs that are open (at most three, of 4 MiB each).
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "io/buffer_pool.h"
#include "io/checksum.h"
#include "io/ring.h"
#include "io/semaphore.h"
#include "io/target/target.h"
#include "io/throttle.h"
#include "snapshot/repository/pack.h"
#include "snapshot/repository/pack_codec.h"
#include "snapshot/repository/pack_log.h"

namespace nodesnap {

struct LogTurn;
struct OpenPack;
struct WriteBuffer;

class PackStream {
public:
    struct Environment {
        Ring& ring;
        BufferPool& buffers;
        Target& target;
        Uuid repository;
        const Hasher& hasher;
        Throttle& write_throttle;
        std::uint64_t pack_bytes;              // where a pack is closed
        std::function<PackId()> next_pack_id;  // any thread
        std::function<void()> still_ours;      // throws when the repository was taken over; any thread
        // Called before each log is stored; any thread. None: no logs.
        std::function<void()> before_log = {};
        std::function<std::chrono::nanoseconds()> checkpoint_interval = {};  // how long a pack with a log may stay open; any thread
    };

    explicit PackStream(Environment environment);
    ~PackStream();

    // Room for one segment. fill `room` (its first `length` bytes, the caller may write up to the end of `room`), then call filled().
    class Reservation {
    public:
        std::span<std::byte> room;  // rounded up to kPackAlignment, aligned for O_DIRECT
        std::uint32_t length = 0;
        PackId pack;
        std::uint32_t number = 0;

    private:
        friend class PackStream;
        std::shared_ptr<OpenPack> owner_;
        WriteBuffer* buffer_ = nullptr;
    };
    Task<Reservation> reserve(std::uint32_t length);
    // Computes the segment's checksums, and lets the buffer be written when it was the last one awaited.
    void filled(Reservation reservation);

    // What is complete now: all records of a file, or part of a large one. What they refer to must have been stored by this stream, or by
    // an earlier backup. It goes into the log of the pack that holds the last of it (`last`) while that is to be written, else into the
    // open pack's.
    struct LogRecord {
        std::string key;
        Bytes value;
    };
    void log_file(std::span<const LogRecord> records, const PackId& last = {});
    void log_run(std::uint64_t ino, const Run& run);

    // Writes what is left and seals the last pack, without a log; all sealed packs are durable when it is done.
    Task<void> finish();

    std::vector<PackId> sealed_packs() const { return sealed_; }
    std::uint64_t stored_bytes() const { return stored_bytes_; }

private:
    bool fits(std::uint32_t rounded) const;
    void open_pack();
    void close_buffer(const std::shared_ptr<OpenPack>& pack);
    Task<void> write_ready(std::shared_ptr<OpenPack> pack);
    Task<void> write_one(std::shared_ptr<OpenPack> pack, std::unique_ptr<WriteBuffer> buffer);
    void close_pack();
    bool due() const;
    PackLog& log_of(const PackId& pack);
    Task<void> seal(std::shared_ptr<OpenPack> pack, AsyncSemaphore::Hold slot);
    Task<void> write_tail(OpenPack& pack);
    Task<void> write_log(OpenPack& pack);

    Environment env_;
    AsyncSemaphore reserving_;  // one coroutine at a time replaces the current buffer
    std::shared_ptr<OpenPack> current_;
    std::vector<std::shared_ptr<OpenPack>> unlogged_;  // closed ones that will have a log; what was on its way to them may still come
    Compressor compressor_;
    PackLog early_log_;              // complete while no pack was open
    std::shared_ptr<LogTurn> last_;  // of the pack that was closed last
    AsyncSemaphore seals_;           // bounds the packs that are being sealed beside the open one
    std::vector<PackId> sealed_;
    std::uint64_t stored_bytes_ = 0;
};

}  // namespace nodesnap
