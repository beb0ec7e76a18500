#include "snapshot/prune/compaction.h"

#include <cerrno>

#include "platform/error.h"
#include "platform/fault.h"
#include "platform/interrupt.h"

namespace nodesnap {
namespace {

// Left free, so that the lease can be renewed whatever is written.
constexpr std::uint64_t kReserveBytes = 1U << 20;

}  // namespace

CompactionGain gain_of(const Uuid& repository, const PackReader& pack, const UsedSegments& used) {
    const PackIndex& index = pack.index();
    const std::uint64_t alignment = index.kind() == layout::PackKind::kNodes ? kNodeAlignment : kPackAlignment;
    CompactionGain gain;
    gain.bytes_before = pack.stored_bytes();
    for (std::uint32_t number = 0; number < index.size(); ++number) {
        if (!used.contains(number)) {
            gain.unused_bytes += places_of(index) * ((index.segment(number).stored_length + alignment - 1) / alignment * alignment);
        }
    }
    gain.bytes_after =
        gain.unused_bytes == 0 ? gain.bytes_before : object_bytes(repository, compacted(index, used, index.generation() + 1));
    return gain;
}

Compaction::Compaction(const Repository& repository, const Lease& lease, unsigned max_unused_percent, Throttle& throttle,
                       Progress& progress)
    : repository_(repository),
      target_(repository.target()),
      lease_(lease),
      max_unused_percent_(max_unused_percent),
      progress_(progress),
      rewrite_(repository, lease, throttle) {}

Compaction::Result Compaction::run(const PackState& pack) {
    const PackGenerations all(repository_, pack.kind, pack.id, pack.generations);
    const std::vector<std::uint32_t> generations = all.numbers();
    if (generations.empty()) {
        return {};
    }
    Result result;
    result.flaw = flaw_of(all, pack.used);
    if (!result.flaw.empty()) {
        result.outcome = Outcome::kDamaged;
        return result;
    }
    const PackReader& best = *all.best();
    if (!best.may_rewrite()) {
        return {};
    }
    const CompactionGain gain = gain_of(repository_.info().uuid, best, pack.used);
    std::uint32_t kept = best.index().generation();
    std::uint64_t kept_bytes = gain.bytes_before;
    if (gain.worthwhile(max_unused_percent_)) {
        if (!has_room_for(gain.bytes_after)) {
            result.outcome = Outcome::kNoSpace;
            return result;
        }
        const PackIndex next = compacted(best.index(), pack.used, generations.back() + 1);
        try {
            rewrite_.write(next, [&](std::uint32_t number, std::size_t place) { return whole_copy(all, number, place, result.flaw); });
        } catch (const Error& error) {
            if (result.flaw.empty() && !is_space_error(error.error_number())) {
                throw;
            }
            result.outcome = result.flaw.empty() ? Outcome::kNoSpace : Outcome::kDamaged;
            return result;
        }
        fault::step("compaction.written");
        kept = next.generation();
        kept_bytes = gain.bytes_after;
        result.outcome = Outcome::kRewritten;
        result.written_bytes = gain.bytes_after;
    } else if (generations.size() > 1) {
        result.flaw = survey(all, pack.used);
        result.outcome = result.flaw.empty() ? Outcome::kOlderRemoved : Outcome::kDamaged;
        if (!result.flaw.empty()) {
            return result;
        }
    }
    remove_older(pack, generations, kept);
    result.freed_bytes = pack.bytes > kept_bytes ? pack.bytes - kept_bytes : 0;
    return result;
}

// Empty if the newest generation is whole outside of its segments, and has what backups use.
std::string Compaction::flaw_of(const PackGenerations& all, const UsedSegments& used) const {
    if (all.best() == nullptr || !all.best_is_whole()) {
        const std::vector<Damage> damages = all.damages();
        return damages.empty() ? "its newest generation can't be opened" : damages.back().what;
    }
    return used.fit(all.best()->index()) ? "" : "backups refer to segments that it doesn't have";
}

// Whether the newest generation itself holds all that is used.
std::string Compaction::survey(const PackGenerations& all, const UsedSegments& used) {
    const PackIndex& index = all.best()->index();
    std::string flaw;
    for (std::uint32_t number = 0; number < index.size() && flaw.empty(); ++number) {
        if (used.contains(number)) {
            throw_if_interrupted();
            try {
                whole_copy(all, number, 0, flaw);
            } catch (const Error&) {
                if (flaw.empty()) {
                    throw;
                }
            }
        }
    }
    return flaw;
}

// Throws and says why in `flaw` if not all copies of the segment are good.
Bytes Compaction::whole_copy(const PackGenerations& all, std::uint32_t number, std::size_t place, std::string& flaw) {
    const PackIndex& index = all.best()->index();
    const std::uint64_t bytes = places_of(index) * std::uint64_t{index.segment(number).stored_length};
    rewrite_.pace(bytes);
    PackGenerations::Found found = all.find(number);
    if (found.heals || !found.blocks_lost.empty()) {
        flaw = (index.kind() == layout::PackKind::kNodes ? "node " : "segment ") + std::to_string(number) + " has a damaged copy";
        throw Error::damaged(target_.describe(all.best()->object()), flaw);
    }
    progress_.bytes_done.fetch_add(index.segment(number).stored_length, std::memory_order_relaxed);
    return std::move(found.copies[place]);
}

bool Compaction::has_room_for(std::uint64_t bytes) const {
    const auto free = target_.free_bytes();
    return !free || *free >= bytes + kReserveBytes;
}

// The lowest first, so that the numbers of those that stay follow each other.
void Compaction::remove_older(const PackState& pack, const std::vector<std::uint32_t>& generations, std::uint32_t kept) {
    for (const std::uint32_t generation : generations) {
        if (generation < kept) {
            lease_.check();
            target_.remove(layout::pack({pack.kind, pack.id, generation}));
            fault::step("compaction.removed");
        }
    }
}

}  // namespace nodesnap
