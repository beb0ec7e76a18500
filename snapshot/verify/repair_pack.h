// PackRepair: looks at one pack's copies, in all generations that there are, and, where one is lost that another can replace, writes the
// pack anew as its next generation, with the best of all. A generation is removed only when the one that stays, read back, holds all of it.
#pragma once

#include <cstdint>
#include <set>
#include <string>
#include <vector>

#include "io/progress.h"
#include "io/throttle.h"
#include "snapshot/repository/repository.h"
#include "snapshot/verify.h"
#include "snapshot/verify/pack_generations.h"
#include "snapshot/verify/rewrite_pack.h"

namespace nodesnap {

// Counts everything, keeps a bounded number.
void add_repaired(RepairResult& result, std::string object);
void add_lost(RepairResult& result, Damage damage);

class PackRepair {
public:
    static constexpr std::size_t kGenerationsLimit = 8;  // that may be there before another is written

    PackRepair(const Repository& repository, const Lease& lease, Progress& progress);

    // `listed` are the generations that a listing found. Adds to `result`. False if there is no such pack any more.
    bool repair(layout::PackKind kind, const PackId& id, const std::vector<std::uint32_t>& listed, RepairResult& result);

private:
    // What all segments of a pack are like.
    struct Survey {
        bool heals = false;
        bool anything_lost = false;
        std::set<std::uint32_t> kept;  // generations that may hold more of what is lost
        void add(const PackGenerations::Found& found);
    };
    Survey survey(const PackGenerations& all, RepairResult& result);
    Survey rewrite(const PackGenerations& all, std::uint32_t generation);
    void remove_older(const PackGenerations& all, const PackReader& best, std::uint32_t kept, const Survey& survey);

    const Repository& repository_;
    Target& target_;
    const Lease& lease_;
    Progress& progress_;
    Throttle throttle_;  // without a cap
    PackRewrite rewrite_;
};

}  // namespace nodesnap
