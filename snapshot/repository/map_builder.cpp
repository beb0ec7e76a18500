#include "platform/error.h"
#include "snapshot/repository/node_format.h"
#include "snapshot/repository/records_runs.h"
#include "snapshot/repository/tree.h"
#include "snapshot/repository/tree_levels.h"

namespace nodesnap {
namespace {

// Whether `next` goes on where `run` ends, so that one run says both. That `run` ends where its last segment does must be known or
// provable: then every segment of it is as long as a segment can be.
bool continues(const Run& run, bool to_segment_end, const Run& next) {
    if (next.offset != run.end() || next.flags != run.flags) {
        return false;
    }
    if (run.flags != Run::kNone) {
        return true;
    }
    if (next.pack != run.pack) {
        return false;
    }
    if (run.count == 1 && next.first == run.first) {
        return next.skip == run.skip + run.length;
    }
    const bool whole = to_segment_end || run.length == std::uint64_t{run.count} * kSegmentLimit - run.skip;
    return whole && next.first == run.first + run.count && next.skip == 0;
}

void merge(Run& run, const Run& next) {
    // Of runs in the same segment, the first one's count is 1, and the next one begins with that segment.
    run.count += next.count - (run.flags == Run::kNone && next.first == run.first ? 1 : 0);
    run.length += next.length;
}

}  // namespace

struct MapBuilder::Impl {
    explicit Impl(NodeWriter& nodes_) : nodes(nodes_), levels(nodes_), leaf(nodes_.entries_per_node()) {}

    void put(const Run& run) {
        ++count;
        if (!in_tree && first_runs.size() < kInlineRunLimit) {
            first_runs.push_back(run);
            return;
        }
        if (!in_tree) {
            in_tree = true;
            for (const Run& early : first_runs) {
                put_in_leaf(early);
            }
            first_runs.clear();
        }
        put_in_leaf(run);
    }

    void put_in_leaf(const Run& run) {
        if (!leaf.add(run)) {
            flush();
            leaf.add(run);
        }
    }

    void flush() {
        levels.add_leaf(offset_key(leaf.first_offset()), {nodes.put(leaf.encode()), leaf.size()});
        leaf.clear();
    }

    NodeWriter& nodes;
    TreeLevels levels;
    RunColumns leaf;
    std::vector<Run> first_runs;  // until there are too many for the inode record
    bool in_tree = false;
    std::uint64_t count = 0;
    std::optional<Run> last;  // may still be continued
    bool last_to_segment_end = false;
};

MapBuilder::MapBuilder(NodeWriter& nodes) : impl_(std::make_unique<Impl>(nodes)) {}

MapBuilder::~MapBuilder() = default;

void MapBuilder::add(const Run& run, bool to_segment_end) {
    Impl& impl = *impl_;
    if (const char* flaw = flaw_of(run, impl.last ? impl.last->end() : 0)) {
        throw Error::failed(std::string("internal error: ") + flaw, "please report this");
    }
    if (impl.last && continues(*impl.last, impl.last_to_segment_end, run)) {
        merge(*impl.last, run);
    } else {
        if (impl.last) {
            impl.put(*impl.last);
        }
        impl.last = run;
    }
    impl.last_to_segment_end = to_segment_end;
}

MapBuilder::Result MapBuilder::finish() {
    Impl& impl = *impl_;
    if (impl.last) {
        impl.put(*impl.last);
        impl.last.reset();
    }
    Result result;
    result.run_count = impl.count;
    if (!impl.in_tree) {
        result.inline_runs = std::move(impl.first_runs);
        return result;
    }
    impl.flush();
    result.root = impl.levels.finish();
    return result;
}

}  // namespace nodesnap
