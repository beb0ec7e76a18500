#include "snapshot/restore/delta_estimate.h"

#include <dirent.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <sys/stat.h>

#include <algorithm>
#include <optional>
#include <vector>

#include "platform/directory_stream.h"
#include "platform/file.h"
#include "platform/interrupt.h"
#include "snapshot/repository/tree_diff.h"
#include "snapshot/restore/basis.h"
#include "snapshot/restore/file.h"
#include "snapshot/restore/parts.h"
#include "snapshot/restore/trail.h"
#include "snapshot/tree_path.h"

namespace nodesnap {
namespace {

constexpr int kDirectory = O_RDONLY | O_DIRECTORY | O_NOFOLLOW;

bool is_file_name(const std::optional<Bytes>& dirent) {
    return dirent && decode_dirent(*dirent).type == FileType::kRegular;
}

// Counts the names that one side has only.
class Listing {
public:
    Listing(const Repository& repository, const Manifest& backup, int root, const std::vector<std::string>& keep, const FoundFile& removed)
        : repository_(repository), backup_(backup), root_(root), keep_(keep), each_removed_(removed) {}

    void wanted() { ++wanted_; }

    void look_through(const OpenDirectory& directory, std::uint64_t ino) {
        DirectoryStream stream(open_at(directory.fd.get(), ".", kDirectory), directory.place.path());
        DirectoryEntry found;
        while (stream.next(found)) {
            const mode_t type = type_of(directory.fd.get(), found);
            const auto stored = tree_find(repository_.nodes(), backup_.tree, key::dirent(ino, found.name));
            if (stored && type == type_bits(decode_dirent(*stored).type)) {
                present_ += type == S_IFREG ? 1 : 0;
            } else if (stored || ino != backup_.root_ino || std::find(keep_.begin(), keep_.end(), found.name) == keep_.end()) {
                foreign(directory.fd.get(), found.name, directory.place.whole_path_of(found.name), type);
            }
        }
    }

    DeltaDifference result() const { return {0, wanted_ - std::min(wanted_, present_), 0, removed_}; }

private:
    static mode_t type_of(int directory, const DirectoryEntry& entry) {
        if (entry.d_type != DT_UNKNOWN) {
            return DTTOIF(entry.d_type);
        }
        const auto status = stat_at(directory, entry.name);
        return status ? status->stx_mode & S_IFMT : 0;
    }

    void removed(int directory, const std::string& name) {
        ++removed_;
        if (each_removed_) {
            each_removed_(directory, name);
        }
    }

    void foreign(int directory, const std::string& name, const std::string& path, mode_t type) {
        if (type == S_IFREG) {
            removed(directory, name);
        }
        std::vector<std::string> waiting;
        if (type == S_IFDIR) {
            waiting.push_back(path);
        }
        while (!waiting.empty()) {
            throw_if_interrupted();
            const std::string below = std::move(waiting.back());
            waiting.pop_back();
            DirectoryStream stream(open_long(root_, below, kDirectory), below);
            DirectoryEntry found;
            while (stream.next(found)) {
                const mode_t kind = type_of(stream.fd(), found);
                if (kind == S_IFREG) {
                    removed(stream.fd(), found.name);
                }
                if (kind == S_IFDIR) {
                    waiting.push_back(below + '/' + found.name);
                }
            }
        }
    }

    const Repository& repository_;
    const Manifest& backup_;
    const int root_;
    const std::vector<std::string>& keep_;
    const FoundFile& each_removed_;
    std::uint64_t wanted_ = 0, present_ = 0, removed_ = 0;
};

}  // namespace

DataPart part_of_file(const NeededData& needed, const Inode& inode, const std::string& path, int present) {
    return [&needed, &inode, path, present](std::uint64_t begin, std::uint64_t length) {
        if (needed && length != 0) {
            needed(inode, path, present, begin, length);
        }
    };
}

DeltaDifference difference(const Repository& repository, const Manifest& backup, const Manifest& before, const NeededData& needed) {
    DeltaDifference result;
    TreeDiff trees(repository.nodes(), before.tree, backup.tree);
    TreeChange change;
    while (trees.next(change)) {
        throw_if_interrupted();
        if (key::parse(change.key).kind == key::Kind::kDirent) {
            const bool was = is_file_name(change.before);
            const bool is = is_file_name(change.after);
            result.created += !was && is ? 1 : 0;
            result.removed += was && !is ? 1 : 0;
            continue;
        }
        if (key::parse(change.key).kind != key::Kind::kInode || !change.after) {
            continue;
        }
        const auto after = decode_inode(*change.after);
        const auto held = change.before ? decode_inode(*change.before) : Inode{};
        if (after.type != FileType::kRegular) {
            continue;
        }
        // What is to become nodatacow, or no longer, can only while it is empty.
        const bool stays = held.type == FileType::kRegular && ((held.flags ^ after.flags) & FS_NOCOW_FL) == 0;
        const bool patched = stays && held.content.empty() && after.content.empty();
        const auto name = (patched ? kHeldLetter : kNewLetter) + std::to_string(key::parse(change.key).ino);
        const auto part = part_of_file(needed, after, name, -1);
        const bool same = stays && !after.content.empty() && held.content == after.content;
        const std::uint64_t bytes = patched ? data_in(RestoreParts(repository, after, held), part)
                                    : same  ? 0
                                            : data_of(repository, after, part);
        result.bytes += bytes;
        if (change.before && held.type == FileType::kRegular && (bytes != 0 || held.size != after.size)) {
            ++result.changed;
        }
    }
    return result;
}

DeltaDifference name_difference(const Repository& repository, const Manifest& backup, int root, const std::vector<std::string>& keep,
                                const FoundFile& removed) {
    Listing listing(repository, backup, root, keep, removed);
    RestoreTrail trail(open_at(root, ".", kDirectory));
    TreeWalker walker(repository, backup, backup.root_ino);
    TreeStep step;
    std::size_t missing = 0;  // levels below the last directory that is there
    while (walker.next(step)) {
        throw_if_interrupted();
        if (step.kind == TreeStep::Kind::kEnter) {
            const bool there = step.depth == 0 || (missing == 0 && trail.enter_if_directory(step.entry.name));
            missing += there ? 0 : 1;
            if (there) {
                listing.look_through(*trail.top(), step.entry.ino);
            }
        } else if (step.kind == TreeStep::Kind::kLeave && missing != 0) {
            --missing;
        } else if (step.kind == TreeStep::Kind::kLeave && step.depth != 0) {
            trail.leave();
        } else if (step.kind == TreeStep::Kind::kEntry && step.entry.type == FileType::kRegular) {
            listing.wanted();
        }
    }
    return listing.result();
}

}  // namespace nodesnap
