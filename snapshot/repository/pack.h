// Packs: immutable objects that hold numbered segments. See docs/format.md, "Packs".
//
// PackIndex is what a footer says; pack_tail makes the bytes that end a pack; PackReader opens one and proves its footers before it
// believes them. Data packs are written by the drain, metadata packs by NodeWriter.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "io/checksum.h"
#include "io/target/target.h"
#include "snapshot/repository/ids.h"
#include "snapshot/repository/layout.h"

namespace nodesnap {

inline constexpr std::uint64_t kPackAlignment = 4096;
inline constexpr std::uint32_t kSegmentLimit = 1U << 20;    // plain bytes of one segment
inline constexpr std::uint32_t kChecksumBlock = 64U << 10;  // plain bytes that one checksum covers
inline constexpr std::uint32_t kSegmentsPerPackLimit = 65536;
inline constexpr std::uint32_t kBlocksPerPackLimit = 262144;   // checksums of blocks, 4 MiB of them
inline constexpr std::size_t kFooterLimit = 8U << 20;          // bytes of a footer's inner part, before compression
inline constexpr std::uint64_t kNodeAlignment = 8;             // of segments in metadata packs
inline constexpr std::uint64_t kDataPackBytes = 128ULL << 20;  // where a data pack is closed

enum class Codec : std::uint8_t { kNone = 0, kZstd = 1 };

// What was found damaged, though it may have been made good from another copy.
struct Damage {
    std::string object;   // name of the object in the repository
    std::string what;     // "footer, first copy: checksum mismatch"
    bool healed = false;  // another copy served: nothing is lost yet, `repair` restores the redundancy
};
using DamageSink = std::function<void(const Damage&)>;

struct Segment {
    std::uint64_t offset = 0;         // in the object
    std::uint64_t second_offset = 0;  // of the second copy; 0 if there is none
    std::uint32_t stored_length = 0;
    std::uint32_t plain_length = 0;
    Codec codec = Codec::kNone;
    bool operator==(const Segment&) const = default;
};

// The segments of one pack. Grows while a pack is written: by one thread. Offsets must ascend without overlap, and lengths be within the
// limits.
class PackIndex {
public:
    PackIndex(layout::PackKind kind, PackId id, std::uint32_t generation) : kind_(kind), id_(id), generation_(generation) {}

    // Returns the segment's number. `blocks` are the seeded checksums of its plaintext's 64 KiB blocks; `stored` that of its stored bytes,
    // if encoded. Segment{} takes a number that was dropped.
    std::uint32_t add(const Segment& segment, std::span<const Checksum> blocks, const Checksum& stored = {});
    // For a writer that numbers segments before their bytes have arrived: reserves a number, the checksums follow.
    std::uint32_t reserve(const Segment& segment);
    void set_blocks(std::uint32_t number, std::span<const Checksum> blocks);
    void set_second_offset(std::uint32_t number, std::uint64_t offset);
    // The number stays taken, but nothing is stored under it: its bytes never arrived, or a compaction left them out.
    void drop(std::uint32_t number);

    layout::PackKind kind() const { return kind_; }
    const PackId& id() const { return id_; }
    std::uint32_t generation() const { return generation_; }
    std::uint32_t size() const { return static_cast<std::uint32_t>(plain_lengths_.size()); }
    // `number` must be below size(). A plain length of 0 means that it was dropped.
    Segment segment(std::uint32_t number) const;
    std::span<const Checksum> blocks(std::uint32_t number) const;
    const Checksum& stored_checksum(std::uint32_t number) const;
    std::size_t memory_bytes() const;

private:
    friend class PackFooter;
    layout::PackKind kind_;
    PackId id_;
    std::uint32_t generation_;
    void append(const Segment& segment, std::uint32_t first_block);
    void fit();
    std::uint32_t first_block(std::uint32_t number) const { return first_blocks_.empty() ? number : first_blocks_[number]; }

    // A list each, since hundreds of indexes may have to be at hand, of packs of pages with nothing but an offset, a length and a checksum.
    std::vector<std::uint64_t> offsets_;
    std::vector<std::uint32_t> plain_lengths_;
    std::vector<std::uint32_t> stored_lengths_;  // empty while they are the plain ones
    std::vector<std::uint64_t> second_offsets_;  // empty while there are none
    std::vector<Codec> codecs_;                  // empty while no segment is encoded
    std::vector<Checksum> stored_;               // the same
    std::vector<std::uint32_t> first_blocks_;    // empty while each segment has one block
    std::vector<Checksum> blocks_;
    std::uint64_t end_ = kPackAlignment;
};

// Checksums that the plaintext of a segment has.
constexpr std::uint32_t block_count(std::uint32_t plain_length) {
    return (plain_length + kChecksumBlock - 1) / kChecksumBlock;
}

// The first 4096 bytes of a pack.
Bytes pack_head(const Uuid& repository, layout::PackKind kind, const PackId& id, std::uint32_t generation);
// All that follows the segments, which end at `data_end` (any value): padding up to 4096, both footers, both trailers.
Bytes pack_tail(const Uuid& repository, const PackIndex& index, std::uint64_t data_end);

// An open pack with its index. Used from several threads at once.
class PackReader {
public:
    // Finds the highest generation whose footers are valid (0, then upwards; by listing when 0 is gone); throws Error::damaged, naming
    // object and remedy, if there is none. Damage of one copy goes to `sink`. `check_all_copies` reads head, both trailers and both
    // footers, and reports each part that isn't as it should be. A pack of a newer version's format is an Error::refused.
    static std::shared_ptr<const PackReader> open(Target& target, const Uuid& repository, layout::PackKind kind, const PackId& id,
                                                  const DamageSink& sink, bool check_all_copies = false);
    // Exactly this generation, all copies checked. nullptr if there is no such object; Error::damaged if no copy of its footer is good.
    static std::shared_ptr<const PackReader> open_generation(Target& target, const Uuid& repository, const layout::PackName& name,
                                                             const DamageSink& sink);
    ~PackReader();

    const PackIndex& index() const { return index_; }
    const std::string& object() const { return object_; }
    // For a caller that reads the pack with one thread (or with a target whose readers allow more).
    ObjectReader& reader() const { return *reader_; }
    // Reads stored bytes; any thread, one at a time.
    void read_stored(std::span<std::byte> into, std::uint64_t offset) const;
    std::uint64_t stored_bytes() const;
    // Says whether a program that doesn't know all of the pack's features may rewrite or remove it.
    bool may_rewrite() const { return may_rewrite_; }

private:
    friend class PackOpener;
    PackReader(std::string object, std::unique_ptr<ObjectReader> reader, PackIndex index);
    std::string object_;
    std::unique_ptr<ObjectReader> reader_;
    PackIndex index_;
    bool may_rewrite_ = true;
    mutable std::mutex mutex_;
};

// Open packs of one repository, least recently used ones closed when there are too many, by their indexes' memory or by their number; more
// are open while callers hold them. Thread-safe.
class PackCache {
public:
    struct Limits {
        std::size_t index_bytes = 32U << 20;
        std::size_t packs = 0;  // 0: an eighth of the descriptors that this process may open, at most 1024
    };
    PackCache(Target& target, const Uuid& repository, DamageSink sink) : PackCache(target, repository, std::move(sink), Limits()) {}
    PackCache(Target& target, const Uuid& repository, DamageSink sink, const Limits& limits);
    ~PackCache();
    std::shared_ptr<const PackReader> get(layout::PackKind kind, const PackId& id);
    // Opens it anew: for a reader that finds that the generation it has open is gone.
    std::shared_ptr<const PackReader> reopen(layout::PackKind kind, const PackId& id);

private:
    struct Impl;
    std::unique_ptr<Impl> impl_;
};

}  // namespace nodesnap
