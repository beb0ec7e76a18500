// Small objects of the directory target: load, create and compare-and-swap.
//
// Changes are made one at a time, under an exclusive flock of locks/.swap. The holder of that lock may be stopped for any time (SIGSTOP),
// and nobody may wait for it: after kPatience the lock is broken by unlinking its file. What keeps a broken holder from doing harm when it
// wakes is the order of each change:
//   lock; remove all other temporary files; write our own, durably; see that the lock isn't broken; compare; rename the temporary file.
// Who holds a later lock has removed the earlier holder's temporary file before it compares, so that the earlier one's rename fails (and it
// starts over). A temporary file made after that is made by one who then sees that its lock is broken.
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <thread>

#include "io/checksum.h"
#include "io/target/directory_parts.h"
#include "io/target/object_name.h"
#include "platform/clock.h"
#include "platform/directory_stream.h"
#include "platform/fault.h"
#include "platform/file.h"
#include "platform/random.h"

namespace nodesnap {
namespace {

constexpr const char* kLockFile = "locks/.swap";
constexpr std::string_view kTemporaryPrefix = ".swap-";
constexpr std::int64_t kPatienceNs = 5'000'000'000;
constexpr auto kPollInterval = std::chrono::milliseconds(5);
constexpr mode_t kFileMode = 0600;
constexpr std::size_t kBlock = 4096;
constexpr int kAttempts = 20;  // each fails only because another broke our lock
constexpr int kOpenAttempts = 5;

void sync_all(const Folders& folders, const std::vector<std::string>& changed) {
    for (const std::string& folder : changed) {
        folders.sync(folder);
    }
}

// A file that another host has just replaced is stale for a moment on network file systems (ESTALE); so may be the lock file that another
// has just unlinked (ENOENT although it was to be created).
int open_until_fresh(const Folders& folders, const std::string& name, int flags, mode_t mode = 0) noexcept {
    for (int attempt = 1;; ++attempt) {
        const int fd = folders.try_open(name, flags, mode);
        const bool passing = fd == -ESTALE || (fd == -ENOENT && (flags & O_CREAT) != 0);
        if (!passing || attempt == kOpenAttempts) {
            return fd;
        }
    }
}

bool is_current(const Folders& folders, int lock_fd) {
    struct stat held {};
    struct stat named {};
    return ::fstat(lock_fd, &held) == 0 && ::fstatat(folders.root(), kLockFile, &named, AT_SYMLINK_NOFOLLOW) == 0 &&
           held.st_ino == named.st_ino && held.st_dev == named.st_dev;
}

// True when the lock was taken; false when the patience ended.
bool lock_within(const Folders& folders, int fd, std::int64_t deadline_ns) {
    while (true) {
        if (const int injected = fault::inject("target.lock")) {
            throw folders.error("lock", kLockFile, injected);
        }
        if (::flock(fd, LOCK_EX | LOCK_NB) == 0) {
            return true;
        }
        if (errno != EWOULDBLOCK && errno != EINTR) {
            throw folders.error("lock", kLockFile, errno);
        }
        if (monotonic_ns() >= deadline_ns) {
            return false;
        }
        std::this_thread::sleep_for(kPollInterval);
    }
}

FileDescriptor take_lock(Folders& folders) {
    while (true) {
        const int fd = open_until_fresh(folders, kLockFile, O_RDWR | O_CREAT, kFileMode);
        if (fd < 0) {
            throw folders.error("open", kLockFile, -fd);
        }
        FileDescriptor lock(fd);
        const bool locked = lock_within(folders, lock.get(), monotonic_ns() + kPatienceNs);
        if (!is_current(folders, lock.get())) {
            continue;  // another broke it while we waited
        }
        if (locked) {
            return lock;
        }
        folders.remove(kLockFile);
    }
}

void remove_temporaries(Folders& folders) {
    DirectoryStream entries(folders.open_folder("locks"), folders.place("locks"));
    DirectoryEntry entry;
    while (entries.next(entry)) {
        if (entry.name.starts_with(kTemporaryPrefix)) {
            folders.remove("locks/" + entry.name);
        }
    }
}

// Removes the temporary file unless it was renamed.
class Temporary {
public:
    Temporary(Folders& folders, std::span<const std::byte> content)
        : folders_(folders), name_("locks/" + std::string(kTemporaryPrefix) + std::to_string(random_u64())) {
        const int fd = folders.try_open(name_, O_WRONLY | O_CREAT | O_EXCL, kFileMode);
        if (fd < 0) {
            throw folders.error("write to", name_, -fd);
        }
        const FileDescriptor file(fd);
        try {
            pwrite_all(file.get(), content, 0, folders.path());
            sync_file(file.get(), folders.path());
        } catch (const Error& error) {
            discard();
            throw folders.error("write to", "", error.error_number());
        }
    }
    Temporary(const Temporary&) = delete;
    Temporary& operator=(const Temporary&) = delete;
    ~Temporary() { discard(); }
    const std::string& name() const { return name_; }

private:
    void discard() noexcept { ::unlinkat(folders_.root(), name_.c_str(), 0); }

    Folders& folders_;
    std::string name_;
};

enum class Outcome { kDone, kNo, kBroken };

// One attempt: `decide` compares, `put` renames; kBroken when our lock was broken.
Outcome try_change(Folders& folders, std::span<const std::byte> content, const std::function<bool()>& decide,
                   const std::function<bool(const std::string& temporary)>& put) {
    const FileDescriptor lock = take_lock(folders);
    remove_temporaries(folders);
    const Temporary temporary(folders, content);
    if (!is_current(folders, lock.get())) {
        return Outcome::kBroken;
    }
    if (!decide()) {
        return Outcome::kNo;
    }
    fault::step("target.compared");
    try {
        return put(temporary.name()) ? Outcome::kDone : Outcome::kNo;
    } catch (const Error& error) {
        if (error.error_number() == ENOENT && !is_current(folders, lock.get())) {
            return Outcome::kBroken;
        }
        throw;
    }
}

bool change(Folders& folders, const std::string& name, std::span<const std::byte> content, const std::function<bool()>& decide,
            const std::function<bool(const std::string& temporary)>& put) {
    if (content.size() > kSmallObjectLimit) {
        throw Error::failed(folders.place(name) + " would be longer than 64 MiB");
    }
    folders.sync_removals();
    sync_all(folders, folders.make_above(kLockFile));
    sync_all(folders, folders.make_above(name));
    for (int attempt = 0; attempt < kAttempts; ++attempt) {
        const Outcome outcome = try_change(folders, content, decide, put);
        if (outcome == Outcome::kBroken) {
            continue;
        }
        // Also when another made it: who is told that it exists relies on it.
        folders.sync(folder_of(name));
        return outcome == Outcome::kDone;
    }
    throw Error::failed("cannot replace " + folders.place(name) + ": other processes keep taking its lock",
                        "look for processes that hold " + folders.place(kLockFile));
}

std::string version_of(std::span<const std::byte> content) {
    return Hasher(0)(content).hex();
}

// `read` fills the buffer it is given with the file's content from the beginning, and returns how much there was.
template <typename Read>
std::optional<VersionedObject> load_with(const Folders& folders, const std::string& name, std::uint64_t limit, Read read) {
    const int fd = open_until_fresh(folders, name, O_RDONLY | O_NONBLOCK);
    if (fd == -ENOENT || fd == -ENOTDIR) {
        return std::nullopt;
    }
    if (fd == -ELOOP || fd == -ENXIO) {  // a symlink, a socket
        throw Error::damaged(folders.place(name), "not a regular file");
    }
    if (fd < 0) {
        throw folders.error("open", name, -fd);
    }
    const FileDescriptor file(fd);
    struct stat status {};
    if (::fstat(fd, &status) != 0) {
        throw folders.error("read the size of", name, errno);
    }
    if (!S_ISREG(status.st_mode)) {
        throw Error::damaged(folders.place(name), "not a regular file");
    }
    if (static_cast<std::uint64_t>(status.st_size) > limit) {
        throw Error::damaged(folders.place(name), "longer than the " + std::to_string(limit) + " bytes that such an object may have");
    }
    VersionedObject object;
    object.content.resize(static_cast<std::size_t>(status.st_size));
    object.content.resize(read(fd, object));
    object.version = version_of(object.content);
    return object;
}

// Block by block: one bad sector costs one of them.
std::size_t read_blocks(int fd, VersionedObject& object, const std::string& place) {
    const std::span<std::byte> content = object.content;
    for (std::size_t at = 0; at < content.size(); at += kBlock) {
        const auto block = content.subspan(at, std::min(kBlock, content.size() - at));
        try {
            const std::size_t got = pread_some(fd, block, at, place);
            if (got < block.size()) {
                return at + got;
            }
        } catch (const Error& error) {
            if (!is_media_error(error.error_number())) {
                throw;
            }
            std::fill(block.begin(), block.end(), std::byte{0});
            object.error_number = error.error_number();
        }
    }
    return content.size();
}

}  // namespace

std::optional<VersionedObject> load_file(const Folders& folders, const std::string& name, std::uint64_t limit) {
    return load_with(folders, name, limit,
                     [&](int fd, VersionedObject& object) { return pread_some(fd, object.content, 0, folders.place(name)); });
}

std::optional<VersionedObject> salvage_file(const Folders& folders, const std::string& name, std::uint64_t limit) {
    return load_with(folders, name, limit, [&](int fd, VersionedObject& object) {
        try {
            return pread_some(fd, object.content, 0, folders.place(name));
        } catch (const Error& error) {
            if (!is_media_error(error.error_number())) {
                throw;
            }
            return read_blocks(fd, object, folders.place(name));
        }
    });
}

bool store_new(Folders& folders, const std::string& name, std::span<const std::byte> content) {
    return change(
        folders, name, content, [] { return true; }, [&](const std::string& temporary) { return folders.move_new(temporary, name); });
}

bool store_instead(Folders& folders, const std::string& name, const std::optional<std::string>& expected,
                   std::span<const std::byte> content) {
    const auto is_expected = [&](const std::optional<VersionedObject>& present) {
        return present ? expected && present->version == *expected : !expected;
    };
    const auto unchanged = [&] {
        try {
            return is_expected(load_file(folders, name, kSmallObjectLimit));
        } catch (const Error& error) {
            // Who knows the version of what can still be read may replace it; to anybody else it is an error, not another's change.
            if (!is_media_error(error.error_number()) || !is_expected(salvage_file(folders, name, kSmallObjectLimit))) {
                throw;
            }
            return true;
        }
    };
    return change(folders, name, content, unchanged, [&](const std::string& temporary) {
        folders.replace(temporary, name);
        return true;
    });
}

}  // namespace nodesnap
