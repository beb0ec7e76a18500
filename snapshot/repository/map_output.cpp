#include "snapshot/repository/map_output.h"

#include <utility>

#include "platform/error.h"
#include "snapshot/repository/pack.h"
#include "snapshot/repository/records_runs.h"

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

void MapOutput::add(const Run& run, bool to_segment_end) {
    if (const char* flaw = flaw_of(run, last_ ? last_->end() : 0)) {
        throw Error::failed(std::string("internal error: ") + flaw, "please report this");
    }
    if (last_ && continues(*last_, last_to_segment_end_, run)) {
        merge(*last_, run);
    } else {
        put_last();
        last_ = run;
    }
    last_to_segment_end_ = to_segment_end;
}

void MapOutput::add(const Subtree& subtree) {
    const std::size_t before = first_runs_.size() + (last_ ? 1 : 0);
    if (!in_tree_ && subtree.child.count <= kInlineRunLimit && before + subtree.child.count <= kInlineRunLimit) {
        tree_.for_each_below(subtree, [this](const Run& run) { add(run); });
        return;
    }
    put_last();
    put_first_runs();
    tree_.add(subtree);
}

void MapOutput::put_last() {
    if (last_) {
        put(*std::exchange(last_, std::nullopt));
    }
}

void MapOutput::put(const Run& run) {
    if (!in_tree_ && first_runs_.size() < kInlineRunLimit) {
        first_runs_.push_back(run);
        return;
    }
    put_first_runs();
    tree_.add(run);
}

void MapOutput::put_first_runs() {
    in_tree_ = true;
    for (const Run& run : first_runs_) {
        tree_.add(run);
    }
    first_runs_.clear();
}

MapBuilder::Result MapOutput::finish() {
    put_last();
    MapBuilder::Result result;
    if (!in_tree_) {
        result.run_count = first_runs_.size();
        result.inline_runs = std::move(first_runs_);
        return result;
    }
    const TreeRoot root = tree_.finish();
    result.root = root.node;
    result.run_count = root.count;
    return result;
}

}  // namespace nodesnap
