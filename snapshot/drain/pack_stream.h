// PackStream: one worker's way of data into packs. Room is reserved in a write buffer, the read from the snapshot lands there, and the
// buffer is written from where it is: file data is never copied in user space.
//
// A worker's packs follow one another: a pack that has reached its size is sealed (tail, fsync, visible) in the background while the
// next one fills. All functions are for the ring's thread. Buffers are written strictly in the order in which their room was reserved.
// Memory: the pool's buffers, and the index of the packs that are open (at most three, 4 MiB each).
#pragma once

#include <atomic>
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

namespace nodesnap {

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

    // Writes what is left and seals the last pack; all sealed packs are durable when it is done.
    Task<void> finish();

    std::vector<PackId> sealed_packs() const { return sealed_; }
    std::uint64_t stored_bytes() const { return stored_bytes_; }

private:
    bool fits(std::uint32_t rounded) const;
    void open_pack();
    void close_buffer(const std::shared_ptr<OpenPack>& pack);
    Task<void> write_ready(std::shared_ptr<OpenPack> pack);
    Task<void> write_one(std::shared_ptr<OpenPack> pack, std::unique_ptr<WriteBuffer> buffer);
    Task<void> seal(std::shared_ptr<OpenPack> pack, AsyncSemaphore::Hold slot);
    Task<void> write_tail(OpenPack& pack);

    Environment env_;
    AsyncSemaphore reserving_;  // one coroutine at a time replaces the current buffer
    std::shared_ptr<OpenPack> current_;
    AsyncSemaphore seals_;  // bounds the packs that are being sealed beside the open one
    std::vector<PackId> sealed_;
    std::uint64_t stored_bytes_ = 0;
};

}  // namespace nodesnap
