#include "snapshot/drain/file_extents.h"

#include <algorithm>
#include <functional>
#include <memory>
#include <utility>

#include "platform/btrfs_changes.h"
#include "platform/extent_map.h"
#include "snapshot/drain/shared_extents.h"
#include "snapshot/drain/taken_over.h"
#include "snapshot/repository/pack.h"

namespace nodesnap {
namespace {

constexpr std::uint64_t kFileEnd = std::uint64_t{1} << 62;  // behind all that a file can hold

using Cut = std::function<void(std::uint64_t begin, std::uint64_t end)>;

// The next stretch that has come to be data or unwritten; `cut` is told what has come to be a hole, or to lie behind the end.
bool next_change(btrfs::FileChanges& changes, std::uint64_t size, const Cut& cut, Extent& extent) {
    using Kind = btrfs::ChangedStretch::Kind;
    for (btrfs::ChangedStretch stretch; changes.next(stretch);) {
        const bool is_data = stretch.kind == Kind::kData || stretch.kind == Kind::kOlderData;
        const std::uint64_t last = is_data ? std::max(stretch.offset, std::min(stretch.end(), size)) : stretch.end();
        if (stretch.kind == Kind::kHole) {
            cut(stretch.offset, stretch.end());
        } else if (last < stretch.end()) {
            cut(last, stretch.end());
        }
        if (stretch.kind != Kind::kHole && last != stretch.offset) {
            const std::uint32_t flag = stretch.kind == Kind::kOlderData ? kOlderExtent : 0U;
            extent = {stretch.offset, 0, last - stretch.offset, stretch.kind == Kind::kUnwritten ? Extent::kUnwritten : flag};
            return true;
        }
    }
    return false;
}

LargeFile::NextExtent without(const EarlierDrain& earlier, std::uint64_t ino, LargeFile::NextExtent extents) {
    return [&earlier, ino, extents = std::move(extents), rest = Extent{}](Extent& extent) mutable {
        for (;;) {
            if (rest.length == 0 && !extents(rest)) {
                return false;
            }
            const auto stored = rest.unwritten() ? std::nullopt : earlier.next_range(ino, rest.logical);
            if (!stored || stored->offset >= rest.end()) {
                extent = std::exchange(rest, {});
                return true;
            }
            const Extent whole = rest;
            const std::uint64_t resume = std::min(stored->end, whole.end());
            rest.logical = resume;
            rest.length = whole.end() - resume;
            if (stored->offset > whole.logical) {
                extent = whole;
                extent.length = stored->offset - whole.logical;
                return true;
            }
        }
    };
}

bool tells_changes(const DrainState& state) {
    return state.parent != nullptr && state.parent->tells_changes();
}

// What the parent backup says of the file, where its map can be edited.
std::optional<Inode> record_to_edit(const DrainState& state, std::uint64_t ino, const Inode& now) {
    const auto value = tree_find(state.repository.nodes(), state.parent->backup.tree, key::inode(ino));
    if (!value) {
        return std::nullopt;
    }
    Inode before = decode_inode(*value);
    const bool same = before.type == now.type && before.generation == now.generation && !before.damaged;
    return same && before.run_count != 0 ? std::optional(std::move(before)) : std::nullopt;
}

// Of a file whose changes btrfs tells; `before` is what the parent backup has of it, if it has it.
LargeFile::NextExtent changes_to_read(DrainState& state, std::uint64_t ino, std::uint64_t size, const std::optional<Inode>& before,
                                      const std::string& path) {
    std::uint64_t changed_from = 0;
    Cut cut = [](std::uint64_t, std::uint64_t) {};
    if (before) {
        // The block in which the shorter of the two ends is another one, whatever the extents say.
        changed_from = before->size == size ? kFileEnd : std::min(before->size, size) / kPackAlignment * kPackAlignment;
        cut = [ino, &catalog = state.catalog](std::uint64_t begin, std::uint64_t end) { catalog.cut(ino, begin, end); };
    }
    const std::uint64_t older = state.parent->backup.proof.otransid;
    auto changes = std::make_shared<btrfs::FileChanges>(state.parent->source, state.source, ino, changed_from, kFileEnd, path, older);
    return [changes, size, cut = std::move(cut)](Extent& extent) { return next_change(*changes, size, cut, extent); };
}

}  // namespace

Content content_of(std::uint64_t size, std::uint64_t allocated, bool has_unwritten) {
    constexpr std::uint64_t kSlack = 8U << 10;  // the last block's, and one of attributes; more lies beyond the end of the file
    if (size == 0) {
        return allocated == 0 && !has_unwritten ? Content::kNone : Content::kRanges;
    }
    if (size <= kInlineContentLimit) {
        return Content::kInline;
    }
    return !has_unwritten && size <= kPlainSmallFile && allocated >= size && allocated <= size + kSlack ? Content::kWhole
                                                                                                        : Content::kRanges;
}

FileExtents extents_to_read(DrainState& state, int fd, std::uint64_t ino, const SourceInode& source,
                            const std::optional<Counterpart>& stored, const std::string& path) {
    FileExtents result;
    const Inode& inode = source.inode;
    if (tells_changes(state)) {
        const auto before = record_to_edit(state, ino, inode);
        result.edits = before.has_value();
        result.next = not_stored_yet(state, ino, changes_to_read(state, ino, inode.size, before, path));
        result.next = not_shared(state, ino, inode.size, std::move(result.next), path);
        if (before) {
            state.note_edited(ino);
        }
        return result;
    }
    auto earlier = earlier_file(state, ino, inode);
    if (!earlier && stored && stored->ino != ino) {
        earlier = earlier_file(state, *stored);
    }
    if (earlier) {
        result.next = not_taken_over(state, fd, ino, source, std::move(*earlier), path);
        state.note_edited(ino);
    } else {
        auto reader = std::make_shared<ExtentReader>(fd, path);
        result.next = with_unwritten([reader](Extent& extent) { return reader->next(extent); }, source.unwritten);
    }
    result.next = not_stored_yet(state, ino, std::move(result.next));
    return result;
}

bool take_over_small(const DrainState& state, int fd, std::uint64_t ino, Content content, Inode& inode, const std::string& path) {
    switch (content) {
        case Content::kInline:
            return take_over_placed(state, earlier_file(state, ino, inode), fd, inode, path);
        case Content::kWhole:
            return tells_changes(state) ? share_small(state, ino, inode, path)
                                        : take_over_placed(state, earlier_file(state, ino, inode), fd, inode, path);
        case Content::kNone:
        case Content::kRanges:
            break;
    }
    return false;
}

bool take_over_small(const DrainState& state, int fd, std::uint64_t ino, const Counterpart& stored, Inode& inode, const std::string& path) {
    return stored.ino != ino && take_over_placed(state, earlier_file(state, stored), fd, inode, path);
}

LargeFile::NextExtent not_stored_yet(const DrainState& state, std::uint64_t ino, LargeFile::NextExtent extents) {
    return state.earlier ? without(*state.earlier, ino, std::move(extents)) : std::move(extents);
}

}  // namespace nodesnap
