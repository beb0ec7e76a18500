#include "snapshot/drain/unchanged_file.h"

#include <optional>
#include <string>

#include "platform/file.h"
#include "snapshot/backend/clone_index.h"
#include "snapshot/drain/inode_reader.h"
#include "snapshot/drain/live_stamp.h"
#include "snapshot/repository/tree.h"

namespace nodesnap {
namespace {

std::optional<FileStatus> status_of(const SourceDirectory& directory, const SourceEntry& entry) {
    try {
        return stat_at(directory.fd.get(), entry.name);
    } catch (const Error&) {
        return std::nullopt;  // who opens it tells what is the matter
    }
}

void take_xattrs(DrainState& state, std::uint64_t ino, std::uint32_t count) {
    TreeCursor xattrs(state.repository.nodes(), state.parent->backup.tree, key::xattr(ino));
    TreeEntry entry;
    for (std::uint32_t taken = 0; taken < count && xattrs.next(entry); ++taken) {
        state.catalog.add_xattr(entry.key, entry.value);
    }
}

void take_record(DrainState& state, std::uint64_t ino, const Inode& recorded) {
    take_xattrs(state, ino, recorded.xattr_count);
    state.note_owner(recorded.uid, recorded.gid);
    state.catalog.add_inode(ino, recorded);
    state.progress.files_total.fetch_add(1, std::memory_order_relaxed);
    state.progress.files_done.fetch_add(1, std::memory_order_relaxed);
}

// Whether the file is what the parent backup was made of, as far as the snapshots tell.
bool is_same_link(const DrainParent& parent, const LinkRecord& now) {
    if (parent.files == nullptr) {
        return parent.records_tell && now.generation != 0 && now.born != Time{};
    }
    const auto before = parent.files->link(now.ino);
    return before && before->is_same(now);
}

// What the parent backup has of an inode that was this link in its snapshot, too.
std::optional<Inode> record_of(const DrainState& state, const LinkRecord& link) {
    const auto value = tree_find(state.repository.nodes(), state.parent->backup.tree, key::inode(link.ino));
    if (!value) {
        return std::nullopt;
    }
    Inode recorded = decode_inode(*value);
    const bool same = recorded.type == FileType::kRegular && !recorded.damaged && recorded.size == link.size &&
                      recorded.generation == link.generation && recorded.modified == link.modified && recorded.changed == link.changed &&
                      recorded.born == link.born;
    return same ? std::optional(std::move(recorded)) : std::nullopt;
}

}  // namespace

bool take_over_unchanged(DrainState& state, const SourceDirectory& directory, const SourceEntry& entry) {
    if (state.parent == nullptr || state.parent->stamp == nullptr) {
        return false;
    }
    const auto status = status_of(directory, entry);
    if (!status || status->stx_ino != entry.ino) {
        return false;
    }
    const auto stored = tree_find(state.repository.nodes(), state.parent->backup.tree, key::inode(entry.ino));
    if (!stored) {
        return false;
    }
    Inode recorded = decode_inode(*stored);
    const Inode now = inode_of(*status);
    if (recorded.damaged || !state.parent->stamp->is_unchanged(entry.ino, LiveStatus::of(recorded), LiveStatus::of(now))) {
        return false;
    }
    if (now.links > 1 && !state.claim_linked(entry.ino)) {
        return true;
    }
    recorded.accessed = now.accessed;
    take_record(state, entry.ino, recorded);
    return true;
}

bool take_over_link(DrainState& state, const SourceDirectory& directory, const SourceEntry& entry) {
    if (state.options.clones == nullptr || state.parent == nullptr) {
        return false;
    }
    const auto now = state.options.clones->link(entry.ino);
    if (!now || !is_same_link(*state.parent, *now)) {
        return false;
    }
    auto recorded = record_of(state, *now);
    const auto status = recorded ? state.options.clones->status_of(directory.fd.get(), entry.name) : std::nullopt;
    if (!status) {
        return false;
    }
    if (now->links > 1 && !state.claim_linked(entry.ino)) {
        return true;
    }
    recorded->links = now->links;
    recorded->accessed = inode_of(*status).accessed;
    take_record(state, entry.ino, *recorded);
    return true;
}

bool will_be_taken_over(const DrainState& state, int file, std::uint64_t ino) {
    if (state.parent == nullptr || state.parent->files == nullptr) {
        return false;
    }
    const auto before = state.parent->files->link(ino);
    return before && before->is_untouched(stat_fd(file)) && record_of(state, *before);
}

}  // namespace nodesnap
