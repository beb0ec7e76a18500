#include <list>
#include <map>
#include <mutex>
#include <optional>

#include "platform/error.h"
#include "snapshot/repository/node_format.h"
#include "snapshot/repository/pack_codec.h"
#include "snapshot/repository/pack_salvage.h"
#include "snapshot/repository/tree.h"

namespace nodesnap {
namespace {

constexpr int kCopies = 2;

using Node = std::shared_ptr<const VerifiedNode>;

struct Copy {
    Node node;
    std::string flaw;
};

std::string describe(const SegmentRef& at, int copy) {
    return "node " + std::to_string(at.number) + (copy == 0 ? ", first copy" : ", second copy");
}

// Whether the bytes are what the pack's footer says they are.
Copy check_copy(Bytes stored, const PackIndex& index, std::uint32_t number, const Hasher& hasher) {
    const Segment segment = index.segment(number);
    Bytes plain;
    if (segment.codec == Codec::kNone) {
        plain = std::move(stored);
    } else {
        if (hasher(stored) != index.stored_checksum(number)) {
            return {nullptr, "checksum mismatch"};
        }
        plain.resize(segment.plain_length);
        if (!decompress(stored, plain)) {
            return {nullptr, "can't be decompressed"};
        }
    }
    if (hasher(plain) != index.blocks(number).front()) {
        return {nullptr, "checksum mismatch"};
    }
    const auto view = NodeView::parse(plain);
    if (!view) {
        return {nullptr, view.flaw};
    }
    // Moving a vector leaves its bytes where they are, which is where the view points.
    return {std::make_shared<const VerifiedNode>(std::move(plain), *view.value), ""};
}

Copy read_copy(const PackReader& pack, std::uint32_t number, int copy, const Hasher& hasher) {
    const Segment segment = pack.index().segment(number);
    Bytes stored(segment.stored_length);
    try {
        pack.read_stored(stored, copy == 0 ? segment.offset : segment.second_offset);
    } catch (const Error& error) {
        if (!is_media_error(error.error_number()) && error.status() != ExitStatus::kDamaged) {
            throw;
        }
        return {nullptr, error.message()};
    }
    return check_copy(std::move(stored), pack.index(), number, hasher);
}

}  // namespace

struct NodeReader::Impl {
    struct Entry {
        SegmentRef at;
        Node node;
    };

    Impl(PackCache& packs_, const Hasher& hasher_, DamageSink sink_, std::size_t budget_)
        : packs(packs_), hasher(hasher_), sink(std::move(sink_)), budget(budget_) {}

    Node find(const SegmentRef& at) {
        const std::lock_guard lock(mutex);
        const auto place = places.find(at);
        if (place == places.end()) {
            return nullptr;
        }
        entries.splice(entries.begin(), entries, place->second);
        return place->second->node;
    }

    void keep(const SegmentRef& at, const Node& node) {
        const std::lock_guard lock(mutex);
        if (places.contains(at)) {
            return;
        }
        entries.push_front({at, node});
        places[at] = entries.begin();
        used += cost(*node);
        while (entries.size() > 1 && used > budget) {
            used -= cost(*entries.back().node);
            places.erase(entries.back().at);
            entries.pop_back();
        }
    }

    static std::size_t cost(const VerifiedNode& node) { return node.bytes.capacity() + sizeof(VerifiedNode) + sizeof(Entry) + 128; }

    Node load(const SegmentRef& at, bool all_copies) {
        const auto pack = packs.get(layout::PackKind::kNodes, at.pack);
        if (at.number >= pack->index().size() || pack->index().segment(at.number).plain_length == 0) {
            throw Error::damaged(pack->object(), "it holds no node " + std::to_string(at.number) + ", which a backup needs");
        }
        Node good;
        std::vector<Damage> damages;
        for (int copy = 0; copy < kCopies && (all_copies || good == nullptr); ++copy) {
            Copy read = read_copy(*pack, at.number, copy, hasher);
            if (read.node == nullptr) {
                damages.push_back({pack->object(), describe(at, copy) + ": " + read.flaw, false});
            } else if (good == nullptr) {
                good = std::move(read.node);
            }
        }
        for (Damage& damage : damages) {
            damage.healed = good != nullptr;
            if (sink) {
                sink(damage);
            }
        }
        if (good == nullptr) {
            throw Error::damaged(pack->object(), damages.back().what, "run `nodesnap verify` to learn which backups it affects");
        }
        return good;
    }

    PackCache& packs;
    const Hasher hasher;
    const DamageSink sink;
    const std::size_t budget;
    std::function<void(const SegmentRef&)> asked;
    std::mutex mutex;
    std::list<Entry> entries;  // most recently used first
    std::map<SegmentRef, std::list<Entry>::iterator> places;
    std::size_t used = 0;
};

NodeReader::NodeReader(PackCache& packs, const Hasher& hasher, DamageSink sink, std::size_t cache_bytes)
    : impl_(std::make_unique<Impl>(packs, hasher, std::move(sink), cache_bytes)) {}

NodeReader::~NodeReader() = default;

void NodeReader::observe(std::function<void(const SegmentRef&)> asked) {
    impl_->asked = std::move(asked);
}

std::shared_ptr<const VerifiedNode> NodeReader::get_verified(const SegmentRef& at) {
    if (impl_->asked) {
        impl_->asked(at);
    }
    if (Node node = impl_->find(at)) {
        return node;
    }
    Node node = impl_->load(at, false);
    impl_->keep(at, node);
    return node;
}

NodeReader::Buffer NodeReader::get(const SegmentRef& at) {
    const Node node = get_verified(at);
    return {node, &node->bytes};
}

NodeReader::Buffer NodeReader::get_all_copies(const SegmentRef& at) {
    const Node node = impl_->load(at, true);
    return {node, &node->bytes};
}

}  // namespace nodesnap
