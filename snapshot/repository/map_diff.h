// MapDiff: the ranges in which two maps of one file differ, in order, without reading what the maps share.
//
// Ranges that name the same bytes of the same pack are the same, however the runs are cut; what has another reference is told as a
// difference, though its contents may be equal: contents aren't read. Like TreeDiff, it leaves out map nodes that both trees refer to.
// Segment lengths, from the footers of packs, are only needed where two runs of one pack begin at different segments.
#pragma once

#include <cstdint>
#include <vector>

#include "snapshot/repository/run_places.h"
#include "snapshot/repository/tree.h"
#include "snapshot/repository/tree_walk.h"

namespace nodesnap {

enum class RangeKind : std::uint8_t { kHole, kData, kUnwritten, kDamaged };

struct MapChange {
    std::uint64_t offset = 0;
    std::uint64_t length = 0;  // > 0
    RangeKind before = RangeKind::kHole, after = RangeKind::kHole;
    Run run_before, run_after;  // what the range is part of; meaningless for holes
    std::uint64_t end() const { return offset + length; }
};

// One thread. Memory: one node per level of each map. A range that differs in one piece may come in several. The size of the files plays no
// part: what is beyond the last run is a hole.
class MapDiff {
public:
    MapDiff(NodeReader& nodes, RunPlaces& places, const Inode& before, const Inode& after);
    bool next(MapChange& change);  // false at the end
    // As TreeDiff's.
    void watch_after(SubtreeWalk::Opened opened) { after_.watch(std::move(opened)); }

private:
    // A map from its runs or its tree.
    class Side {
    public:
        Side(NodeReader& nodes, const Inode& inode);
        bool at_end() const { return in_tree_ ? walk_.at_end() : i_ == runs_.size(); }
        bool at_subtree() const { return in_tree_ && walk_.at_subtree(); }
        NodeRef subtree() const { return walk_.subtree(); }
        std::uint64_t offset() const;  // of the first run ahead; 0 while that isn't known; beyond all at the end
        const Run& run() const { return in_tree_ ? walk_.run() : runs_[i_]; }  // not at a subtree, not at the end
        void open() { walk_.open(); }
        void watch(SubtreeWalk::Opened opened) { walk_.watch(std::move(opened)); }
        void skip();
        bool covers(std::uint64_t position) const { return !at_end() && !at_subtree() && offset() <= position; }
        RangeKind kind_at(std::uint64_t position) const;
        std::uint64_t same_kind_until(std::uint64_t position) const;

    private:
        std::vector<Run> runs_;
        std::size_t i_ = 0;
        bool in_tree_;
        SubtreeWalk walk_;
    };

    bool settle();
    bool same_at_position();

    RunPlaces& places_;
    Side before_, after_;
    std::uint64_t position_ = 0;
};

}  // namespace nodesnap
