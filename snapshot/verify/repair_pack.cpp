#include "snapshot/verify/repair_pack.h"

#include <algorithm>

#include "platform/error.h"
#include "platform/fault.h"
#include "platform/interrupt.h"

namespace nodesnap {
namespace {

// The same segments, as another generation.
PackIndex index_of_generation(const PackIndex& index, std::uint32_t generation) {
    PackIndex copy(index.kind(), index.id(), generation);
    for (std::uint32_t number = 0; number < index.size(); ++number) {
        const Segment segment = index.segment(number);
        const bool encoded = segment.codec != Codec::kNone;
        copy.add(segment, index.blocks(number), encoded ? index.stored_checksum(number) : Checksum{});
    }
    return copy;
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
    : repository_(repository), target_(repository.target()), lease_(lease), progress_(progress), rewrite_(repository, lease, throttle_) {}

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
    Survey survey;
    rewrite_.write(index_of_generation(index, generation), [&](std::uint32_t number, std::size_t place) {
        PackGenerations::Found found = all.find(number);
        survey.add(found);
        progress_.bytes_done.fetch_add(index.segment(number).stored_length, std::memory_order_relaxed);
        return std::move(found.copies[place]);
    });
    fault::step("repair.written");
    return survey;
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
