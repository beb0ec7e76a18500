#include "snapshot/drain/source_walk.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>

#include "platform/error.h"
#include "platform/file.h"
#include "platform/interrupt.h"

namespace nodesnap {
namespace {

constexpr int kOpenDirectory = O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC;

std::uint8_t type_of_mode(std::uint16_t mode) {
    return static_cast<std::uint8_t>(IFTODT(mode));
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

SourceWalk::SourceWalk(int root, std::uint64_t root_ino, const ExcludeRules& excludes, Catalog& catalog, WorkQueue& queue,
                       UnreadableSink unreadable)
    : root_(root), root_ino_(root_ino), excludes_(excludes), catalog_(catalog), queue_(queue), unreadable_(std::move(unreadable)) {}

void SourceWalk::run() {
    enter("", root_ino_, open_long(root_, "", kOpenDirectory));
    while (!levels_.empty() && !queue_.aborted()) {
        interrupt::throw_if_interrupted();
        // Until the directory ends, or a child was entered, which is then on top.
        const std::size_t depth = levels_.size();
        bool more = true;
        while (more && levels_.size() == depth) {
            more = read_entry(levels_.back());
        }
        if (!more) {
            leave();
        }
    }
    queue_.close();
}

void SourceWalk::enter(const std::string& path, std::uint64_t ino, FileDescriptor fd) {
    ++directories_;
    if (levels_.size() >= kOpenLevels) {
        Level& upper = levels_[levels_.size() - kOpenLevels];
        if (upper.stream) {
            flush(upper);
            upper.cookie = upper.stream->cookie();
            upper.stream.reset();
            const auto closed = std::make_shared<SourceDirectory>();
            closed->ino = upper.directory->ino;
            closed->path = upper.directory->path;
            upper.directory = closed;
        }
    }
    Level level;
    level.directory = std::make_shared<SourceDirectory>();
    level.directory->ino = ino;
    level.directory->path = path;
    level.stream.emplace(open_long(fd.get(), "", kOpenDirectory), path);
    level.directory->fd = std::move(fd);
    levels_.push_back(std::move(level));
}

void SourceWalk::leave() {
    Level& level = levels_.back();
    if (level.directory->fd) {
        add_to_batch(level, SourceEntry{"", level.directory->ino, DT_DIR, level.incomplete});
        flush(level);
    } else {  // closed to save descriptors, and couldn't be opened again
        Inode inode;
        inode.type = FileType::kDirectory;
        inode.damaged = true;
        catalog_.add_inode(level.directory->ino, inode);
    }
    levels_.pop_back();
}

void SourceWalk::reopen(Level& level) {
    auto directory = std::make_shared<SourceDirectory>();
    directory->ino = level.directory->ino;
    directory->path = level.directory->path;
    directory->fd = open_long(root_, directory->path, kOpenDirectory);
    level.stream.emplace(open_long(directory->fd.get(), "", kOpenDirectory), directory->path);
    level.stream->seek(level.cookie);
    level.directory = std::move(directory);
}

// False at the end of the directory.
bool SourceWalk::read_entry(Level& level) {
    DirectoryEntry entry;
    try {
        if (!level.stream) {
            reopen(level);
        }
        if (!level.stream->next(entry)) {
            return false;
        }
    } catch (const Error& error) {
        unreadable_(level.directory->path.empty() ? "." : level.directory->path, error);
        level.incomplete = true;
        return false;
    }
    take_entry(level, entry);
    return true;
}

void SourceWalk::take_entry(Level& level, const DirectoryEntry& entry) {
    std::uint8_t type = entry.d_type;
    if (type == DT_UNKNOWN) {
        const auto status = stat_at(level.directory->fd.get(), entry.name);
        if (!status) {
            return;  // gone since it was listed: only in a directory that isn't a snapshot
        }
        type = type_of_mode(status->stx_mode);
    }
    const std::string path = child_path(level.directory->path, entry.name);
    if (!excludes_.empty() && excludes_.matches(path, type == DT_DIR)) {
        return;
    }
    catalog_.add_dirent(level.directory->ino, entry.name, Dirent{entry.ino, file_type_of(type)});
    if (type != DT_DIR) {
        add_to_batch(level, SourceEntry{entry.name, entry.ino, type, false});
        return;
    }
    try {
        enter(path, entry.ino, open_at(level.directory->fd.get(), entry.name, kOpenDirectory));
    } catch (const Error& error) {
        unreadable_(path, error);
        add_to_batch(level, SourceEntry{entry.name, entry.ino, type, true});  // its attributes at least
    }
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
        queue_.push(std::move(level.batch));
    }
}

}  // namespace nodesnap
