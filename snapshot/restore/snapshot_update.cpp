#include "snapshot/restore/snapshot_update.h"

#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "platform/btrfs.h"
#include "platform/btrfs_tree.h"
#include "platform/entry.h"
#include "platform/error.h"
#include "platform/fault.h"
#include "platform/file.h"
#include "platform/interrupt.h"
#include "snapshot/restore/file.h"
#include "snapshot/restore/remove_foreign.h"
#include "snapshot/restore/remove_tree.h"

namespace nodesnap {
namespace {

constexpr int kDirectory = O_RDONLY | O_DIRECTORY | O_NOFOLLOW;
constexpr int kAny = O_PATH | O_NOFOLLOW;

std::string held_name(std::uint64_t ino) {
    return kHeldLetter + std::to_string(ino);
}
std::string new_name(std::uint64_t ino) {
    return kNewLetter + std::to_string(ino);
}
// A symlink to nowhere, whose target is the number that a new directory got in the clone: so it is found wherever it is by then.
std::string number_name(std::uint64_t ino) {
    return "=" + std::to_string(ino);
}

std::string shown(std::uint64_t ino) {
    return "inode " + std::to_string(ino) + " of the clone";
}

Error not_as_stored(const std::string& what) {
    return Error::failed("the local snapshot isn't what its backup says: " + what, "restore with --no-snapshot, and please report this");
}

std::optional<Inode> inode_of(const std::optional<Bytes>& value) {
    return value ? std::optional(decode_inode(*value)) : std::nullopt;
}

}  // namespace

// Goes through what differs, and tells each inode once. Where only names or attributes of one differ, its records are looked up.
class SnapshotUpdate::TouchedInodes {
public:
    TouchedInodes(NodeReader& nodes, const Manifest& before, const Manifest& after)
        : nodes_(nodes), before_(before), after_(after), trees_(nodes, before.tree, after.tree), more_(trees_.next(change_)) {}

    bool next(Touched& touched) {
        while (more_ && is_owner()) {
            more_ = trees_.next(change_);
        }
        if (!more_) {
            return false;
        }
        touched = {key::parse(change_.key).ino, {}, {}};
        const bool record = key::parse(change_.key).kind == key::Kind::kInode;
        touched.before = inode_of(record ? change_.before : tree_find(nodes_, before_.tree, key::inode(touched.ino)));
        touched.after = inode_of(record ? change_.after : tree_find(nodes_, after_.tree, key::inode(touched.ino)));
        do {
            more_ = trees_.next(change_);
        } while (more_ && (is_owner() || key::parse(change_.key).ino == touched.ino));
        throw_if_interrupted();
        return true;
    }

private:
    bool is_owner() const {
        const auto kind = key::parse(change_.key).kind;
        return kind == key::Kind::kUser || kind == key::Kind::kGroup;
    }

    NodeReader& nodes_;
    const Manifest& before_;
    const Manifest& after_;
    TreeDiff trees_;
    TreeChange change_;
    bool more_;
};

SnapshotUpdate::SnapshotUpdate(RestoreContext& context, const Manifest& before, int root)
    : context_(context), before_(before), root_(root), subvolume_(btrfs::subvolume_id(root)), limbo_name_(".nodesnap-limbo") {
    AttributeWriter::unseal(root);
    while (stat_at(root, limbo_name_) ||
           tree_find(context.repository.nodes(), context.backup.tree, key::dirent(context.backup.root_ino, limbo_name_))) {
        limbo_name_ += "-";
    }
    if (const int error = entry::make_directory(root, limbo_name_, 0700); error != 0) {
        throw Error::system("make the directory", limbo_name_, error);
    }
    limbo_ = std::make_shared<OpenDirectory>(OpenDirectory{open_at(root, limbo_name_, kDirectory), {}});
    // What is made in it is to inherit nothing but the flags that new files expect.
    context.attributes.before_entries(limbo_->fd.get(), [this] { return limbo_name_; });
}

void SnapshotUpdate::for_each_name(
    const std::function<void(std::uint64_t directory, const std::string& name, const std::optional<Dirent>& before,
                             const std::optional<Dirent>& after)>& each) {
    TreeDiff trees(context_.repository.nodes(), before_.tree, context_.backup.tree);
    TreeChange change;
    while (trees.next(change)) {
        const auto parts = key::parse(change.key);
        if (parts.kind != key::Kind::kDirent) {
            continue;
        }
        const auto entry_of = [](const std::optional<Bytes>& value) { return value ? std::optional(decode_dirent(*value)) : std::nullopt; };
        const auto before = entry_of(change.before);
        const auto after = entry_of(change.after);
        if (before != after) {
            throw_if_interrupted();
            each(parts.ino, std::string(parts.name), before, after);
        }
    }
}

FileDescriptor SnapshotUpdate::open_held(std::uint64_t ino, int flags) const {
    const int fd = btrfs::try_open_inode(root_, subvolume_, ino, 0, flags);
    if (fd < 0) {
        throw not_as_stored("it has no " + shown(ino) + " (errno " + std::to_string(-fd) + ")");
    }
    return FileDescriptor(fd);
}

// One that both backups have, or a new one, wherever it is. Ready to be changed.
const FileDescriptor& SnapshotUpdate::directory(std::uint64_t ino) {
    if (directory_ino_ != ino || !directory_) {
        std::uint64_t number = ino;
        if (stat_at(limbo_->fd.get(), number_name(ino))) {
            number = std::stoull(read_link(limbo_->fd.get(), number_name(ino)));
        }
        directory_ = open_held(number, kDirectory);
        directory_ino_ = ino;
        AttributeWriter::unseal(directory_.get());
    }
    return directory_;
}

void SnapshotUpdate::take_names() {
    for_each_name([this](std::uint64_t directory, const std::string& name, const auto& before, const auto&) {
        if (before) {
            take_name(this->directory(directory).get(), name, *before);
        }
    });
    directory_.reset();
    fault::step("restore.names-taken");
}

void SnapshotUpdate::take_name(int directory, const std::string& name, const Dirent& entry) {
    const int limbo = limbo_->fd.get();
    const auto taken = held_name(entry.ino);
    const auto status = stat_at(directory, name);
    if (!status || status->stx_ino != entry.ino || (status->stx_mode & S_IFMT) != type_bits(entry.type)) {
        throw not_as_stored(name + " isn't " + shown(entry.ino));
    }
    const auto take = [&] { return stat_at(limbo, taken) ? entry::remove(directory, name) : entry::rename(directory, name, limbo, taken); };
    int error = take();
    if (error == EPERM && (entry.type == FileType::kRegular || entry.type == FileType::kDirectory)) {
        context_.sealed = AttributeWriter::unseal(open_held(entry.ino, O_RDONLY | O_NOFOLLOW).get()) || context_.sealed;
        error = take();
    }
    if (error != 0) {
        throw Error::system("take away", name, error);
    }
}

bool SnapshotUpdate::possible(const Repository& repository, const Manifest& before, const Manifest& after) {
    TouchedInodes inodes(repository.nodes(), before, after);
    Touched touched;
    while (inodes.next(touched)) {
        throw_if_interrupted();
        if (!touched.is_changeable()) {
            return false;
        }
    }
    return true;
}

// Anything but a regular file or a directory can't become another one of the same number and type: a symlink has its target, a device its
// numbers for good. It happens only where the number was given anew.
bool SnapshotUpdate::Touched::is_changeable() const {
    if (!before || !after || before->type != after->type) {
        return true;
    }
    const bool other_symlink = after->type == FileType::kSymlink && before->content != after->content;
    return !other_symlink && before->device_major == after->device_major && before->device_minor == after->device_minor;
}

void SnapshotUpdate::name_new_directory(std::uint64_t ino) {
    const int limbo = limbo_->fd.get();
    if (const int error = entry::make_directory(limbo, new_name(ino), 0700); error != 0) {
        throw Error::system("make the directory", new_name(ino), error);
    }
    const auto number = std::to_string(stat_at(limbo, new_name(ino))->stx_ino);
    if (const int error = entry::make_symlink(number, limbo, number_name(ino)); error != 0) {
        throw Error::system("make", number_name(ino), error);
    }
}

RestoreEntry SnapshotUpdate::file_entry(const Touched& touched) {
    const auto type = touched.after->type;
    if (touched.is_new()) {
        return {limbo_, new_name(touched.ino), touched.ino, type};
    }
    if (type != FileType::kRegular) {
        if (!touched.is_changeable()) {
            throw Error::failed(shown(touched.ino) + " was given anew since the local snapshot was taken", "restore with --no-snapshot");
        }
    } else {
        AttributeWriter::unseal(open_held(touched.ino, O_RDONLY | O_NOFOLLOW).get());
    }
    const auto name = held_name(touched.ino);
    if (!stat_at(limbo_->fd.get(), name)) {
        if (const int error = entry::link_open(open_held(touched.ino, kAny).get(), limbo_->fd.get(), name); error != 0) {
            throw Error::system("link", shown(touched.ino), error);
        }
    }
    return {limbo_, name, touched.ino, type};
}

void SnapshotUpdate::make_files(const RestorePlan::Sink& sink) {
    TouchedInodes inodes(context_.repository.nodes(), before_, context_.backup);
    Touched touched;
    std::vector<RestoreEntry> batch;
    std::uint64_t number = 0;
    bool more = inodes.next(touched);
    while (more) {
        if (touched.after && touched.after->type != FileType::kDirectory) {
            batch.push_back(file_entry(touched));
        } else if (touched.is_new()) {
            name_new_directory(touched.ino);
        }
        more = inodes.next(touched);
        if (batch.size() == RestoreBatch::kEntries || (!more && !batch.empty())) {
            if (!sink(number++, batch)) {
                return;
            }
            batch.clear();
        }
    }
}

void SnapshotUpdate::give_names() {
    fault::step("restore.files-made");
    for_each_name([this](std::uint64_t directory, const std::string& name, const auto&, const auto& after) {
        if (after) {
            give_name(this->directory(directory).get(), name, *after);
        }
    });
    directory_.reset();
    fault::step("restore.names-given");
}

void SnapshotUpdate::give_name(int directory, const std::string& name, const Dirent& entry) {
    const int limbo = limbo_->fd.get();
    const bool fresh = stat_at(limbo, new_name(entry.ino)).has_value();
    const auto give = [&] {
        if (entry.type == FileType::kDirectory) {
            return entry::rename(limbo, fresh ? new_name(entry.ino) : held_name(entry.ino), directory, name);
        }
        if (fresh || stat_at(limbo, held_name(entry.ino))) {
            return entry::link(limbo, fresh ? new_name(entry.ino) : held_name(entry.ino), directory, name);
        }
        return entry::link_open(open_held(entry.ino, kAny).get(), directory, name);
    };
    int error = give();
    // All names of the snapshot's backup that change have been taken away: what is still in the way is one that it left out.
    if (error != 0 && !before_.excludes.empty() && stat_at(directory, name)) {
        remove_entry(directory, name, name);
        error = give();
    }
    if (error != 0) {
        throw Error::system("give its name to", name, error);
    }
}

void SnapshotUpdate::finish_directory(int fd, std::uint64_t ino, const PathSource& path) {
    const auto inode = load_inode(context_.repository, context_.backup, ino, FileType::kDirectory);
    context_.attributes.before_patch(fd, ino, inode, path);
    context_.attributes.apply(fd, ino, inode, nullptr, path);
    if (AttributeWriter::needs_seal(inode)) {
        context_.sealed = true;
    }
}

void SnapshotUpdate::finish() {
    if (!before_.excludes.empty()) {
        remove_foreign(context_, root_, {limbo_name_},
                       [this](int fd, std::uint64_t ino, const PathSource& path) { finish_directory(fd, ino, path); });
    }
    TouchedInodes inodes(context_.repository.nodes(), before_, context_.backup);
    Touched touched;
    while (inodes.next(touched)) {
        const auto ino = touched.ino;
        if (touched.after && touched.after->type == FileType::kDirectory && ino != context_.backup.root_ino) {
            finish_directory(directory(ino).get(), ino, [ino] { return shown(ino); });
        }
    }
    directory_.reset();
    limbo_.reset();
    remove_tree(root_, limbo_name_, limbo_name_);
    finish_directory(root_, context_.backup.root_ino, [] { return std::string("the node directory"); });
    fault::step("restore.updated");
}

}  // namespace nodesnap
