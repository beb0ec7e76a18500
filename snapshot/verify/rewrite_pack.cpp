#include "snapshot/verify/rewrite_pack.h"

#include "io/transfer.h"
#include "platform/error.h"
#include "platform/interrupt.h"
#include "platform/random.h"
#include "snapshot/repository/json_object.h"
#include "snapshot/repository/sequential_writer.h"

namespace nodesnap {
namespace {

constexpr char kRewriting = '.';  // in the names of unfinished packs: a backup's have none

}  // namespace

std::size_t places_of(const PackIndex& index) {
    return index.kind() == layout::PackKind::kNodes ? 2 : 1;
}

std::uint64_t offset_of(const Segment& segment, std::size_t place) {
    return place == 0 ? segment.offset : segment.second_offset;
}

PackRewrite::PackRewrite(const Repository& repository, const Lease& lease, Throttle& throttle)
    : repository_(repository), target_(repository.target()), lease_(lease), throttle_(throttle), ring_(blocking_ring()) {}

void PackRewrite::clear_up(Target& target) {
    target.abandon([](std::string_view staging_id) { return staging_id.find(kRewriting) != std::string_view::npos; });
}

void PackRewrite::pace(std::uint64_t bytes) {
    ring_.wait(nodesnap::pace(ring_, throttle_, bytes));
}

void PackRewrite::write(const PackIndex& index, const Contents& contents) {
    const layout::PackName name{index.kind(), index.id(), index.generation()};
    const std::string id = index.id().hex();
    target_.abandon([&](std::string_view staging_id) { return staging_id.starts_with(id); });
    // Of a name of its own: who began the same and sleeps finds its part gone, not another's in its place.
    const auto object = target_.begin(layout::pack(name), id + kRewriting + member::to_hex64(random_u64()));
    SequentialWriter writer(ring_, *object, throttle_);
    writer.append(pack_head(repository_.info().uuid, index.kind(), index.id(), index.generation()));
    const std::vector<Checksum> written = write_segments(index, contents, writer);
    writer.append(pack_tail(repository_.info().uuid, index, writer.offset()));
    lease_.check();
    writer.finish();
    try {
        read_back(name, written);
    } catch (...) {
        // Readers would prefer it to the one that it was to replace.
        lease_.check();
        target_.remove(layout::pack(name));
        throw;
    }
}

// Returns the checksums of what was written, in the order in which it lies in the pack.
std::vector<Checksum> PackRewrite::write_segments(const PackIndex& index, const Contents& contents, SequentialWriter& writer) {
    std::vector<Checksum> written;
    for (std::size_t place = 0; place < places_of(index); ++place) {
        for (std::uint32_t number = 0; number < index.size(); ++number) {
            if (index.segment(number).plain_length == 0) {
                continue;
            }
            throw_if_interrupted();
            const Bytes stored = contents(number, place);
            writer.pad_to(offset_of(index.segment(number), place));
            writer.append(stored);
            written.push_back(Hasher(0)(stored));
        }
    }
    return written;
}

void PackRewrite::read_back(const layout::PackName& name, const std::vector<Checksum>& written) {
    std::vector<Damage> damages;
    const auto pack =
        PackReader::open_generation(target_, repository_.info().uuid, name, [&](const Damage& damage) { damages.push_back(damage); });
    bool same = pack != nullptr && damages.empty();
    Bytes stored;
    auto expected = written.begin();
    for (std::size_t place = 0; same && place < places_of(pack->index()); ++place) {
        for (std::uint32_t number = 0; same && number < pack->index().size(); ++number) {
            const Segment segment = pack->index().segment(number);
            if (segment.plain_length != 0) {
                throw_if_interrupted();
                pace(segment.stored_length);
                stored.resize(segment.stored_length);
                pack->read_stored(stored, offset_of(segment, place));
                same = Hasher(0)(stored) == *expected++;
            }
        }
    }
    if (!same) {
        throw Error::failed("the new generation of a pack, " + target_.describe(layout::pack(name)) + ", can't be read back",
                            "the one before it was kept; check the repository's storage");
    }
}

}  // namespace nodesnap
