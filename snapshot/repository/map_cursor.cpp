#include "snapshot/repository/node_format.h"
#include "snapshot/repository/tree.h"
#include "snapshot/repository/tree_walk.h"

namespace nodesnap {

struct MapCursor::Impl {
    Impl(NodeReader& nodes, const Inode& inode, std::uint64_t from_)
        : inline_runs(inode.runs),
          walk(nodes, NodeView::Content::kRuns, inode.map, inode.run_count),
          in_tree(inode.map.has_value()),
          from(from_) {}

    bool next_inline(Run& run) {
        if (i == inline_runs.size()) {
            return false;
        }
        run = inline_runs[i++];
        return true;
    }

    bool next_in_tree(Run& run) {
        if (!started) {
            started = true;
            in_leaf = walk.seek(offset_key(from));
            begin_leaf();
        }
        while (in_leaf && i == walk.leaf().size()) {
            in_leaf = walk.next();
            begin_leaf();
        }
        if (!in_leaf) {
            return false;
        }
        run = walk.leaf().run(i++, end);
        end = run.end();
        return true;
    }

    void begin_leaf() {
        i = 0;
        end = in_leaf ? walk.leaf().first_offset() : 0;
    }

    const std::vector<Run> inline_runs;
    TreeWalk walk;
    const bool in_tree;
    const std::uint64_t from;
    bool started = false;
    bool in_leaf = false;
    std::uint32_t i = 0;
    std::uint64_t end = 0;  // of the run before
};

MapCursor::MapCursor(NodeReader& nodes, const Inode& inode, std::uint64_t from) : impl_(std::make_unique<Impl>(nodes, inode, from)) {}
MapCursor::~MapCursor() = default;
MapCursor::MapCursor(MapCursor&&) noexcept = default;

bool MapCursor::next(Run& run) {
    do {
        if (!(impl_->in_tree ? impl_->next_in_tree(run) : impl_->next_inline(run))) {
            return false;
        }
    } while (run.end() <= impl_->from);
    return true;
}

}  // namespace nodesnap
