#include "platform/btrfs.h"

#include <btrfsutil.h>
#include <fcntl.h>
#include <linux/btrfs.h>
#include <linux/magic.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <climits>
#include <condition_variable>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <mutex>
#include <thread>

#include "platform/btrfs_search.h"
#include "platform/error.h"
#include "platform/fault.h"
#include "platform/file.h"
#include "platform/mount.h"

namespace nodesnap::btrfs {
namespace {

constexpr std::uint64_t kSubvolumeRootIno = 256;  // BTRFS_FIRST_FREE_OBJECTID
constexpr std::uint64_t kRootReadOnly = 1;        // BTRFS_ROOT_SUBVOL_RDONLY, as stored

// libbtrfsutil sets errno in every call that fails; its own code says no more than the operation does.
void check(btrfs_util_error error, const char* operation, const std::string& path) {
    if (error != BTRFS_UTIL_OK) {
        throw Error::system(operation, path, errno != 0 ? errno : EINVAL);
    }
}

void inject(const char* point, const char* operation, const std::string& path) {
    if (const int error = fault::inject(point)) {
        throw Error::system(operation, path, error);
    }
}

std::string fd_name(int fd) {
    return "descriptor " + std::to_string(fd);
}

FileDescriptor open_directory(const std::string& path) {
    return open_path(path, O_RDONLY | O_DIRECTORY);
}

std::string parent_of(const std::string& absolute) {
    const std::size_t slash = absolute.rfind('/');
    return slash == 0 ? "/" : absolute.substr(0, slash);
}

// Of a directory, from the root of its subvolume, however it is mounted. Needs CAP_SYS_ADMIN.
std::string path_by_inode(const std::string& directory) {
    const FileDescriptor fd = open_directory(directory);
    btrfs_ioctl_ino_lookup_args arguments{};
    arguments.objectid = stat_fd(fd.get(), directory).stx_ino;
    if (::ioctl(fd.get(), BTRFS_IOC_INO_LOOKUP, &arguments) != 0) {
        throw Error::system("find the place in its subvolume of", directory, errno);
    }
    std::string path(arguments.name, ::strnlen(arguments.name, sizeof(arguments.name)));
    while (path.ends_with('/')) {
        path.pop_back();
    }
    return path;
}

}  // namespace

bool is_btrfs(int fd) {
    struct statfs status {};
    if (::fstatfs(fd, &status) != 0) {
        throw Error::system("stat the file system of", fd_name(fd), errno);
    }
    return static_cast<unsigned long>(status.f_type) == BTRFS_SUPER_MAGIC;
}

bool is_btrfs(const std::string& path) {
    return is_btrfs(open_path(path, O_PATH).get());
}

std::string fs_uuid(int fd) {
    btrfs_ioctl_fs_info_args info{};
    if (::ioctl(fd, BTRFS_IOC_FS_INFO, &info) != 0) {
        throw Error::system("read the UUID of the btrfs of", fd_name(fd), errno);
    }
    static constexpr char kDigits[] = "0123456789abcdef";
    std::string text;
    for (std::size_t i = 0; i < sizeof(info.fsid); ++i) {
        if (i == 4 || i == 6 || i == 8 || i == 10) {
            text += '-';
        }
        text += kDigits[info.fsid[i] >> 4];
        text += kDigits[info.fsid[i] & 15];
    }
    return text;
}

bool is_subvolume(int fd) {
    struct stat status {};
    if (::fstat(fd, &status) != 0) {
        throw Error::system("stat", fd_name(fd), errno);
    }
    return S_ISDIR(status.st_mode) && status.st_ino == kSubvolumeRootIno && is_btrfs(fd);
}

std::uint64_t subvolume_id(int fd) {
    std::uint64_t id = 0;
    check(btrfs_util_subvolume_id_fd(fd, &id), "find the subvolume of", fd_name(fd));
    return id;
}

SubvolumeInfo subvolume_info(int fd) {
    return subvolume_info(fd, 0);  // its own
}

SubvolumeInfo subvolume_info(int fd, std::uint64_t id) {
    struct btrfs_util_subvolume_info from {};
    check(btrfs_util_subvolume_info_fd(fd, id, &from), "read the subvolume's description of", fd_name(fd));
    SubvolumeInfo info;
    info.id = from.id;
    info.parent_id = from.parent_id;
    std::copy(std::begin(from.uuid), std::end(from.uuid), info.uuid.begin());
    std::copy(std::begin(from.parent_uuid), std::end(from.parent_uuid), info.parent_uuid.begin());
    info.generation = from.generation;
    info.otransid = from.otransid;
    info.ctransid = from.ctransid;
    info.created_ns = std::int64_t{from.otime.tv_sec} * 1'000'000'000 + from.otime.tv_nsec;
    info.read_only = (from.flags & kRootReadOnly) != 0;
    return info;
}

Place place_of(const std::string& directory) {
    const std::string resolved = resolve_path(directory);
    const std::string mount_point = mount_of(resolved).mount_point;
    // Upwards until the subvolume's root; beyond the mount's root the path leads elsewhere.
    for (std::string current = resolved;; current = parent_of(current)) {
        if (is_subvolume(open_path(current, O_PATH).get())) {
            return {current, current == resolved ? "" : resolved.substr(current == "/" ? 1 : current.size() + 1)};
        }
        if (current == mount_point || current == "/") {
            return {"", path_by_inode(resolved)};
        }
    }
}

std::string subvolume_root_of(const std::string& path) {
    struct stat status {};
    const std::string resolved = resolve_path(path);
    const bool is_directory = ::stat(resolved.c_str(), &status) == 0 && S_ISDIR(status.st_mode);
    std::string root = place_of(is_directory ? resolved : parent_of(resolved)).subvolume_root;
    if (root.empty()) {
        throw Error::refused("the root of the subvolume that holds " + path + " is not mounted",
                             "mount the whole subvolume instead of a folder of it");
    }
    return root;
}

void create_snapshot(int source, int parent_directory, const std::string& name, bool read_only) {
    inject("snapshot", "create the snapshot", name);
    const int flags = read_only ? BTRFS_UTIL_CREATE_SNAPSHOT_READ_ONLY : 0;
    check(btrfs_util_create_snapshot_fd2(source, parent_directory, name.c_str(), flags, nullptr, nullptr), "create the snapshot", name);
}

void create_subvolume(int parent_directory, const std::string& name) {
    inject("subvolume", "create the subvolume", name);
    check(btrfs_util_create_subvolume_fd(parent_directory, name.c_str(), 0, nullptr, nullptr), "create the subvolume", name);
}

void delete_subvolume(int parent_directory, const std::string& name) {
    inject("delete_subvolume", "delete the subvolume", name);
    check(btrfs_util_delete_subvolume_fd(parent_directory, name.c_str(), 0), "delete the subvolume", name);
}

namespace {

// The call that starts a commit sets a flag, wakes the kernel's thread, and waits until that has begun. But the thread may have looked at
// the flag just before it went to sleep: then it all waits for the commit that is due every 30 s (seen where several processes commit at
// once). So it is woken again, now and then, while somebody waits.
class Nudge {
public:
    explicit Nudge(int fd) : fd_(fd), thread_([this] { run(); }) {}
    Nudge(const Nudge&) = delete;
    Nudge& operator=(const Nudge&) = delete;
    ~Nudge() {
        {
            const std::scoped_lock lock(mutex_);
            done_ = true;
        }
        changed_.notify_one();
        thread_.join();
    }

private:
    void run() {
        constexpr std::chrono::milliseconds kBetween{250};
        std::unique_lock lock(mutex_);
        while (!changed_.wait_for(lock, kBetween, [this] { return done_; })) {
            std::uint64_t ignored = 0;
            btrfs_util_start_sync_fd(fd_, &ignored);
        }
    }

    const int fd_;
    std::mutex mutex_;
    std::condition_variable changed_;
    bool done_ = false;
    std::thread thread_;  // the last: it uses the others
};

}  // namespace

void commit(int fd, const std::string& path) {
    inject("btrfs_commit", "commit the changes of the file system of", path);
    std::uint64_t transaction = 0;
    const Nudge nudge(fd);
    check(btrfs_util_start_sync_fd(fd, &transaction), "commit the changes of the file system of", path);
    check(btrfs_util_wait_sync_fd(fd, transaction), "commit the changes of the file system of", path);
}

void set_read_only(int subvolume, bool read_only) {
    check(btrfs_util_set_subvolume_read_only_fd(subvolume, read_only), "change the read-only flag of", fd_name(subvolume));
}

std::vector<std::string> nested_subvolumes_below(const std::string& directory) {
    const FileDescriptor fd = open_directory(directory);
    const std::string inside = place_of(directory).inside;
    const std::string prefix = inside.empty() ? "" : inside + "/";
    struct btrfs_util_subvolume_iterator* raw = nullptr;
    check(btrfs_util_create_subvolume_iterator_fd(fd.get(), subvolume_id(fd.get()), 0, &raw), "list the subvolumes of", directory);
    const std::unique_ptr<btrfs_util_subvolume_iterator, decltype(&btrfs_util_destroy_subvolume_iterator)> iterator(
        raw, &btrfs_util_destroy_subvolume_iterator);
    std::vector<std::string> nested;
    for (;;) {
        char* path = nullptr;
        const btrfs_util_error error = btrfs_util_subvolume_iterator_next(iterator.get(), &path, nullptr);
        if (error == BTRFS_UTIL_ERROR_STOP_ITERATION) {
            break;
        }
        check(error, "list the subvolumes of", directory);
        const std::unique_ptr<char, decltype(&std::free)> owned(path, &std::free);
        const std::string_view found(path);
        if (found.size() > prefix.size() && found.starts_with(prefix)) {
            nested.emplace_back(found.substr(prefix.size()));
        }
    }
    std::sort(nested.begin(), nested.end());
    return nested;
}

std::string subvolume_path(int fd, std::uint64_t id) {
    if (id == kTopLevelId) {
        return "";
    }
    char* path = nullptr;
    check(btrfs_util_subvolume_path_fd(fd, id, &path), "find the path of the subvolume", std::to_string(id));
    const std::unique_ptr<char, decltype(&std::free)> owned(path, &std::free);
    return path;
}

namespace {

struct Ancestor {
    RawUuid uuid;
    std::uint64_t until = 0;  // the transaction of the clone
};

// A subvolume, what it was cloned from, and so on, as far as they are still there; and the last one's parent, which isn't.
std::vector<Ancestor> ancestors_of(int fd, SubvolumeInfo subvolume) {
    constexpr std::size_t kGenerations = 100;
    std::vector<Ancestor> line{{subvolume.uuid, UINT64_MAX}};
    while (subvolume.parent_uuid != RawUuid{} && line.size() < kGenerations) {
        line.push_back({subvolume.parent_uuid, subvolume.otransid});
        const auto id = find_subvolume(fd, subvolume.parent_uuid);
        if (!id) {
            break;
        }
        subvolume = subvolume_info(fd, *id);
    }
    return line;
}

}  // namespace

std::uint64_t common_transaction(int fd, const SubvolumeInfo& one, const SubvolumeInfo& other) {
    const std::vector<Ancestor> others = ancestors_of(fd, other);
    for (const Ancestor& mine : ancestors_of(fd, one)) {
        const auto found = std::find_if(others.begin(), others.end(), [&](const Ancestor& theirs) { return theirs.uuid == mine.uuid; });
        if (found != others.end()) {
            return std::min(mine.until, found->until);
        }
    }
    return 0;
}

std::string path_from_top_level(const std::string& directory) {
    const FileDescriptor fd = open_directory(directory);
    const std::string subvolume = subvolume_path(fd.get(), subvolume_id(fd.get()));
    const std::string inside = path_by_inode(directory);
    return subvolume + (subvolume.empty() || inside.empty() ? "" : "/") + inside;
}

std::uint64_t default_subvolume(int fd) {
    std::uint64_t id = 0;
    check(btrfs_util_get_default_subvolume_fd(fd, &id), "find the default subvolume of the file system of", fd_name(fd));
    return id;
}

std::optional<std::uint64_t> find_subvolume(int fd, const RawUuid& uuid) {
    // The UUID is the key, in two halves; the items are ids, of which one is the rule.
    ItemKey key{0, BTRFS_UUID_KEY_SUBVOL, 0};
    std::memcpy(&key.objectid, uuid.data(), sizeof(key.objectid));
    std::memcpy(&key.offset, uuid.data() + sizeof(key.objectid), sizeof(key.offset));
    TreeSearch search(fd, key, key, 0, "the subvolumes' UUIDs", kSearchBufferBytes, BTRFS_UUID_TREE_OBJECTID);
    Item item;
    if (!search.next(item)) {
        return std::nullopt;
    }
    return search.read<std::uint64_t>(item);
}

std::string find_mounted(const std::string& file_system_uuid) {
    for (const Mount& mount : list_mounts()) {
        if (mount.type != "btrfs") {
            continue;
        }
        try {
            const FileDescriptor fd = open_directory(mount.mount_point);
            if (is_btrfs(fd.get()) && fs_uuid(fd.get()) == file_system_uuid) {
                return mount.mount_point;
            }
        } catch (const Error&) {
            // Hidden under another mount, or gone meanwhile; another mount may serve.
        }
    }
    return "";
}

}  // namespace nodesnap::btrfs
