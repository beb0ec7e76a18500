#include "snapshot/repository/map_diff.h"

#include <algorithm>
#include <limits>

#include "platform/error.h"

namespace nodesnap {
namespace {

constexpr std::uint64_t kBeyondAll = std::numeric_limits<std::uint64_t>::max();

std::uint64_t offset_of(std::string_view key, const SegmentRef& at) {
    if (key.size() != sizeof(std::uint64_t)) {
        throw Error::damaged("node " + std::to_string(at.number) + " of metadata pack " + at.pack.hex(),
                             "a parent's key of it isn't an offset");
    }
    std::uint64_t offset = 0;
    for (const char byte : key) {
        offset = offset << 8 | static_cast<unsigned char>(byte);
    }
    return offset;
}

}  // namespace

MapDiff::Side::Side(NodeReader& nodes, const Inode& inode)
    : runs_(inode.runs), in_tree_(inode.map.has_value()), walk_(nodes, NodeView::Content::kRuns, inode.map, inode.run_count) {}

std::uint64_t MapDiff::Side::offset() const {
    if (at_end()) {
        return kBeyondAll;
    }
    if (at_subtree()) {
        return walk_.key().empty() ? 0 : offset_of(walk_.key(), walk_.subtree().at);
    }
    return run().offset;
}

void MapDiff::Side::skip() {
    if (in_tree_) {
        walk_.skip();
    } else {
        ++i_;
    }
}

RangeKind MapDiff::Side::kind_at(std::uint64_t position) const {
    if (!covers(position)) {
        return RangeKind::kHole;
    }
    switch (run().flags) {
        case Run::kUnwritten:
            return RangeKind::kUnwritten;
        case Run::kDamagedSource:
            return RangeKind::kDamaged;
        default:
            return RangeKind::kData;
    }
}

std::uint64_t MapDiff::Side::same_kind_until(std::uint64_t position) const {
    return covers(position) ? run().end() : offset();
}

MapDiff::MapDiff(NodeReader& nodes, RunPlaces& places, const Inode& before, const Inode& after)
    : places_(places), before_(nodes, before), after_(nodes, after) {}

// Brings both sides to what is at the position or behind it, one step at a time: true while there is another.
bool MapDiff::settle() {
    for (Side* side : {&before_, &after_}) {
        if (!side->at_end() && !side->at_subtree() && side->run().end() <= position_) {
            side->skip();
            return true;
        }
    }
    if (before_.at_subtree() && after_.at_subtree() && before_.subtree() == after_.subtree()) {
        // The position stays behind: up to what comes next both sides seem to be a hole, and so the same.
        before_.skip();
        after_.skip();
        return true;
    }
    const bool before = before_.at_subtree() && before_.offset() <= position_;
    const bool after = after_.at_subtree() && after_.offset() <= position_;
    if (!before && !after) {
        return false;
    }
    // The lower one may be a node below the higher one.
    if (before && (!after || before_.subtree().height >= after_.subtree().height)) {
        before_.open();
    } else {
        after_.open();
    }
    return true;
}

bool MapDiff::same_at_position() {
    const RangeKind kind = before_.kind_at(position_);
    return kind == after_.kind_at(position_) && (kind != RangeKind::kData || places_.same(before_.run(), after_.run(), position_));
}

bool MapDiff::next(MapChange& change) {
    while (true) {
        while (settle()) {
        }
        if (before_.at_end() && after_.at_end()) {
            return false;
        }
        const std::uint64_t end = std::min(before_.same_kind_until(position_), after_.same_kind_until(position_));
        if (same_at_position()) {
            position_ = end;
            continue;
        }
        change.offset = position_;
        change.length = end - position_;
        change.before = before_.kind_at(position_);
        change.after = after_.kind_at(position_);
        change.run_before = change.before == RangeKind::kHole ? Run{} : before_.run();
        change.run_after = change.after == RangeKind::kHole ? Run{} : after_.run();
        position_ = end;
        return true;
    }
}

}  // namespace nodesnap
