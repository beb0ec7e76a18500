#include "snapshot/drain/unchanged_file.h"

#include <optional>
#include <string>

#include "platform/file.h"
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
    if (!state.parent->stamp->is_unchanged(entry.ino, recorded, now)) {
        return false;
    }
    if (now.links > 1 && !state.claim_linked(entry.ino)) {
        return true;
    }
    recorded.accessed = now.accessed;
    take_xattrs(state, entry.ino, recorded.xattr_count);
    state.note_owner(now.uid, now.gid);
    state.catalog.add_inode(entry.ino, recorded);
    state.progress.files_total.fetch_add(1, std::memory_order_relaxed);
    state.progress.files_done.fetch_add(1, std::memory_order_relaxed);
    return true;
}

}  // namespace nodesnap
