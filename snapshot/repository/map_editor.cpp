#include "snapshot/repository/map_editor.h"

#include <algorithm>
#include <string>

#include "platform/error.h"
#include "snapshot/repository/map_output.h"
#include "snapshot/repository/records_runs.h"
#include "snapshot/repository/run_cut.h"
#include "snapshot/repository/tree_rewrite.h"

namespace nodesnap {
namespace {

[[noreturn]] void misused(const std::string& what) {
    throw Error::failed("internal error: " + what, "please report this");
}

// An inode's own runs, so that they are gone through as a tree's are.
std::shared_ptr<const VerifiedNode> leaf_of(const std::vector<Run>& runs) {
    RunColumns columns;
    for (const Run& run : runs) {
        if (!columns.add(run)) {
            misused("an inode record holds too many runs");
        }
    }
    Bytes bytes = columns.encode();
    const auto view = NodeView::parse(bytes);
    if (!view) {
        misused(view.flaw);
    }
    return std::make_shared<const VerifiedNode>(std::move(bytes), *view.value);
}

std::uint64_t data_bytes(const Run& run, std::uint64_t length) {
    return run.flags == Run::kNone ? length : 0;
}

}  // namespace

struct MapEditor::Impl {
    Impl(NodeReader& old_nodes, PackCache& packs_, const Inode& inode, NodeWriter& nodes)
        : packs(packs_), old{inode.runs, inode.map, inode.run_count}, output(nodes, &old_nodes), rewrite(old_nodes, output) {
        if (old.root) {
            rewrite.begin(*old.root, old.run_count);
        } else if (!old.inline_runs.empty()) {
            rewrite.begin(leaf_of(old.inline_runs));
        }
    }

    // Goes to the end of what `run` says already; returns where that is.
    std::uint64_t pass_same(const Run& run) {
        std::uint64_t at = run.offset;
        while (const Run* old_run = rewrite.next_before(offset_key(run.end()))) {
            const std::uint64_t end = std::min(run.end(), old_run->end());
            if (old_run->offset > at || !same_data(*old_run, run, at, end, packs)) {
                break;
            }
            at = end;
            if (old_run->end() > end) {
                break;
            }
            rewrite.keep_item();
        }
        return at;
    }

    // Takes what there is out of [begin, end).
    void clear(std::uint64_t begin, std::uint64_t end) {
        while (Run* run = rewrite.next_before(offset_key(end))) {
            rewrite.change();
            if (run->offset < begin) {
                output.add(part_of(*run, 0, begin - run->offset, packs));
            }
            counts.data_removed += data_bytes(*run, std::min(run->end(), end) - std::max(run->offset, begin));
            if (run->end() > end) {
                *run = part_of(*run, end - run->offset, run->end() - end, packs);
                return;
            }
            rewrite.drop_item();
        }
    }

    PackCache& packs;
    const MapBuilder::Result old;
    MapOutput output;
    TreeRewrite<RunColumns, MapOutput> rewrite;
    std::uint64_t position = 0;  // the end of the edit before
    Counts counts;
};

MapEditor::MapEditor(NodeReader& old_nodes, PackCache& packs, const Inode& old, NodeWriter& nodes)
    : impl_(std::make_unique<Impl>(old_nodes, packs, old, nodes)) {}

MapEditor::~MapEditor() = default;

void MapEditor::replace(const Run& run, bool to_segment_end) {
    Impl& impl = *impl_;
    if (const char* flaw = flaw_of(run, impl.position)) {
        misused(flaw);
    }
    impl.position = run.end();
    impl.rewrite.keep_to(offset_key(run.offset));
    const std::uint64_t same_to = impl.pass_same(run);
    if (same_to == run.end()) {
        return;
    }
    impl.clear(same_to, run.end());
    impl.rewrite.change();
    const std::uint64_t length = run.end() - same_to;
    impl.output.add(part_of(run, same_to - run.offset, length, impl.packs), to_segment_end);
    impl.counts.data_added += data_bytes(run, length);
}

void MapEditor::cut(std::uint64_t offset, std::uint64_t end) {
    Impl& impl = *impl_;
    if (offset < impl.position || end < offset || end > kFileSizeLimit) {
        misused("a file map's edits are out of order");
    }
    if (offset == end) {
        return;
    }
    impl.position = end;
    impl.rewrite.keep_to(offset_key(offset));
    impl.clear(offset, end);
}

MapBuilder::Result MapEditor::finish() {
    impl_->rewrite.finish();
    return impl_->rewrite.changed() ? impl_->output.finish() : impl_->old;
}

MapEditor::Counts MapEditor::counts() const {
    Counts counts = impl_->counts;
    counts.nodes_written = impl_->output.nodes_written();
    return counts;
}

}  // namespace nodesnap
