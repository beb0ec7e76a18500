#include "snapshot/verify/repair_pack.h"

#include <algorithm>
#include <cstring>

#include "platform/error.h"
#include "platform/fault.h"
#include "platform/interrupt.h"
#include "snapshot/repository/pack_codec.h"
#include "snapshot/repository/pack_salvage.h"

namespace nodesnap {
namespace {

constexpr std::size_t kBufferBytes = 1U << 20;

// Writes an object from its beginning to its end, through a buffer that starts at multiples of 4096.
class SequentialWriter {
public:
    SequentialWriter(Ring& ring, ObjectWriter& object)
        : ring_(ring), object_(object), buffer_(static_cast<std::byte*>(::operator new (kBufferBytes, std::align_val_t{kPackAlignment}))) {}
    SequentialWriter(const SequentialWriter&) = delete;
    SequentialWriter& operator=(const SequentialWriter&) = delete;
    ~SequentialWriter() { ::operator delete (buffer_, std::align_val_t{kPackAlignment}); }

    std::uint64_t offset() const { return written_ + filled_; }

    void append(std::span<const std::byte> bytes) {
        while (!bytes.empty()) {
            const std::size_t part = std::min(bytes.size(), kBufferBytes - filled_);
            std::memcpy(buffer_ + filled_, bytes.data(), part);
            filled_ += part;
            bytes = bytes.subspan(part);
            if (filled_ == kBufferBytes) {
                flush();
            }
        }
    }

    // Zeros up to `offset`.
    void pad_to(std::uint64_t offset) {
        static constexpr std::byte kZeros[4096]{};
        while (this->offset() < offset) {
            append(std::span(kZeros).first(std::min<std::uint64_t>(sizeof(kZeros), offset - this->offset())));
        }
    }

    void finish() {
        flush();
        ring_.wait(object_.finish(ring_));
    }

private:
    void flush() {
        if (filled_ != 0) {
            ring_.wait(object_.write(ring_, std::span<const std::byte>(buffer_, filled_), written_));
            written_ += filled_;
            filled_ = 0;
        }
    }

    Ring& ring_;
    ObjectWriter& object_;
    std::byte* buffer_;
    std::size_t filled_ = 0;
    std::uint64_t written_ = 0;
};

Ring::Options blocking() {
    Ring::Options options;
    options.entries = 8;
    options.force_blocking = true;
    return options;
}

// The same segments, as another generation.
PackIndex index_of_generation(const PackIndex& index, std::uint32_t generation) {
    PackIndex copy(index.kind(), index.id(), generation);
    for (std::uint32_t number = 0; number < index.size(); ++number) {
        const Segment& segment = index.segment(number);
        const bool encoded = segment.codec != Codec::kNone;
        copy.add(segment, index.blocks(number), encoded ? index.stored_checksum(number) : Checksum{});
    }
    return copy;
}

}  // namespace

void add_repaired(RepairResult& result, std::string object) {
    ++result.repaired_count;
    if (result.repaired.size() < Report::kKept) {
        result.repaired.push_back(std::move(object));
    }
}

void add_lost(RepairResult& result, Damage damage) {
    ++result.lost_count;
    if (result.lost.size() < Report::kKept) {
        result.lost.push_back(std::move(damage));
    }
}

PackRepair::PackRepair(const Repository& repository, const Lease& lease, Progress& progress)
    : repository_(repository), target_(repository.target()), lease_(lease), progress_(progress), ring_(blocking()) {}

void PackRepair::repair(layout::PackKind kind, const PackId& id, const std::vector<std::uint32_t>& generations, RepairResult& result) {
    const Opened opened = open(kind, id);
    if (opened.pack == nullptr) {
        for (const Damage& damage : opened.damages) {
            add_lost(result, damage);
        }
        return;
    }
    const PackReader& pack = *opened.pack;
    const bool nodes = kind == layout::PackKind::kNodes;
    const Segments segments = nodes ? check_segments(pack) : Segments{};
    for (const std::uint32_t number : segments.lost) {
        add_lost(result, {pack.object(), "node " + std::to_string(number) + ": no copy is good", false});
    }
    std::uint32_t kept = pack.index().generation();
    if (!opened.damages.empty() || segments.one_copy != 0) {
        if (!pack.may_rewrite()) {
            add_lost(result, {pack.object(), "a newer version of nodesnap must repair it", true});
            return;
        }
        kept = std::max(kept, *std::max_element(generations.begin(), generations.end())) + 1;
        rewrite(pack, kept);
        add_repaired(result, pack.object());
    }
    remove_others(kind, id, generations, kept);
}

PackRepair::Opened PackRepair::open(layout::PackKind kind, const PackId& id) const {
    Opened opened;
    const DamageSink sink = [&](const Damage& damage) { opened.damages.push_back(damage); };
    try {
        opened.pack = PackReader::open(target_, repository_.info().uuid, kind, id, sink, true);
    } catch (const Error& error) {
        if (error.status() != ExitStatus::kDamaged && !is_media_error(error.error_number())) {
            throw;
        }
        if (opened.damages.empty()) {
            opened.damages.push_back({layout::pack({kind, id, 0}), error.message(), false});
        }
    }
    return opened;
}

// The stored bytes of one copy; what the device can't give is zero.
std::span<const std::byte> PackRepair::read_copy(const PackReader& pack, std::uint32_t number, int copy) {
    const Segment& segment = pack.index().segment(number);
    buffer_.resize(segment.stored_length);
    salvaging_read(pack.reader(), buffer_, copy == 0 ? segment.offset : segment.second_offset);
    return buffer_;
}

bool PackRepair::good(const PackIndex& index, std::uint32_t number, std::span<const std::byte> stored) const {
    const Hasher& hasher = repository_.hasher();
    if (index.segment(number).codec != Codec::kNone) {
        return hasher(stored) == index.stored_checksum(number);
    }
    const auto blocks = index.blocks(number);
    for (std::size_t i = 0; i < blocks.size(); ++i) {
        const std::size_t at = i * kChecksumBlock;
        if (hasher(stored.subspan(at, std::min<std::size_t>(kChecksumBlock, stored.size() - at))) != blocks[i]) {
            return false;
        }
    }
    return true;
}

PackRepair::Segments PackRepair::check_segments(const PackReader& pack) {
    Segments segments;
    const PackIndex& index = pack.index();
    for (std::uint32_t number = 0; number < index.size(); ++number) {
        if (index.segment(number).plain_length == 0) {
            continue;
        }
        throw_if_interrupted();
        const bool first = good(index, number, read_copy(pack, number, 0));
        const bool second = good(index, number, read_copy(pack, number, 1));
        progress_.bytes_done.fetch_add(2 * std::uint64_t{index.segment(number).stored_length}, std::memory_order_relaxed);
        segments.one_copy += first != second ? 1 : 0;
        if (!first && !second) {
            segments.lost.push_back(number);
        }
    }
    return segments;
}

// Segments keep their numbers and places. Where no copy is good the bytes are kept as they are: they go on being seen as damaged.
void PackRepair::rewrite(const PackReader& pack, std::uint32_t generation) {
    const PackIndex& index = pack.index();
    const layout::PackName name{index.kind(), index.id(), generation};
    const bool nodes = index.kind() == layout::PackKind::kNodes;
    target_.abandon(index.id().hex());  // what an interrupted repair left
    const auto object = target_.begin(layout::pack(name), index.id().hex());
    SequentialWriter writer(ring_, *object);
    writer.append(pack_head(repository_.info().uuid, index.kind(), index.id(), generation));
    for (int copy = 0; copy < (nodes ? 2 : 1); ++copy) {
        for (std::uint32_t number = 0; number < index.size(); ++number) {
            const Segment& segment = index.segment(number);
            if (segment.stored_length == 0) {
                continue;
            }
            throw_if_interrupted();
            auto stored = read_copy(pack, number, copy);
            if (nodes && !good(index, number, stored)) {
                stored = read_copy(pack, number, 1 - copy);
            }
            writer.pad_to(copy == 0 ? segment.offset : segment.second_offset);
            writer.append(stored);
            progress_.bytes_done.fetch_add(stored.size(), std::memory_order_relaxed);
        }
    }
    const std::uint64_t end = writer.offset();
    writer.append(pack_tail(repository_.info().uuid, index_of_generation(index, generation), end));
    lease_.check();
    writer.finish();
    const Opened written = open(index.kind(), index.id());
    if (written.pack == nullptr || written.pack->index().generation() != generation) {
        throw Error::failed("the repaired pack " + target_.describe(layout::pack(name)) + " can't be read back",
                            "the damaged one was kept; check the repository's storage");
    }
    fault::step("repair.written");
}

void PackRepair::remove_others(layout::PackKind kind, const PackId& id, const std::vector<std::uint32_t>& generations, std::uint32_t kept) {
    for (const std::uint32_t generation : generations) {
        if (generation != kept) {
            lease_.check();
            target_.remove(layout::pack({kind, id, generation}));
            fault::step("repair.removed");
        }
    }
}

}  // namespace nodesnap
