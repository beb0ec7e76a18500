#include "snapshot/diff.h"

#include <optional>
#include <unordered_set>

#include "platform/error.h"
#include "snapshot/diff/names.h"
#include "snapshot/scratch.h"

namespace nodesnap {
namespace {

// Counts each file once, though it has several names; past a limit, once for each name.
class CountedFiles {
public:
    bool first(std::uint64_t ino, const Inode& inode) {
        if (inode.links < 2 || inode.type == FileType::kDirectory) {
            return true;
        }
        return seen_.size() >= kLimit ? !seen_.contains(ino) : seen_.insert(ino).second;
    }

private:
    static constexpr std::size_t kLimit = 65'536;
    std::unordered_set<std::uint64_t> seen_;
};

std::uint64_t file_bytes(const Inode& inode) {
    return inode.type == FileType::kRegular ? inode.size : 0;
}

// Turns names into changes of files.
class Teller {
public:
    Teller(const Repository& repository, const Manifest& before, const Manifest& after, bool all,
           const std::function<void(const PathChange&)>& each)
        : repository_(repository), before_(before), after_(after), inodes_(repository, before, after, all), each_(each) {}

    void removed(const NameChange& name) {
        PathChange change = begin(PathChange::Kind::kRemoved, name);
        change.hard_link = name.hard_link;
        change.files.ino_before = name.ino_before;
        change.files.before = inode_before(name);
        ++totals_.removed;
        if (!change.hard_link && counted_removed_.first(name.ino_before, change.files.before)) {
            totals_.removed_bytes += file_bytes(change.files.before);
        }
        each_(change);
    }

    void added(const NameChange& name) {
        PathChange change = begin(PathChange::Kind::kAdded, name);
        change.hard_link = name.hard_link;
        change.files.ino_after = name.ino_after;
        change.files.after = inode_after(name);
        ++totals_.added;
        if (!change.hard_link && counted_added_.first(name.ino_after, change.files.after)) {
            totals_.added_bytes += file_bytes(change.files.after);
        }
        each_(change);
    }

    // A name that both backups have.
    void same_name(const NameChange& before, const NameChange& after, bool by_path) {
        NameChange both = before;
        both.kind = NameChange::Kind::kSuspect;
        both.ino_after = after.ino_after;
        both.after = after.after;
        if (!pair(both, by_path)) {
            removed(before);
            added(after);
        }
    }

    // The same name, or, with kRenamed, the same file, in both backups. False if they are of different types, and so have nothing in
    // common.
    bool pair(const NameChange& name, bool by_path) {
        PathChange change = begin(PathChange::Kind::kContent, name);
        change.files = {name.ino_before, name.ino_after, inode_before(name), inode_after(name)};
        if (change.files.before.type != change.files.after.type) {
            return false;
        }
        const bool renamed = name.kind == NameChange::Kind::kRenamed;
        change.old_path = name.old_path;
        change.replaced = !by_path && (name.ino_before != name.ino_after || !same_file(change.files.before, change.files.after));
        compare(change);
        if (renamed) {
            change.kind = PathChange::Kind::kRenamed;
        } else if (change.damage.empty() && !change.change.content.changed) {
            if (!change.change.any()) {
                return true;
            }
            change.kind = PathChange::Kind::kAttributes;
        }
        count(change);
        each_(change);
        return true;
    }

    const DiffTotals& totals() const { return totals_; }

private:
    Inode inode_before(const NameChange& name) const {
        return name.before.empty() ? load_inode(repository_, before_, name.ino_before) : decode_inode(name.before);
    }

    Inode inode_after(const NameChange& name) const {
        return name.after.empty() ? load_inode(repository_, after_, name.ino_after) : decode_inode(name.after);
    }

    static PathChange begin(PathChange::Kind kind, const NameChange& name) {
        PathChange change;
        change.kind = kind;
        change.path = name.path;
        return change;
    }

    void compare(PathChange& change) {
        try {
            change.change = inodes_.compare(change.files);
        } catch (const Error& error) {
            if (error.status() != ExitStatus::kDamaged) {
                throw;
            }
            change.damage = error.message();
            ++totals_.damaged;
        }
    }

    void count(const PathChange& change) {
        ++(change.kind == PathChange::Kind::kRenamed   ? totals_.renamed
           : change.kind == PathChange::Kind::kContent ? totals_.content
                                                       : totals_.attributes);
        if (change.change.content.bytes != 0 && counted_changed_.first(change.files.ino_after, change.files.after)) {
            totals_.changed_bytes += change.change.content.bytes;
        }
    }

    const Repository& repository_;
    const Manifest& before_;
    const Manifest& after_;
    InodeDiff inodes_;
    const std::function<void(const PathChange&)>& each_;
    CountedFiles counted_removed_, counted_added_, counted_changed_;
    DiffTotals totals_;
};

// Whether one file has lost the name and another has taken it.
bool are_one_name(const NameChange& a, const NameChange& b) {
    const auto whole = [](const NameChange& name) {
        return name.kind == NameChange::Kind::kRemoved || name.kind == NameChange::Kind::kAdded;
    };
    return whole(a) && whole(b) && a.kind != b.kind && a.path == b.path;
}

}  // namespace

DiffTotals run_diff(const Repository& repository, const Manifest& before, const Manifest& after, const DiffOptions& options,
                    const std::function<void(const PathChange&)>& each) {
    const bool by_path = before.node.file_system_uuid != after.node.file_system_uuid;
    NameDiff names(repository, before, after, by_path, scratch_directory_or_default(options.scratch_directory));
    Teller teller(repository, before, after, options.all, each);
    NameChange name, ahead;
    bool have_ahead = names.next(ahead);
    while (have_ahead) {
        name = ahead;
        have_ahead = names.next(ahead);
        if (name.kind == NameChange::Kind::kRenamed) {
            teller.pair(name, by_path);
        } else if (name.kind == NameChange::Kind::kSuspect) {
            teller.same_name(name, name, by_path);
        } else if (have_ahead && are_one_name(name, ahead)) {
            const bool removed_first = name.kind == NameChange::Kind::kRemoved;
            teller.same_name(removed_first ? name : ahead, removed_first ? ahead : name, by_path);
            have_ahead = names.next(ahead);
        } else if (name.kind == NameChange::Kind::kRemoved) {
            teller.removed(name);
        } else {
            teller.added(name);
        }
    }
    DiffTotals totals = teller.totals();
    totals.by_path = by_path;
    return totals;
}

}  // namespace nodesnap
