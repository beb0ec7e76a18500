#include "snapshot/drain/taken_over.h"

#include <algorithm>
#include <deque>
#include <exception>
#include <memory>
#include <utility>
#include <vector>

#include "platform/extent_map.h"
#include "snapshot/backend/snapshot_files.h"
#include "snapshot/drain/extent_changes.h"
#include "snapshot/drain/stored_runs.h"
#include "snapshot/repository/pack.h"
#include "snapshot/repository/tree.h"

namespace nodesnap {
namespace {

bool is_same(const Extent& extent) {
    return (extent.flags & ExtentChanges::kSame) != 0;
}

// Goes through a file's extents, in order: hands out those that are to be read, and takes the runs of the others over.
class TakeOver {
public:
    TakeOver(DrainState& state, std::uint64_t ino, std::uint64_t size, Inode record, LargeFile::NextExtent extents)
        : state_(state),
          ino_(ino),
          size_(size),
          // The page in which the shorter of the two ends is another one, whatever the extents say.
          same_until_(record.size == size ? size : std::min(record.size, size) / kPackAlignment * kPackAlignment),
          runs_(state.repository.nodes(), state.repository.packs(), std::move(record)),
          extents_(std::move(extents)) {}

    bool next(Extent& extent) {
        if (failure_) {
            std::rethrow_exception(failure_);  // what it has lost doesn't come again
        }
        try {
            while (to_read_.empty() && advance()) {
            }
        } catch (const Error& error) {
            failure_ = std::make_exception_ptr(StoredMapError(error));
            std::rethrow_exception(failure_);
        }
        if (to_read_.empty()) {
            return false;
        }
        extent = to_read_.front();
        to_read_.pop_front();
        return true;
    }

private:
    // False at the end.
    bool advance() {
        if (!have_ahead_ && !extents_(ahead_)) {
            return false;
        }
        have_ahead_ = false;
        if (!is_same(ahead_)) {
            to_read_.push_back(ahead_);
            return true;
        }
        Extent same = ahead_;
        while (extents_(ahead_)) {
            have_ahead_ = !is_same(ahead_) || ahead_.logical != same.end();
            if (have_ahead_) {
                break;
            }
            same.length += ahead_.length;
        }
        take(same);
        return true;
    }

    // Whole pages, since what is read beside them comes in pages.
    void take(const Extent& same) {
        const std::uint64_t begin = (same.logical + kPackAlignment - 1) / kPackAlignment * kPackAlignment;
        const std::uint64_t last = std::min(same.end(), same_until_);
        const std::uint64_t end = last == size_ ? last : last / kPackAlignment * kPackAlignment;
        if (begin >= end) {
            read(same.logical, same.end());
            return;
        }
        read(same.logical, begin);
        for (std::uint64_t at = begin; at < end;) {
            const auto stored = state_.earlier ? state_.earlier->next_range(ino_, at) : std::nullopt;
            if (stored && stored->offset <= at) {
                at = std::min(stored->end, end);  // an earlier drain of this snapshot has read it all the same
                continue;
            }
            const std::uint64_t stop = stored ? std::min(stored->offset, end) : end;
            take_runs(at, stop);
            at = stop;
        }
        read(end, same.end());
    }

    void take_runs(std::uint64_t begin, std::uint64_t end) {
        runs_.copy(
            begin, end, begin, size_,
            [this](const Run& run) {
                state_.catalog.add_run(ino_, run);
                state_.progress.bytes_done.fetch_add(run.length, std::memory_order_relaxed);
            },
            [this](std::uint64_t from, std::uint64_t to) { read(from, to); });
    }

    void read(std::uint64_t begin, std::uint64_t end) {
        if (begin < end) {
            to_read_.push_back({begin, 0, end - begin, 0});
        }
    }

    DrainState& state_;
    const std::uint64_t ino_;
    const std::uint64_t size_;
    const std::uint64_t same_until_;
    StoredRuns runs_;
    LargeFile::NextExtent extents_;
    Extent ahead_{};
    bool have_ahead_ = false;
    std::deque<Extent> to_read_;
    std::exception_ptr failure_;
};

// Whether all of a file's data lies where that of the earlier clone does.
bool is_all_same(int before, int now, std::uint64_t size, const std::string& path, const SameBlocks* blocks) {
    ExtentChanges changes(before, now, path, blocks);
    std::uint64_t end = 0;
    for (Extent extent; end < size && changes.next(extent); end = extent.end()) {
        if (!is_same(extent) || extent.logical != end) {
            return false;
        }
    }
    return end >= size;
}

bool covers(const std::vector<Run>& runs, std::uint64_t size) {
    std::uint64_t end = 0;
    for (const Run& run : runs) {
        if (run.flags != Run::kNone || run.offset != end) {
            return false;
        }
        end = run.end();
    }
    return end == size;
}

// A link lies where it lay, whatever was written to it. On a volume the place proves nothing without what tells of its blocks.
bool tells_by_places(const DrainState& state) {
    const SnapshotFiles* const files = state.parent != nullptr ? state.parent->files : nullptr;
    return files != nullptr && !files->has_links() && (files->place_proves() || state.parent->blocks != nullptr);
}

std::optional<EarlierFile> file_of(const DrainState& state, std::uint64_t ino, Inode record) {
    if (record.type != FileType::kRegular || record.damaged) {
        return std::nullopt;
    }
    EarlierFile earlier;
    earlier.file = state.parent->files->open(ino, record.generation);
    earlier.record = std::move(record);
    return earlier.file ? std::optional(std::move(earlier)) : std::nullopt;
}

}  // namespace

std::optional<EarlierFile> earlier_file(const DrainState& state, std::uint64_t ino, const Inode& now) {
    if (!tells_by_places(state) || now.generation == 0) {
        return std::nullopt;
    }
    const auto value = tree_find(state.repository.nodes(), state.parent->backup.tree, key::inode(ino));
    if (!value) {
        return std::nullopt;
    }
    Inode before = decode_inode(*value);
    return before.generation == now.generation ? file_of(state, ino, std::move(before)) : std::nullopt;
}

std::optional<EarlierFile> earlier_file(const DrainState& state, const Counterpart& counterpart) {
    if (!tells_by_places(state) || counterpart.record.generation == 0) {
        return std::nullopt;
    }
    return file_of(state, counterpart.ino, counterpart.record);
}

LargeFile::NextExtent not_taken_over(DrainState& state, int fd, std::uint64_t ino, const SourceInode& source, EarlierFile earlier,
                                     const std::string& path) {
    const auto before = std::make_shared<const FileDescriptor>(std::move(earlier.file));
    const auto changes = std::make_shared<ExtentChanges>(before->get(), fd, path, state.parent->blocks);
    auto extents = with_unwritten([before, changes](Extent& extent) { return changes->next(extent); }, source.unwritten);
    const auto taken = std::make_shared<TakeOver>(state, ino, source.inode.size, std::move(earlier.record), std::move(extents));
    return [taken](Extent& extent) { return taken->next(extent); };
}

bool take_over_placed(const DrainState& state, std::optional<EarlierFile> earlier, int fd, Inode& inode, const std::string& path) {
    if (!earlier || earlier->record.size != inode.size || inode.size == 0) {
        return false;
    }
    Inode& record = earlier->record;
    const bool is_inline = record.run_count == 0 && record.content.size() == inode.size;
    const bool has_runs = record.run_count != 0 && record.runs.size() == record.run_count && covers(record.runs, inode.size);
    if ((!is_inline && !has_runs) || !is_all_same(earlier->file.get(), fd, inode.size, path, state.parent->blocks)) {
        return false;
    }
    inode.content = std::move(record.content);
    inode.runs = std::move(record.runs);
    inode.run_count = record.run_count;
    return true;
}

LargeFile::NextExtent with_unwritten(LargeFile::NextExtent extents, std::vector<UnwrittenRange> ranges) {
    if (ranges.empty()) {
        return extents;
    }
    return [extents = std::move(extents), ranges = std::move(ranges), number = std::size_t{0}, done = std::uint64_t{0}, ahead = Extent{},
            have = false, ended = false](Extent& extent) mutable {
        if (!have && !ended) {
            have = extents(ahead);
            ended = !have;
        }
        while (number < ranges.size() && ranges[number].offset + ranges[number].length <= done) {
            ++number;
        }
        const std::uint64_t begin = number < ranges.size() ? std::max(ranges[number].offset, done) : 0;
        if (number == ranges.size() || (have && ahead.logical <= begin)) {
            extent = ahead;
            done = extent.end();
            return std::exchange(have, false);
        }
        const std::uint64_t end = ranges[number].offset + ranges[number].length;
        extent = {begin, 0, (have ? std::min(end, ahead.logical) : end) - begin, Extent::kUnwritten};
        done = extent.end();
        return true;
    };
}

}  // namespace nodesnap
