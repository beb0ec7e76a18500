#include <algorithm>
#include <new>

#include "io/target/paced_write.h"
#include "platform/error.h"
#include "platform/fault.h"
#include "snapshot/repository/pack_codec.h"
#include "snapshot/repository/tree.h"

namespace nodesnap {
namespace {

constexpr std::size_t kPackBytes = 16U << 20;  // of one copy
constexpr std::size_t kSmallNode = 1024;       // isn't compressed: a pack is rounded up to whole blocks anyway

std::size_t round_up(std::size_t value, std::uint64_t unit) {
    return (value + unit - 1) / unit * unit;
}

// The pack that is being filled, as it will lie in the object: head, then nodes. Aligned, so that it can be written with O_DIRECT; pages
// that aren't filled are never touched.
class PackBuffer {
public:
    static constexpr std::size_t kCapacity = kPackAlignment + kPackBytes;
    PackBuffer() : bytes_(static_cast<std::byte*>(::operator new (kCapacity, std::align_val_t{kPackAlignment}))) {}
    ~PackBuffer() { ::operator delete (bytes_, std::align_val_t{kPackAlignment}); }
    PackBuffer(const PackBuffer&) = delete;
    PackBuffer& operator=(const PackBuffer&) = delete;

    std::span<std::byte> bytes() { return {bytes_, kCapacity}; }

private:
    std::byte* bytes_;
};

// By value or pointer only: the frame outlives the call.
Task<void> write_and_finish(Ring& ring, ObjectWriter* writer, Throttle* throttle, std::span<const std::byte> first,
                            std::span<const std::byte> second, std::span<const std::byte> tail) {
    co_await write_paced(ring, *writer, first, 0, *throttle);
    co_await write_paced(ring, *writer, second, first.size(), *throttle);
    co_await write_paced(ring, *writer, tail, first.size() + second.size(), *throttle);
    co_await writer->finish(ring);
}

}  // namespace

struct NodeWriter::Impl {
    Impl(Target& target_, const Uuid& repository_, const Hasher& hasher_, PackIdSource ids_, std::size_t entries_per_node_,
         Throttle* throttle_)
        : target(target_),
          repository(repository_),
          hasher(hasher_),
          ids(std::move(ids_)),
          entries_per_node(entries_per_node_),
          throttle(throttle_ != nullptr ? throttle_ : &no_cap) {}

    void begin_pack() {
        index.emplace(layout::PackKind::kNodes, ids(), 0);
        end = kPackAlignment;
    }

    bool has_room() const {
        return end + compress_bound(kNodeLimit) + kPackAlignment <= PackBuffer::kCapacity && index->size() < kSegmentsPerPackLimit;
    }

    // Compresses into the pack's buffer; nodes that don't shrink are stored as they are.
    Segment store(std::span<const std::byte> node) {
        const auto into = buffer.bytes().subspan(end);
        Segment segment{end, 0, 0, static_cast<std::uint32_t>(node.size()), Codec::kZstd};
        if (node.size() > kSmallNode) {
            segment.stored_length = static_cast<std::uint32_t>(compressor.compress(node, into));
        }
        if (node.size() <= kSmallNode || segment.stored_length >= node.size()) {
            std::copy(node.begin(), node.end(), into.begin());
            segment.stored_length = segment.plain_length;
            segment.codec = Codec::kNone;
        }
        return segment;
    }

    void pad_to(std::size_t aligned) {
        std::fill(buffer.bytes().begin() + static_cast<std::ptrdiff_t>(end), buffer.bytes().begin() + static_cast<std::ptrdiff_t>(aligned),
                  std::byte{0});
        end = aligned;
    }

    void write_pack() {
        pad_to(round_up(end, kPackAlignment));
        const Bytes head = pack_head(repository, layout::PackKind::kNodes, index->id(), 0);
        std::copy(head.begin(), head.end(), buffer.bytes().begin());
        const std::size_t distance = end - kPackAlignment;  // between the copies
        for (std::uint32_t i = 0; i < index->size(); ++i) {
            index->set_second_offset(i, index->segment(i).offset + distance);
        }
        const std::uint64_t data_end = end + distance;
        const Bytes tail = pack_tail(repository, *index, data_end);
        const std::string name = layout::pack({layout::PackKind::kNodes, index->id(), 0});
        const auto writer = target.begin(name, index->id().hex());
        const std::span<const std::byte> first = buffer.bytes().first(end);
        ring.wait(write_and_finish(ring, writer.get(), throttle, first, first.subspan(kPackAlignment), tail));
        fault::step("nodes.pack-written");
        stored += data_end + tail.size();
        written.push_back(index->id());
        index.reset();
    }

    Target& target;
    const Uuid repository;
    const Hasher hasher;
    const PackIdSource ids;
    const std::size_t entries_per_node;
    Throttle no_cap;
    Throttle* const throttle;
    PackBuffer buffer;
    Compressor compressor;
    std::optional<PackIndex> index;  // of the pack that is being filled
    std::size_t end = 0;             // of what the buffer holds
    Ring ring{Ring::Options{.entries = 8, .force_blocking = true}};
    std::vector<PackId> written;
    std::uint64_t stored = 0;
};

NodeWriter::NodeWriter(Target& target, const Uuid& repository, const Hasher& hasher, PackIdSource ids, std::size_t entries_per_node,
                       Throttle* throttle)
    : impl_(std::make_unique<Impl>(target, repository, hasher, std::move(ids), entries_per_node, throttle)) {}

NodeWriter::~NodeWriter() = default;

SegmentRef NodeWriter::put(std::span<const std::byte> node) {
    if (node.empty() || node.size() > kNodeLimit) {
        throw Error::failed("internal error: a metadata node's size is out of bounds", "please report this");
    }
    Impl& impl = *impl_;
    if (impl.index && !impl.has_room()) {
        impl.write_pack();
    }
    if (!impl.index) {
        impl.begin_pack();
    }
    const Segment segment = impl.store(node);
    const Checksum block = impl.hasher(node);
    Checksum stored;
    if (segment.codec != Codec::kNone) {
        stored = impl.hasher(impl.buffer.bytes().subspan(impl.end, segment.stored_length));
    }
    const std::uint32_t number = impl.index->add(segment, std::span(&block, 1), stored);
    impl.end += segment.stored_length;
    impl.pad_to(round_up(impl.end, kNodeAlignment));
    return {impl.index->id(), number};
}

void NodeWriter::finish() {
    if (impl_->index) {
        impl_->write_pack();
    }
}

std::size_t NodeWriter::entries_per_node() const {
    return impl_->entries_per_node;
}

std::uint64_t NodeWriter::stored_bytes() const {
    return impl_->stored;
}

std::vector<PackId> NodeWriter::packs() const {
    return impl_->written;
}

}  // namespace nodesnap
