#include "snapshot/restore/check.h"

#include <sys/stat.h>

#include <algorithm>
#include <limits>
#include <utility>

#include "platform/error.h"
#include "platform/file.h"
#include "platform/interrupt.h"
#include "snapshot/restore/file.h"
#include "snapshot/restore/plan.h"

namespace nodesnap {
namespace {

constexpr std::uint64_t kStatBlock = 512;

// Some file systems keep whole seconds, and not those of every year.
bool same_time(const Time& wanted, const statx_timestamp& found) {
    const bool held = wanted.seconds >= 0 && wanted.seconds <= std::numeric_limits<std::int32_t>::max();
    return !held || (wanted.seconds == found.tv_sec && (wanted.nanoseconds == found.tv_nsec || found.tv_nsec == 0));
}

// One look at all that is restored, in the order of the plan.
class Checking {
public:
    Checking(RestoreContext& context, const RestoreState& state)
        : context_(context), state_(state), loader_(context.repository, context.backup) {}

    // As it was left when it was finished.
    bool whole(const RestoreEntry& entry);
    bool large_as_left(const RestoreEntry& entry, const RestoreState::Large& left);
    std::uint64_t bytes() const { return bytes_; }

private:
    static std::optional<FileStatus> look(const RestoreEntry& entry);
    bool may_be_missing(FileType type) const;
    bool same(const RestoreEntry& entry, const Inode& inode, const FileStatus& status) const;

    RestoreContext& context_;
    const RestoreState& state_;
    InodeLoader loader_;
    std::uint64_t bytes_ = 0;
};

std::optional<FileStatus> Checking::look(const RestoreEntry& entry) {
    try {
        return stat_at(entry.directory->fd.get(), entry.name);
    } catch (const Error& error) {
        if (cannot_be_named(error.error_number())) {
            return std::nullopt;
        }
        throw;
    }
}

// What the destination couldn't hold has been told, and is missing for good.
bool Checking::may_be_missing(FileType type) const {
    const auto* what = type == FileType::kRegular ? kNameRefused : type == FileType::kSymlink ? kSymlinksRefused : kSpecialRefused;
    return std::any_of(state_.warnings.begin(), state_.warnings.end(), [what](const auto& group) { return group.what == what; });
}

bool Checking::same(const RestoreEntry& entry, const Inode& inode, const FileStatus& status) const {
    if ((status.stx_mode & S_IFMT) != type_bits(entry.type)) {
        return false;
    }
    switch (entry.type) {
        case FileType::kRegular:
            // One that a run was filling anew when it was cut off belongs to a batch that wasn't complete, and will be filled again.
            return (status.stx_size == inode.size && same_time(inode.modified, status.stx_mtime)) ||
                   (inode.links > 1 && context_.links.left_unfilled(entry.ino));
        case FileType::kSymlink:
            return status.stx_size == inode.content.size();
        case FileType::kCharacterDevice:
        case FileType::kBlockDevice:
            return status.stx_rdev_major == inode.device_major && status.stx_rdev_minor == inode.device_minor;
        default:
            return true;
    }
}

bool Checking::whole(const RestoreEntry& entry) {
    Inode inode;
    std::vector<NamedXattr> xattrs;
    loader_.load(entry.ino, entry.type, inode, xattrs);
    // Who owns what isn't restored again must be known as well: a name that this host doesn't have is told by every run.
    context_.owners.user(inode.uid);
    context_.owners.group(inode.gid);
    const auto status = look(entry);
    if (!status) {
        return may_be_missing(entry.type) || (inode.damaged && entry.type != FileType::kRegular);
    }
    if (!same(entry, inode, *status)) {
        return false;
    }
    if (entry.type == FileType::kRegular) {
        bytes_ += std::min<std::uint64_t>(status->stx_size, status->stx_blocks * kStatBlock);
    }
    return true;
}

bool Checking::large_as_left(const RestoreEntry& entry, const RestoreState::Large& left) {
    const auto status = look(entry);
    if (!status || status->stx_ino != left.ino) {
        return false;
    }
    if (left.offset == RestoreState::kWhole) {
        return whole(entry);
    }
    Inode inode;
    std::vector<NamedXattr> xattrs;
    loader_.load(entry.ino, entry.type, inode, xattrs);
    return S_ISREG(status->stx_mode) && status->stx_size == inode.size;
}

}  // namespace

void check_left(RestoreContext& context, const RestoreSelection& selection, int root, RestoreState& state) {
    const RestoreState left = state;
    const auto last_large = left.large.empty() ? 0 : RestoreBatch::batch_of(left.large.rbegin()->first) + 1;
    const auto end = std::max(left.batches, last_large);
    Checking checking(context, left);
    bool cut = false;
    const auto look = [&](std::uint64_t number, std::span<RestoreEntry> entries) {
        throw_if_interrupted();
        for (std::size_t i = 0; number < end && i < entries.size(); ++i) {
            const auto entry_number = number * RestoreBatch::kEntries + i;
            if (number < left.batches && !checking.whole(entries[i])) {
                cut = true;
                state.batches = number;
                return false;
            }
            const auto large = left.large.find(entry_number);
            if (number >= left.batches && large != left.large.end() && !checking.large_as_left(entries[i], large->second)) {
                state.large.erase(entry_number);
            }
        }
        return number + 1 < end;
    };
    if (end != 0) {
        RestorePlan(context, selection, root, look).run();
    }
    if (cut) {
        // Names that stay must be names of the same inodes as those that are made anew.
        state.batches = state.linked && !context.links.used() ? 0 : state.batches;
        state.large.clear();
        state.bytes = std::min(state.bytes, checking.bytes());
    }
}

void check_placed(RestoreContext& context, const RestoreSelection& selection, int root, const RestoreState& state,
                  const std::string& remedy) {
    Checking checking(context, state);
    const auto look = [&](std::uint64_t, std::span<RestoreEntry> entries) {
        throw_if_interrupted();
        for (const auto& entry : entries) {
            if (!checking.whole(entry)) {
                throw Error::failed("the restore was complete, but since then " + entry.path() + " was changed or removed", remedy);
            }
        }
        return true;
    };
    RestorePlan(context, selection, root, look, RestorePlan::Directories::kLookUp).run();
}

}  // namespace nodesnap
