#include "snapshot/verify/repair_pack.h"

#include <algorithm>

#include "platform/error.h"
#include "platform/fault.h"
#include "platform/interrupt.h"
#include "platform/random.h"
#include "snapshot/repository/json_object.h"
#include "snapshot/verify/sequential_writer.h"

namespace nodesnap {
namespace {

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

std::size_t places_of(const PackIndex& index) {
    return index.kind() == layout::PackKind::kNodes ? 2 : 1;
}

std::uint64_t offset_of(const Segment& segment, std::size_t place) {
    return place == 0 ? segment.offset : segment.second_offset;
}

std::string describe_loss(const PackIndex& index, std::uint32_t number, const PackGenerations::Found& found) {
    if (index.kind() == layout::PackKind::kNodes) {
        return "node " + std::to_string(number) + ": no copy is good";
    }
    return "segment " + std::to_string(number) + ": " + std::to_string(found.blocks_lost.size()) + " of its " +
           std::to_string(found.blocks) + " blocks are good nowhere";
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

bool PackRepair::repair(layout::PackKind kind, const PackId& id, const std::vector<std::uint32_t>& listed, RepairResult& result) {
    const PackGenerations all(repository_, kind, id, listed);
    const std::vector<std::uint32_t> numbers = all.numbers();
    if (numbers.empty()) {
        return false;
    }
    if (all.best() == nullptr) {
        for (const Damage& damage : all.damages()) {
            add_lost(result, damage);
        }
        return true;
    }
    const PackReader& best = *all.best();
    // File data has one copy: where nothing is wrong with a pack, and no other generation has its data, there is nothing to gain by
    // reading.
    Survey found;
    if (kind == layout::PackKind::kNodes || numbers.size() > 1 || !all.best_is_whole()) {
        found = survey(all, result);
    }
    std::uint32_t kept = best.index().generation();
    if (!all.best_is_whole() || found.heals) {
        if (!best.may_rewrite()) {
            add_lost(result, {best.object(), "a newer version of nodesnap must repair it", true});
            return true;
        }
        if (numbers.size() >= kGenerationsLimit) {
            add_lost(result, {best.object(), "it has lost a copy, and too many generations of it are kept for what they may hold", true});
            return true;
        }
        kept = numbers.back() + 1;
        const Survey written = rewrite(all, kept);
        found.anything_lost = found.anything_lost || written.anything_lost;
        found.kept.insert(written.kept.begin(), written.kept.end());
        add_repaired(result, best.object());
    }
    remove_older(all, best, kept, found);
    return true;
}

void PackRepair::Survey::add(const PackGenerations::Found& found) {
    heals = heals || found.heals;
    anything_lost = anything_lost || !found.blocks_lost.empty();
    kept.insert(found.kept_by.begin(), found.kept_by.end());
}

PackRepair::Survey PackRepair::survey(const PackGenerations& all, RepairResult& result) {
    Survey survey;
    const PackIndex& index = all.best()->index();
    for (std::uint32_t number = 0; number < index.size(); ++number) {
        if (index.segment(number).plain_length == 0) {
            continue;
        }
        throw_if_interrupted();
        const PackGenerations::Found found = all.find(number);
        survey.add(found);
        if (!found.blocks_lost.empty()) {
            add_lost(result, {all.best()->object(), describe_loss(index, number, found), false});
        }
        progress_.bytes_done.fetch_add(places_of(index) * std::uint64_t{index.segment(number).stored_length}, std::memory_order_relaxed);
    }
    return survey;
}

// Segments keep their numbers and places. Blocks that are good nowhere are written as they are: they go on being seen as damaged.
PackRepair::Survey PackRepair::rewrite(const PackGenerations& all, std::uint32_t generation) {
    const PackIndex& index = all.best()->index();
    const layout::PackName name{index.kind(), index.id(), generation};
    target_.abandon(index.id().hex());  // what an interrupted repair left
    // Of a name of its own: who began the same and sleeps finds its part gone, not another's in its place.
    const auto object = target_.begin(layout::pack(name), index.id().hex() + "." + member::to_hex64(random_u64()));
    SequentialWriter writer(ring_, *object);
    writer.append(pack_head(repository_.info().uuid, index.kind(), index.id(), generation));
    Survey survey;
    const std::vector<Checksum> written = write_segments(all, writer, survey);
    const std::uint64_t end = writer.offset();
    writer.append(pack_tail(repository_.info().uuid, index_of_generation(index, generation), end));
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
    fault::step("repair.written");
    return survey;
}

// Returns the checksums of what was written, in the order in which it lies in the pack.
std::vector<Checksum> PackRepair::write_segments(const PackGenerations& all, SequentialWriter& writer, Survey& survey) {
    const PackIndex& index = all.best()->index();
    std::vector<Checksum> written;
    for (std::size_t place = 0; place < places_of(index); ++place) {
        for (std::uint32_t number = 0; number < index.size(); ++number) {
            const Segment& segment = index.segment(number);
            if (segment.plain_length == 0) {
                continue;
            }
            throw_if_interrupted();
            const PackGenerations::Found found = all.find(number);
            survey.add(found);
            writer.pad_to(offset_of(segment, place));
            writer.append(found.copies[place]);
            written.push_back(Hasher(0)(found.copies[place]));
            progress_.bytes_done.fetch_add(segment.stored_length, std::memory_order_relaxed);
        }
    }
    return written;
}

// Proves that the new generation is there as it was written, before anything is removed because of it.
void PackRepair::read_back(const layout::PackName& name, const std::vector<Checksum>& written) {
    std::vector<Damage> damages;
    const auto pack =
        PackReader::open_generation(target_, repository_.info().uuid, name, [&](const Damage& damage) { damages.push_back(damage); });
    bool same = pack != nullptr && damages.empty();
    Bytes stored;
    auto expected = written.begin();
    for (std::size_t place = 0; same && place < places_of(pack->index()); ++place) {
        for (std::uint32_t number = 0; same && number < pack->index().size(); ++number) {
            const Segment& segment = pack->index().segment(number);
            if (segment.plain_length != 0) {
                throw_if_interrupted();
                stored.resize(segment.stored_length);
                pack->read_stored(stored, offset_of(segment, place));
                same = Hasher(0)(stored) == *expected++;
            }
        }
    }
    if (!same) {
        throw Error::failed("the repaired pack " + target_.describe(layout::pack(name)) + " can't be read back",
                            "the damaged one was kept; check the repository's storage");
    }
}

// The lowest first, so that the numbers of those that stay follow each other.
void PackRepair::remove_older(const PackGenerations& all, const PackReader& best, std::uint32_t kept, const Survey& survey) {
    const std::vector<std::uint32_t> numbers = all.numbers();
    for (const std::uint32_t generation : numbers) {
        if (generation == kept || survey.kept.contains(generation)) {
            return;
        }
        lease_.check();
        target_.remove(layout::pack({best.index().kind(), best.index().id(), generation}));
        fault::step("repair.removed");
    }
}

}  // namespace nodesnap
