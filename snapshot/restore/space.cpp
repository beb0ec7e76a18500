#include "snapshot/restore/space.h"

#include <algorithm>

#include "io/units.h"
#include "platform/error.h"
#include "platform/file.h"
#include "platform/file_system.h"
#include "platform/interrupt.h"
#include "snapshot/restore/trail.h"

namespace nodesnap {
namespace {

constexpr int kDirectory = O_RDONLY | O_DIRECTORY | O_NOFOLLOW;
constexpr std::uint64_t kStatBlock = 512;

// The space that entries of the backup hold in the staged content. Asked of the file system, since the state knows only of what was durable
// at the last checkpoint, and of no space that was allocated beforehand.
class StagedSpace {
public:
    StagedSpace(const Repository& repository, const Manifest& backup, const RestorePlace& place)
        : repository_(repository),
          backup_(backup),
          root_(open_path(place.in_place ? place.destination : place.content_path(), kDirectory)),
          own_names_(place.left && stat_at(root_.get(), place.left->links) ? 1 : 0) {}

    std::uint64_t of(const RestoreSelection& selection) {
        for (const auto& part : selection.parts) {
            add(part);
        }
        return bytes_;
    }

private:
    void add(const RestoreSelection::Part& part);
    void add(const RestoreTrail& trail, const std::string& name);
    void add(const FileStatus& status);

    const Repository& repository_;
    const Manifest& backup_;
    FileDescriptor root_;
    std::uint64_t own_names_;  // of each inode with several: the one in the directory of links
    std::uint64_t bytes_ = 0;
};

void StagedSpace::add(const FileStatus& status) {
    const auto names = S_ISDIR(status.stx_mode) || status.stx_nlink < 2 ? 1 : status.stx_nlink - own_names_;
    bytes_ += status.stx_blocks * kStatBlock / names;
}

void StagedSpace::add(const RestoreTrail& trail, const std::string& name) {
    try {
        if (const auto status = stat_at(trail.top()->fd.get(), name)) {
            add(*status);
        }
    } catch (const Error& error) {
        if (!cannot_be_named(error.error_number())) {
            throw;
        }
    }
}

void StagedSpace::add(const RestoreSelection::Part& part) {
    RestoreTrail trail(open_at(root_.get(), ".", kDirectory));
    for (std::size_t i = 0; i + 1 < part.components.size(); ++i) {
        if (trail.enter(part.components[i], false) != 0) {
            return;
        }
    }
    const auto name = part.components.empty() ? std::string() : part.components.back();
    if (part.type != FileType::kDirectory) {
        add(trail, name);
        return;
    }
    TreeWalker walker(repository_, backup_, part.ino);
    TreeStep step;
    bool missing = false;  // the directory just entered
    while (walker.next(step)) {
        const auto& called = step.depth == 0 ? name : step.entry.name;
        if (step.kind == TreeStep::Kind::kEntry) {
            add(trail, called);
        } else if (step.kind == TreeStep::Kind::kEnter && !called.empty()) {
            throw_if_interrupted();
            missing = trail.enter(called, false) != 0;
            if (missing) {
                walker.skip();
            } else {
                add(stat_fd(trail.top()->fd.get()));
            }
        } else if (step.kind == TreeStep::Kind::kLeave && !called.empty()) {
            if (!missing) {
                trail.leave();
            }
            missing = false;
        }
    }
}

std::uint64_t staged_space(const Repository& repository, const Manifest& backup, const RestoreSelection& selection,
                           const RestorePlace& place) {
    if (!place.in_place && (!place.left || !stat_path(place.content_path(), AT_SYMLINK_NOFOLLOW))) {
        return 0;
    }
    return StagedSpace(repository, backup, place).of(selection);
}

}  // namespace

void require_space(const Repository& repository, const Manifest& backup, const RestoreSelection& selection, const RestorePlace& place,
                   const RestoreNeeds& needs) {
    const auto file_system = file_system_of(place.parent);
    if (place.clones()) {
        // How much differs nobody knows yet. A clone that finds no room leaves what is there as it is.
        return;
    }
    const auto lacking = [&](std::uint64_t there) {
        const auto missing = needs.required_bytes - std::min(needs.required_bytes, there);
        return missing > file_system.free_bytes ? missing : 0;
    };
    // Only where it matters is all that is staged looked at.
    auto missing = lacking(0);
    if (missing != 0) {
        missing = lacking(staged_space(repository, backup, selection, place));
    }
    if (missing != 0) {
        throw Error::refused("not enough space: the restore needs " + human_bytes(missing) + ", but " + place.parent + " has only " +
                                 human_bytes(file_system.free_bytes) + " free",
                             "make room, or give another destination; --allow-low-space tries it all the same");
    }
    if (!place.left && file_system.total_inodes != 0 && needs.inodes > file_system.free_inodes) {
        throw Error::refused("the restore makes " + std::to_string(needs.inodes) + " files and directories, but " + place.parent +
                                 " has only " + std::to_string(file_system.free_inodes) + " inodes free",
                             "give another destination; --allow-low-space tries it all the same");
    }
}

void require_space_of_clone(const RestorePlace& place, std::uint64_t bytes) {
    const auto file_system = file_system_of(place.parent);
    if (bytes > file_system.free_bytes) {
        throw Error::refused("not enough space: the clone gets " + human_bytes(bytes) + " that differ, but " + place.parent + " has only " +
                                 human_bytes(file_system.free_bytes) + " free",
                             "make room; the directory is as it was. --allow-low-space tries it all the same");
    }
}

}  // namespace nodesnap
