#include "snapshot/backend/clone_index.h"

#include <fcntl.h>
#include <sys/stat.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <span>
#include <string_view>
#include <utility>

#include "platform/error.h"
#include "platform/file.h"
#include "platform/lease.h"
#include "snapshot/backend/clone_files.h"
#include "snapshot/backend/clone_origin.h"
#include "snapshot/backend/nameless_files.h"
#include "snapshot/backend/snapshot_folder.h"
#include "snapshot/repository/external_sorter.h"

namespace nodesnap {
namespace {

constexpr const char* kFile = "index";
constexpr std::size_t kSortMemory = 8U << 20;
constexpr std::size_t kWriteBytes = 64U << 10;

using Key = std::array<std::byte, 16>;  // number and generation, most significant byte first: as they are sorted

Key key_of(std::uint64_t ino, std::uint64_t generation) {
    Key key{};
    for (std::size_t i = 0; i < 8; ++i) {
        key[i] = static_cast<std::byte>(ino >> (56 - 8 * i));
        key[8 + i] = static_cast<std::byte>(generation >> (56 - 8 * i));
    }
    return key;
}

template <typename T>
std::string_view view_of(const T& value) {
    return {reinterpret_cast<const char*>(&value), sizeof(value)};
}

}  // namespace

// As it lies in the file. Read on the host that wrote it only, so in its own byte order.
struct CloneIndex::Record {
    Key key{};
    std::int64_t changed_seconds = 0;  // of the clone itself
    std::uint32_t changed_nanoseconds = 0;
    std::int32_t handle_type = 0;
    std::array<std::byte, FileHandle::kBytes> handle{};
    std::uint8_t handle_length = 0;
    std::array<std::uint8_t, 7> reserved{};

    FileHandle file_handle() const { return {handle_type, handle_length, handle}; }
    void set(const FileStatus& status, const FileHandle& of) {
        changed_seconds = status.stx_ctime.tv_sec;
        changed_nanoseconds = status.stx_ctime.tv_nsec;
        handle_type = of.type;
        handle_length = of.length;
        handle = of.bytes;
    }
    bool unchanged(const FileStatus& status) const {
        return status.stx_ctime.tv_sec == changed_seconds && status.stx_ctime.tv_nsec == changed_nanoseconds;
    }

    class Gather;
};

// Takes all regular files of the tree.
class CloneIndex::Record::Gather : public CloneFiles {
public:
    Gather(ExternalSorter& sorter, int directory) : sorter_(sorter), links_(directory) {}

private:
    void add(const SourceDirectory& directory, const std::string& name) override {
        const std::string path = directory.place.path_of(name);
        const FileDescriptor file = open_at(directory.fd.get(), name, O_PATH | O_NOFOLLOW);
        const FileStatus status = stat_fd(file.get(), path);
        const auto link = links_.exists() ? links_.find(status.stx_ino) : std::nullopt;
        if (const auto found = handle_of(file.get(), path)) {
            Record record;
            record.key = link ? key_of(link->ino, link->generation) : key_of_clone(file.get(), path);
            record.set(status, *found);
            sorter_.add(view_of(record.key), view_of(record));
        }
    }

    static Key key_of_clone(int file, const std::string& path) {
        const CloneOrigin origin = read_clone_origin(file, true, path);
        return key_of(origin.ino, origin.generation);
    }

    ExternalSorter& sorter_;
    const LinkIndex links_;
};

void CloneIndex::build(int tree, int directory, const std::string& path) {
    ExternalSorter sorter("/proc/self/fd/" + std::to_string(directory), kSortMemory);
    Record::Gather gather(sorter, directory);
    SourceWalk(tree, stat_fd(tree).stx_ino, ExcludeRules(), gather).run();
    const FileDescriptor file = open_at(directory, kFile, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, 0600);
    std::string pending;
    std::string last;
    const auto flush = [&] {
        write_all(file.get(), std::as_bytes(std::span(pending)), path);
        pending.clear();
    };
    for (std::string_view key, value; sorter.next(key, value);) {
        if (key == last) {
            continue;  // another name of the same
        }
        last = key;
        pending += value;
        if (pending.size() >= kWriteBytes) {
            flush();
        }
    }
    flush();
}

CloneIndex::CloneIndex(int directory, std::string node_directory, std::shared_ptr<const NamelessFiles> nameless)
    : directory_(open_at(directory, ".", O_RDONLY | O_DIRECTORY)),
      node_directory_(std::move(node_directory)),
      nameless_(std::move(nameless)),
      links_(directory) {
    static_assert(sizeof(Record) == 80);
    const int fd = try_open_long(directory, kFile, O_RDONLY | O_NOFOLLOW | O_NONBLOCK);
    if (fd >= 0) {
        file_.reset(fd);
        records_ = stat_fd(fd, kFile).stx_size / sizeof(Record);
    }
}

std::optional<CloneIndex::Record> CloneIndex::find(std::uint64_t ino, std::uint64_t generation) const {
    const Key wanted = key_of(ino, generation);
    for (std::uint64_t low = 0, high = records_; low < high;) {
        const std::uint64_t middle = low + (high - low) / 2;
        Record record;
        const auto bytes = std::as_writable_bytes(std::span(&record, 1));
        if (pread_some(file_.get(), bytes, middle * sizeof(Record), kFile) != sizeof(Record)) {
            return std::nullopt;
        }
        const int order = std::memcmp(record.key.data(), wanted.data(), wanted.size());
        if (order == 0) {
            return record;
        }
        if (order < 0) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return std::nullopt;
}

bool CloneIndex::is_as_it_was(const LinkRecord& link, std::uint64_t generation, const FileStatus& status) {
    return link.generation == generation &&
           (link.is_untouched(status) || (link.has_content_of(status) && status.stx_nlink != link.all_links));
}

int CloneIndex::try_open(int directory, const std::string& name, int flags) const noexcept {
    return nameless_ ? nameless_->try_open(directory, name, flags) : try_open_long(directory, name, flags);
}

std::optional<FileStatus> CloneIndex::status_of(int directory, const std::string& name) const {
    return nameless_ ? nameless_->status_of(directory, name) : stat_at(directory, name);
}

FileDescriptor CloneIndex::open_nameless(std::uint64_t ino, std::uint64_t generation) const {
    FileDescriptor file(nameless_->try_open(ino, O_RDONLY | O_NOATIME));
    if (!file) {
        return {};
    }
    if (const auto link = this->link(ino)) {
        return is_as_it_was(*link, generation, stat_fd(file.get(), kFile)) ? std::move(file) : FileDescriptor();
    }
    return read_clone_origin(file.get(), false, kFile).generation == generation ? std::move(file) : FileDescriptor();
}

FileDescriptor CloneIndex::open(std::uint64_t ino, std::uint64_t generation) const {
    try {
        if (nameless_) {
            return open_nameless(ino, generation);
        }
        const auto record = find(ino, generation);
        if (!record) {
            return {};
        }
        FileDescriptor file(try_open_handle(directory_.get(), record->file_handle(), O_RDONLY | O_NOFOLLOW | O_NOATIME | O_NONBLOCK));
        if (!file) {
            return {};
        }
        const FileStatus status = stat_fd(file.get(), kFile);
        if (!S_ISREG(status.stx_mode)) {
            return {};
        }
        if (const auto link = this->link(ino)) {
            return is_as_it_was(*link, generation, status) ? std::move(file) : FileDescriptor();
        }
        if (!record->unchanged(status)) {
            return {};
        }
        const CloneOrigin origin = read_clone_origin(file.get(), false, kFile);
        return origin.ino == ino && origin.generation == generation ? std::move(file) : FileDescriptor();
    } catch (const Error&) {
        return {};  // announced in the header
    }
}

std::uint64_t CloneIndex::number_of(int directory, const std::string& name, const std::string& path) const {
    if (nameless_) {
        if (const auto number = nameless_->number_of(directory, name)) {
            return *number;
        }
    } else if (links_.exists()) {
        const auto status = stat_at(directory, name);
        if (status && S_ISREG(status->stx_mode) && links_.find(status->stx_ino)) {
            return status->stx_ino;
        }
    }
    return read_clone_origin_at(directory, name, path).ino;
}

// A change of names changes the change time, too. It is the only change by the daemon that is let pass.
bool CloneIndex::was_renamed(const FileStatus& status, const LinkRecord& link, const std::string& path) const {
    if (status.stx_nlink != link.all_links) {
        return true;
    }
    constexpr std::size_t kLongest = 2000;
    if (path.size() > kLongest) {
        return false;  // what is longer is shown in part only
    }
    const auto there = stat_path(join_path(node_directory_, path), AT_SYMLINK_NOFOLLOW);
    return !there || there->stx_ino != status.stx_ino || device_of(*there) != device_of(status);
}

void CloneIndex::check_link(int file, const std::string& path) const {
    if (!links_.exists()) {
        return;
    }
    const ReadLease lease(file);
    const FileStatus status = stat_fd(file, path);
    const auto link = links_.find(status.stx_ino);
    if (!link) {
        return;
    }
    const bool is_open = lease.error() == EAGAIN;
    if (!is_open && (link->is_untouched(status) || (link->has_content_of(status) && was_renamed(status, *link, path)))) {
        return;
    }
    throw SpoiltSnapshot(Error::failed(
        "the snapshot isn't what the node was any more: " + path + (is_open ? " is open for writing" : " was changed") +
            ", although its name fits --immutable, so that the snapshot shares it with the node",
        "only files that are never written to again may fit --immutable: make the patterns narrower, or use --snapshot none"));
}

}  // namespace nodesnap
