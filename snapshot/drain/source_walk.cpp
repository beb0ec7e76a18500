#include "snapshot/drain/source_walk.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>

#include <cerrno>

#include "platform/error.h"
#include "platform/file.h"
#include "platform/interrupt.h"
#include "snapshot/backend/clone_index.h"
#include "snapshot/backend/clone_origin.h"
#include "snapshot/drain/counterparts.h"

namespace nodesnap {
namespace {

constexpr int kOpenDirectory = O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC;

std::uint8_t type_of_mode(std::uint16_t mode) {
    return static_cast<std::uint8_t>(IFTODT(mode));
}

SourceDirectory without_descriptor(const SourceDirectory& directory) {
    return {FileDescriptor(), directory.ino, directory.place, directory.counterpart};
}

// To be listed, without a trace where that is allowed.
FileDescriptor open_listing(int directory, const std::string& path) {
    int fd = try_open_long(directory, "", kOpenDirectory | O_NOATIME);
    if (fd == -EPERM) {  // not the owner
        fd = try_open_long(directory, "", kOpenDirectory);
    }
    if (fd < 0) {
        throw Error::system("open", path, -fd);
    }
    return FileDescriptor(fd);
}

std::string child_path(const std::string& directory, const std::string& name) {
    return directory.empty() ? name : directory + '/' + name;
}

}  // namespace

FileType file_type_of(std::uint8_t d_type) {
    switch (d_type) {
        case DT_DIR:
            return FileType::kDirectory;
        case DT_LNK:
            return FileType::kSymlink;
        case DT_FIFO:
            return FileType::kFifo;
        case DT_SOCK:
            return FileType::kSocket;
        case DT_CHR:
            return FileType::kCharacterDevice;
        case DT_BLK:
            return FileType::kBlockDevice;
        default:
            return FileType::kRegular;
    }
}

SourceWalk::SourceWalk(int root, std::uint64_t root_ino, const ExcludeRules& excludes, SourceSink& sink, const Counterparts* counterparts,
                       const CloneIndex* clones)
    : root_(root), root_ino_(root_ino), excludes_(excludes), sink_(sink), counterparts_(counterparts), clones_(clones) {}

void SourceWalk::run() {
    enter("", root_ino_, open_long(root_, "", kOpenDirectory));
    find_counterpart("");
    while (!levels_.empty() && !sink_.stopped()) {
        // Until the directory ends, or a child was entered, which is then on top.
        const std::size_t depth = levels_.size();
        bool more = true;
        while (more && levels_.size() == depth) {
            interrupt::throw_if_interrupted();
            more = read_entry(levels_.back());
        }
        if (!more) {
            leave();
        }
    }
}

void SourceWalk::enter(const std::string& name, std::uint64_t ino, FileDescriptor fd) {
    if (levels_.size() >= kOpenLevels) {
        Level& upper = levels_[levels_.size() - kOpenLevels];
        if (upper.stream) {
            flush(upper);
            upper.cookie = upper.stream->cookie();
            upper.stream.reset();
            upper.directory = std::make_shared<SourceDirectory>(without_descriptor(*upper.directory));
        }
    }
    Level level;
    level.directory = std::make_shared<SourceDirectory>();
    level.directory->ino = ino;
    if (!levels_.empty()) {
        level.directory->place = DirectoryPlace(levels_.back().directory->place, name);
    }
    level.stream.emplace(open_listing(fd.get(), name), name);
    level.directory->fd = std::move(fd);
    level.path_length = path_.size();
    if (!name.empty()) {
        path_ += path_.empty() ? name : '/' + name;
    }
    levels_.push_back(std::move(level));
}

// Of the directory that was entered. Not part of that: what fails here is the repository's, not the source's.
void SourceWalk::find_counterpart(const std::string& name) {
    if (counterparts_ == nullptr) {
        return;
    }
    SourceDirectory& entered = *levels_.back().directory;
    if (levels_.size() == 1) {
        entered.counterpart = counterparts_->root();
    } else {
        entered.counterpart = counterparts_->directory(entered, levels_[levels_.size() - 2].directory->counterpart, name);
    }
}

void SourceWalk::leave() {
    Level& level = levels_.back();
    if (level.directory->fd) {
        add_to_batch(level, SourceEntry{"", level.directory->ino, DT_DIR, level.incomplete});
        flush(level);
    } else {  // closed to save descriptors, and couldn't be opened again
        sink_.lost(level.directory->ino);
    }
    const std::shared_ptr<SourceDirectory> left = level.directory;
    path_.resize(level.path_length);
    levels_.pop_back();
    if (!levels_.empty() && !levels_.back().stream) {
        reopen(levels_.back(), *left);
    }
}

std::uint64_t SourceWalk::number_of(int directory) const {
    return clones_ != nullptr ? read_clone_origin(directory, false, path_).ino : stat_fd(directory).stx_ino;
}

// From below, so that a deep tree doesn't cost a walk from its root for each level; from the root if that isn't where it was any more.
FileDescriptor SourceWalk::open_parent(const SourceDirectory& child, std::uint64_t ino) const {
    if (child.fd) {
        FileDescriptor parent(::openat(child.fd.get(), "..", kOpenDirectory));
        if (parent && number_of(parent.get()) == ino) {
            return parent;
        }
    }
    return open_long(root_, path_, kOpenDirectory);
}

void SourceWalk::reopen(Level& level, const SourceDirectory& child) {
    try {
        auto directory = std::make_shared<SourceDirectory>(without_descriptor(*level.directory));
        directory->fd = open_parent(child, directory->ino);
        level.stream.emplace(open_listing(directory->fd.get(), path_), path_);
        level.stream->seek(level.cookie);
        level.directory = std::move(directory);
    } catch (const Error& error) {
        level.stream.reset();
        sink_.unreadable(path_.empty() ? "." : path_, error);
        level.incomplete = true;
    }
}

// False at the end of the directory.
bool SourceWalk::read_entry(Level& level) {
    DirectoryEntry entry;
    if (!level.stream) {
        return false;  // it couldn't be opened again
    }
    try {
        if (!level.stream->next(entry)) {
            return false;
        }
    } catch (const Error& error) {
        sink_.unreadable(path_.empty() ? "." : path_, error);
        level.incomplete = true;
        return false;
    }
    take_entry(level, entry);
    return true;
}

// Of what the clone is of. False if that can't be told: without a number nothing can be said of it.
bool SourceWalk::find_number(Level& level, DirectoryEntry& entry) const {
    const std::string path = child_path(path_, entry.name);
    try {
        entry.ino = clones_->number_of(level.directory->fd.get(), entry.name, path);
        return true;
    } catch (const Error& error) {
        sink_.unreadable(path, error);
        level.incomplete = true;
        return false;
    }
}

void SourceWalk::take_entry(Level& level, DirectoryEntry& entry) {
    std::uint8_t type = entry.d_type;
    if (type == DT_UNKNOWN) {
        const auto status = stat_at(level.directory->fd.get(), entry.name);
        if (!status) {
            return;  // gone since it was listed: only in a directory that isn't a snapshot
        }
        type = type_of_mode(status->stx_mode);
    }
    if (!excludes_.empty() && excludes_.matches(child_path(path_, entry.name), type == DT_DIR)) {
        return;
    }
    if (clones_ != nullptr && !find_number(level, entry)) {
        return;
    }
    sink_.found(level.directory->ino, entry.name, Dirent{entry.ino, file_type_of(type)});
    if (type == DT_DIR) {
        take_directory(level, entry);
    } else {
        add_to_batch(level, SourceEntry{entry.name, entry.ino, type, false});
    }
}

void SourceWalk::take_directory(Level& level, const DirectoryEntry& entry) {
    try {
        enter(entry.name, entry.ino, open_at(level.directory->fd.get(), entry.name, kOpenDirectory));
    } catch (const Error& error) {
        sink_.unreadable(child_path(path_, entry.name), error);
        add_to_batch(level, SourceEntry{entry.name, entry.ino, DT_DIR, true});  // its attributes at least
        return;
    }
    find_counterpart(entry.name);
}

void SourceWalk::add_to_batch(Level& level, SourceEntry entry) {
    if (!level.batch) {
        level.batch = std::make_unique<Batch>();
        level.batch->directory = level.directory;
        level.batch->entries.reserve(kBatchEntries);
    }
    level.batch->entries.push_back(std::move(entry));
    if (level.batch->entries.size() == kBatchEntries) {
        flush(level);
    }
}

void SourceWalk::flush(Level& level) {
    if (level.batch) {
        sink_.take(std::move(level.batch));
    }
}

}  // namespace nodesnap
