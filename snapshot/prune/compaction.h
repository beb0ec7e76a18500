// Compaction: rewrites a pack of which little is in use as its next generation, without what nobody uses. See docs/design.md.
//
// The next generation is durable and read back before an older one is removed, so that it may be killed at any instant, and whoever reads
// meanwhile finds one or the other. A pack that isn't whole is left to `repair`: copying it would lose what another copy of it may give.
#pragma once

#include <cstdint>
#include <string>

#include "io/progress.h"
#include "io/throttle.h"
#include "snapshot/prune/pack_state.h"
#include "snapshot/verify/pack_generations.h"
#include "snapshot/verify/rewrite_pack.h"

namespace nodesnap {

// What a rewriting of a pack would give back.
struct CompactionGain {
    std::uint64_t unused_bytes = 0;  // in segments that nobody uses
    std::uint64_t bytes_before = 0;  // of the object
    std::uint64_t bytes_after = 0;
    bool worthwhile(unsigned max_unused_percent) const {
        return unused_bytes * 100 > bytes_before * max_unused_percent && bytes_after < bytes_before;
    }
};
CompactionGain gain_of(const Uuid& repository, const PackReader& pack, const UsedSegments& used);

// One thread.
class Compaction {
public:
    // `throttle` caps what is read and written.
    Compaction(const Repository& repository, const Lease& lease, unsigned max_unused_percent, Throttle& throttle, Progress& progress);

    enum class Outcome : std::uint8_t { kRewritten, kOlderRemoved, kNothingToDo, kDamaged, kNoSpace };
    struct Result {
        Outcome outcome = Outcome::kNothingToDo;
        std::uint64_t written_bytes = 0;  // kRewritten: of the new generation
        std::uint64_t freed_bytes = 0;
        std::string flaw;  // kDamaged
    };
    // Checks the lease before anything becomes visible or is removed.
    Result run(const PackState& pack);

private:
    std::string flaw_of(const PackGenerations& all, const UsedSegments& used) const;
    std::string survey(const PackGenerations& all, const UsedSegments& used);
    Bytes whole_copy(const PackGenerations& all, std::uint32_t number, std::size_t place, std::string& flaw);
    bool has_room_for(std::uint64_t bytes) const;
    void remove_older(const PackState& pack, const std::vector<std::uint32_t>& generations, std::uint32_t kept);

    const Repository& repository_;
    Target& target_;
    const Lease& lease_;
    const unsigned max_unused_percent_;
    Progress& progress_;
    PackRewrite rewrite_;
};

}  // namespace nodesnap
