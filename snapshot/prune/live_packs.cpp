#include "snapshot/prune/live_packs.h"

#include <utility>

#include "platform/interrupt.h"
#include "snapshot/repository/map_diff.h"
#include "snapshot/repository/tree_diff.h"

namespace nodesnap {

void LivePacks::add(const Manifest& backup) {
    // What it wrote itself is its own, whether or not all of it is referred to.
    packs_.insert(backup.packs.begin(), backup.packs.end());
    TreeDiff diff(repository_.nodes(), last_, backup.tree);
    diff.watch_after([this](const SegmentRef& node) { packs_.insert(node.pack); });
    for (TreeChange change; diff.next(change);) {
        interrupt::throw_if_interrupted();
        if (!change.after) {
            continue;
        }
        switch (key::parse(change.key).kind) {
            case key::Kind::kInode:
                add_inode(change.before, *change.after);
                break;
            case key::Kind::kXattr:
                add_runs(decode_xattr(*change.after).runs);
                break;
            default:
                break;
        }
    }
    last_ = backup.tree;
}

void LivePacks::add_inode(const std::optional<Bytes>& before, const Bytes& after) {
    const Inode inode = decode_inode(after);
    if (!inode.map) {
        add_runs(inode.runs);
        return;
    }
    MapDiff diff(repository_.nodes(), places_, before ? decode_inode(*before) : Inode{}, inode);
    diff.watch_after([this](const SegmentRef& node) { packs_.insert(node.pack); });
    for (MapChange change; diff.next(change);) {
        if (change.after == RangeKind::kData) {
            packs_.insert(change.run_after.pack);
        }
    }
}

void LivePacks::add_runs(const std::vector<Run>& runs) {
    for (const Run& run : runs) {
        if (run.flags == Run::kNone) {
            packs_.insert(run.pack);
        }
    }
}

}  // namespace nodesnap
