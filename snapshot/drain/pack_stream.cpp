#include "snapshot/drain/pack_stream.h"

#include <algorithm>
#include <cstring>

#include "io/target/paced_write.h"
#include "io/transfer.h"
#include "platform/clock.h"
#include "platform/error.h"
#include "platform/fault.h"

namespace nodesnap {
namespace {

constexpr std::size_t kSealsInFlight = 2;
constexpr std::size_t kLogBytes = 4U << 20;  // a pack whose log has so many is closed

std::uint32_t round_up(std::uint32_t bytes) {
    constexpr auto kMask = static_cast<std::uint32_t>(kPackAlignment - 1);
    return (bytes + kMask) & ~kMask;
}

// Memory that O_DIRECT takes, outside of the pool: a tail must not wait for a buffer that only its own pack could free.
class AlignedBytes {
public:
    explicit AlignedBytes(std::span<const std::byte> content)
        : size_(content.size()), data_(static_cast<std::byte*>(::operator new (size_, std::align_val_t{kPackAlignment}))) {
        std::memcpy(data_, content.data(), size_);
    }
    AlignedBytes(const AlignedBytes&) = delete;
    AlignedBytes& operator=(const AlignedBytes&) = delete;
    ~AlignedBytes() { ::operator delete (data_, std::align_val_t{kPackAlignment}); }
    std::span<const std::byte> span() const { return {data_, size_}; }

private:
    std::size_t size_;
    std::byte* data_;
};

}  // namespace

// Part of a pack on its way: segments whose reads are still awaited, or which wait for their turn to be written.
struct WriteBuffer {
    Buffer memory;
    std::uint64_t offset = 0;  // in the pack
    std::uint32_t used = 0;
    std::uint32_t awaited = 0;  // reservations that aren't filled yet
    bool closed = false;        // no more room is reserved here
};

// The logs of a stream are stored in the order of their packs.
struct LogTurn {
    LogTurn(Ring& ring, const PackId& id) : pack(id), stored(ring) {}
    PackId pack;
    AsyncEvent stored;
};

struct OpenPack {
    OpenPack(Ring& ring, PackId id, std::unique_ptr<ObjectWriter> object)
        : index(layout::PackKind::kData, id, 0), writer(std::move(object)), drained(ring) {}
    PackIndex index;
    std::unique_ptr<ObjectWriter> writer;
    std::uint64_t end = kPackAlignment;              // what has been reserved, the head included
    std::deque<std::unique_ptr<WriteBuffer>> queue;  // in the order of their offsets; the last may be open
    bool head_written = false;
    bool writing_ready = false;  // write_ready() is at work
    std::size_t writes = 0;      // in flight
    AsyncEvent drained;          // no more buffers and writes; set when closed and empty
    bool closed = false;
    std::int64_t opened_ns = monotonic_ns();
    PackLog log;
    std::shared_ptr<LogTurn> turn;    // none: it gets no log
    std::shared_ptr<LogTurn> before;  // whose log has to be there first

    void signal_if_drained() {
        if (closed && queue.empty() && writes == 0 && !writing_ready) {
            drained.set();
        }
    }
};

PackStream::PackStream(Environment environment)
    : env_(std::move(environment)), reserving_(env_.ring, 1), seals_(env_.ring, kSealsInFlight) {}

PackStream::~PackStream() = default;

bool PackStream::fits(std::uint32_t rounded) const {
    if (!current_ || current_->queue.empty()) {
        return false;
    }
    const WriteBuffer& buffer = *current_->queue.back();
    return !buffer.closed && buffer.used + rounded <= buffer.memory.span().size() && current_->index.size() < kSegmentsPerPackLimit;
}

void PackStream::open_pack() {
    const PackId id = env_.next_pack_id();
    current_ = std::make_shared<OpenPack>(env_.ring, id, env_.target.begin(layout::pack({layout::PackKind::kData, id, 0}), id.hex()));
    current_->log = std::exchange(early_log_, {});
}

bool PackStream::due() const {
    return env_.before_log && current_ &&
           (current_->log.memory_bytes() >= kLogBytes ||
            std::chrono::nanoseconds(monotonic_ns() - current_->opened_ns) >= env_.checkpoint_interval());
}

void PackStream::close_pack() {
    if (env_.before_log) {
        unlogged_.push_back(current_);
        current_->turn = std::make_shared<LogTurn>(env_.ring, current_->index.id());
        current_->before = std::exchange(last_, current_->turn);
    }
}

Task<PackStream::Reservation> PackStream::reserve(std::uint32_t length) {
    const std::uint32_t rounded = round_up(length);
    const auto turn = co_await reserving_.acquire();
    if (!fits(rounded) || due()) {
        if (current_) {
            close_buffer(current_);
            const bool full = current_->end + rounded > env_.pack_bytes || current_->index.size() >= kSegmentsPerPackLimit;
            if (full || due()) {
                auto slot = co_await seals_.acquire();
                close_pack();
                env_.ring.spawn(seal(std::exchange(current_, nullptr), std::move(slot)));
            }
        }
        auto memory = co_await env_.buffers.acquire();
        if (!current_) {
            open_pack();
        }
        auto buffer = std::make_unique<WriteBuffer>();
        buffer->memory = std::move(memory);
        buffer->offset = current_->end;
        current_->queue.push_back(std::move(buffer));
    }
    WriteBuffer& buffer = *current_->queue.back();
    Reservation reservation;
    reservation.room = buffer.memory.span().subspan(buffer.used, rounded);
    reservation.length = length;
    reservation.pack = current_->index.id();
    reservation.number = current_->index.reserve(Segment{current_->end, 0, length, length, Codec::kNone});
    reservation.owner_ = current_;
    reservation.buffer_ = &buffer;
    buffer.used += rounded;
    current_->end += rounded;
    ++buffer.awaited;
    co_return reservation;
}

void PackStream::filled(Reservation reservation) {
    const auto plain = reservation.room.first(reservation.length);
    std::memset(reservation.room.data() + plain.size(), 0, reservation.room.size() - plain.size());
    Checksum blocks[kSegmentLimit / kChecksumBlock];
    std::size_t count = 0;
    for (std::size_t at = 0; at < plain.size(); at += kChecksumBlock) {
        blocks[count++] = env_.hasher(plain.subspan(at, std::min<std::size_t>(kChecksumBlock, plain.size() - at)));
    }
    reservation.owner_->index.set_blocks(reservation.number, {blocks, count});
    WriteBuffer& buffer = *reservation.buffer_;
    if (--buffer.awaited == 0 && buffer.closed) {
        env_.ring.spawn(write_ready(reservation.owner_));
    }
}

void PackStream::close_buffer(const std::shared_ptr<OpenPack>& pack) {
    if (pack->queue.empty() || pack->queue.back()->closed) {
        return;
    }
    pack->queue.back()->closed = true;
    if (pack->queue.back()->awaited == 0) {
        env_.ring.spawn(write_ready(pack));
    }
}

// Starts the writes of all buffers whose turn it is. One such coroutine per pack at a time: order is what the target relies on.
Task<void> PackStream::write_ready(std::shared_ptr<OpenPack> pack) {
    if (pack->writing_ready) {
        co_return;
    }
    pack->writing_ready = true;
    if (!pack->head_written) {
        pack->head_written = true;
        const AlignedBytes head(pack_head(env_.repository, layout::PackKind::kData, pack->index.id(), 0));
        co_await write_paced(env_.ring, *pack->writer, head.span(), 0, env_.write_throttle);
    }
    while (!pack->queue.empty() && pack->queue.front()->closed && pack->queue.front()->awaited == 0) {
        auto buffer = std::move(pack->queue.front());
        pack->queue.pop_front();
        if (env_.write_throttle.smooth_bytes() < buffer->used) {
            co_await write_paced(env_.ring, *pack->writer, buffer->memory.span().first(buffer->used), buffer->offset, env_.write_throttle);
            continue;
        }
        co_await pace(env_.ring, env_.write_throttle, buffer->used);
        ++pack->writes;
        env_.ring.spawn(write_one(pack, std::move(buffer)));
    }
    pack->writing_ready = false;
    pack->signal_if_drained();
}

Task<void> PackStream::write_one(std::shared_ptr<OpenPack> pack, std::unique_ptr<WriteBuffer> buffer) {
    co_await pack->writer->write(env_.ring, buffer->memory.span().first(buffer->used), buffer->offset);
    buffer.reset();
    --pack->writes;
    pack->signal_if_drained();
}

Task<void> PackStream::write_tail(OpenPack& pack) {
    const AlignedBytes tail(pack_tail(env_.repository, pack.index, pack.end));
    co_await write_paced(env_.ring, *pack.writer, tail.span(), pack.end, env_.write_throttle);
    stored_bytes_ += pack.end + tail.span().size();
}

Task<void> PackStream::seal(std::shared_ptr<OpenPack> pack, [[maybe_unused]] AsyncSemaphore::Hold slot) {
    pack->closed = true;
    pack->signal_if_drained();
    co_await pack->drained.wait();
    env_.still_ours();  // else the pack would become visible after its session was cleared up
    co_await write_tail(*pack);
    co_await pack->writer->finish(env_.ring);
    fault::step("drain.pack-sealed");
    sealed_.push_back(pack->index.id());
    if (pack->turn) {
        co_await write_log(*pack);
    }
}

Task<void> PackStream::write_log(OpenPack& pack) {
    std::optional<PackId> before;
    if (pack.before) {
        before = pack.before->pack;
        co_await pack.before->stored.wait();
    }
    env_.before_log();
    env_.still_ours();
    const PackId& id = pack.index.id();
    std::erase_if(unlogged_, [&](const auto& closed) { return closed.get() == &pack; });
    const AlignedBytes log(pack.log.encode(env_.repository, id, before, compressor_));
    pack.log = {};
    auto writer = env_.target.begin(layout::pack_log(id), id.hex() + "-log");
    co_await write_paced(env_.ring, *writer, log.span(), 0, env_.write_throttle);
    co_await writer->finish(env_.ring);
    fault::step("drain.pack-logged");
    pack.turn->stored.set();
}

PackLog& PackStream::log_of(const PackId& pack) {
    const auto closed = std::find_if(unlogged_.begin(), unlogged_.end(), [&](const auto& other) { return other->index.id() == pack; });
    if (closed != unlogged_.end()) {
        return (*closed)->log;
    }
    return current_ ? current_->log : early_log_;
}

void PackStream::log_file(std::span<const LogRecord> records, const PackId& last) {
    PackLog& log = log_of(last);
    if (!env_.before_log || log.memory_bytes() >= 2 * kLogBytes) {
        return;  // it will be read again
    }
    for (const LogRecord& record : records) {
        log.add(record.key, record.value, compressor_);
    }
}

void PackStream::log_run(std::uint64_t ino, const Run& run) {
    if (env_.before_log) {
        log_of(run.pack).add_run(ino, run, compressor_);
    }
}

Task<void> PackStream::finish() {
    if (current_) {
        close_buffer(current_);
        auto slot = co_await seals_.acquire();
        env_.ring.spawn(seal(std::exchange(current_, nullptr), std::move(slot)));
    }
    const auto all = co_await seals_.acquire(kSealsInFlight);
}

}  // namespace nodesnap
