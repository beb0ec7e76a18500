#include "snapshot/repository/use_marks.h"

#include "platform/interrupt.h"
#include "snapshot/repository/map_diff.h"
#include "snapshot/repository/tree_diff.h"

namespace nodesnap {

void UseMarks::add(const TreeRoot& tree) {
    TreeDiff diff(repository_.nodes(), last_, tree);
    diff.watch_after([this](const SegmentRef& node) { add_node(node); });
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
    last_ = tree;
}

void UseMarks::add_inode(const std::optional<Bytes>& before, const Bytes& after) {
    const Inode inode = decode_inode(after);
    if (!inode.map) {
        add_runs(inode.runs);
        return;
    }
    MapDiff diff(repository_.nodes(), places_, before ? decode_inode(*before) : Inode{}, inode);
    diff.watch_after([this](const SegmentRef& node) { add_node(node); });
    for (MapChange change; diff.next(change);) {
        if (change.after == RangeKind::kData) {
            // All of the run: what of it the earlier map has too is marked already.
            add_run(change.run_after);
        }
    }
}

void UseMarks::add_node(const SegmentRef& node) {
    Run run;
    run.pack = node.pack;
    run.first = node.number;
    run.count = 1;
    used_(run);
}

void UseMarks::add_run(const Run& run) {
    if (run.flags == Run::kNone) {
        used_(run);
    }
}

void UseMarks::add_runs(const std::vector<Run>& runs) {
    for (const Run& run : runs) {
        add_run(run);
    }
}

}  // namespace nodesnap
