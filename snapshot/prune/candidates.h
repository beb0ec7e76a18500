// CompactionCandidates: the packs that are to be rewritten, in the order in which that is best done, however many there are: first those
// that give space back without taking any, then those of which least is in use.
#pragma once

#include <string>

#include "snapshot/prune/compaction.h"
#include "snapshot/prune/pack_state.h"
#include "snapshot/repository/external_sorter.h"

namespace nodesnap {

class CompactionCandidates {
public:
    explicit CompactionCandidates(const std::string& scratch_directory) : sorter_(scratch_directory, kSorterBytes) {}
    void add(const PackState& pack, const CompactionGain& gain);
    bool next(PackState& pack);  // false at the end; no more additions after the first call

private:
    static constexpr std::size_t kSorterBytes = 4U << 20;
    ExternalSorter sorter_;
};

}  // namespace nodesnap
