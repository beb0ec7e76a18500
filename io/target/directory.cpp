#include "io/target/directory.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "io/target/directory_parts.h"
#include "io/target/object_name.h"
#include "platform/directory_stream.h"
#include "platform/fault.h"
#include "platform/file.h"
#include "platform/file_system.h"

namespace nodesnap {
namespace {

constexpr int kDepthLimit = 16;  // of folders that list() goes down; a repository has 3

class DirectoryTarget : public Target {
public:
    DirectoryTarget(std::string path, FileDescriptor root) : folders_(std::make_shared<Folders>(std::move(path), std::move(root))) {}

    std::string describe() const override { return folders_->path(); }
    std::string describe(std::string_view name) const override { return folders_->place(name); }

    std::optional<std::string> local_directory() const override { return resolve_path(folders_->path()); }

    int write_error() const override {
        if (file_system_of(folders_->root(), folders_->path()).read_only) {
            return EROFS;
        }
        return ::faccessat(folders_->root(), ".", W_OK | X_OK, AT_EACCESS) == 0 ? 0 : errno;
    }

    std::optional<std::uint64_t> free_bytes() const override { return file_system_of(folders_->root(), folders_->path()).free_bytes; }

    bool create(std::string_view name, std::span<const std::byte> content) override {
        check_object_name(name);
        return store_new(*folders_, std::string(name), content);
    }

    std::unique_ptr<ObjectWriter> begin(std::string_view name, std::string_view staging_id) override {
        check_object_name(name);
        check_staging_id(staging_id);
        return make_directory_writer(folders_, std::string(name), staging_id);
    }

    std::unique_ptr<ObjectReader> open(std::string_view name) override {
        check_object_name(name);
        return open_directory_reader(folders_, std::string(name));
    }

    std::optional<VersionedObject> load(std::string_view name, std::uint64_t limit) override {
        check_object_name(name);
        return load_file(*folders_, std::string(name), limit);
    }

    std::optional<VersionedObject> load_salvaging(std::string_view name, std::uint64_t limit) override {
        check_object_name(name);
        return salvage_file(*folders_, std::string(name), limit);
    }

    bool swap(std::string_view name, const std::optional<std::string>& expected, std::span<const std::byte> content) override {
        check_object_name(name);
        return store_instead(*folders_, std::string(name), expected, content);
    }

    bool remove(std::string_view name) override {
        check_object_name(name);
        return folders_->remove(std::string(name));
    }

    void persist_removals(std::string_view folder) override { folders_->persist_removals(folder_of(folder)); }

    void list(std::string_view prefix, const std::function<void(const ObjectEntry&)>& each) override;
    void abandon(const std::function<bool(std::string_view)>& given_up) override;

private:
    std::vector<DirectoryEntry> entries_of(const std::string& folder, std::string_view beginning) const;
    void list_folder(const std::string& folder, std::string_view beginning, int depth,
                     const std::function<void(const ObjectEntry&)>& each) const;

    std::shared_ptr<Folders> folders_;
};

// Ours and the file system's own things, which are no objects.
bool hidden(const std::string& folder, const std::string& name) {
    return (folder == "locks" && name.starts_with(".swap")) || (folder == "journal" && name.ends_with(".part")) ||
           (folder.empty() && name == "lost+found");
}

// Sorted. Memory: the names of one folder.
std::vector<DirectoryEntry> DirectoryTarget::entries_of(const std::string& folder, std::string_view beginning) const {
    std::vector<DirectoryEntry> found;
    const int fd = folders_->try_open(folder.empty() ? "." : folder, O_RDONLY | O_DIRECTORY);
    if (fd == -ENOENT || fd == -ENOTDIR) {
        return found;
    }
    if (fd < 0) {
        throw folders_->error("list", folder, -fd);
    }
    DirectoryStream stream(FileDescriptor(fd), folders_->place(folder));
    DirectoryEntry entry;
    while (stream.next(entry)) {
        if (entry.name.starts_with(beginning) && !hidden(folder, entry.name)) {
            found.push_back(entry);
        }
    }
    std::sort(found.begin(), found.end(), [](const auto& a, const auto& b) { return a.name < b.name; });
    return found;
}

// Names that no object can have are told too: who asks whether the directory is empty wants to know of them.
void DirectoryTarget::list_folder(const std::string& folder, std::string_view beginning, int depth,
                                  const std::function<void(const ObjectEntry&)>& each) const {
    for (const DirectoryEntry& entry : entries_of(folder, beginning)) {
        const std::string name = folder.empty() ? entry.name : folder + "/" + entry.name;
        struct stat status {};
        if (const int injected = fault::inject("target.stat")) {
            throw folders_->error("read the size of", name, injected);
        }
        if (::fstatat(folders_->root(), name.c_str(), &status, AT_SYMLINK_NOFOLLOW) != 0) {
            if (errno == ENOENT) {
                continue;  // removed meanwhile
            }
            throw folders_->error("read the size of", name, errno);
        }
        if (!S_ISDIR(status.st_mode)) {
            each({name, S_ISREG(status.st_mode) ? static_cast<std::uint64_t>(status.st_size) : 0});
        } else if (depth < kDepthLimit) {
            list_folder(name, "", depth + 1, each);
        }
    }
}

void DirectoryTarget::list(std::string_view prefix, const std::function<void(const ObjectEntry&)>& each) {
    const std::string folder = folder_of(prefix);
    if (!folder.empty()) {
        check_object_name(folder);
    }
    list_folder(folder, prefix.substr(folder.empty() ? 0 : folder.size() + 1), 0, each);
}

void DirectoryTarget::abandon(const std::function<bool(std::string_view)>& given_up) {
    constexpr std::string_view kEnding = ".part";
    const int fd = folders_->try_open("journal", O_RDONLY | O_DIRECTORY);
    if (fd == -ENOENT) {
        return;
    }
    if (fd < 0) {
        throw folders_->error("list", "journal", -fd);
    }
    DirectoryStream stream(FileDescriptor(fd), folders_->place("journal"));
    DirectoryEntry entry;
    while (stream.next(entry)) {
        if (entry.name.ends_with(kEnding) && given_up(std::string_view(entry.name).substr(0, entry.name.size() - kEnding.size()))) {
            folders_->remove("journal/" + entry.name);
        }
    }
}

Error open_error(const std::string& path, int error_number, bool create) {
    if (error_number == ENOTDIR) {
        return Error::refused("cannot open the repository " + path + ": it isn't a directory", "a repository is one: check the path");
    }
    if (error_number == ENOENT && create) {  // the name is taken: otherwise it had been made
        return Error::refused("cannot make the repository " + path + ": it is a symlink to nowhere",
                              "remove the link, or make the directory that it names");
    }
    if (error_number == ENOENT) {
        return Error::refused("cannot open the repository " + path + ": no such directory",
                              "check the path and that it is mounted, or make a repository with `nodesnap init`");
    }
    return Error::system("open", path, error_number);
}

}  // namespace

std::shared_ptr<Target> open_directory_target(const std::string& path, bool create) {
    if (create) {
        if (const int injected = fault::inject("target.mkdir")) {
            throw Error::system("make the directory", path, injected);
        }
        if (::mkdir(path.c_str(), 0700) == 0) {
            sync_directory(resolve_path(path) + "/..");
        } else if (errno != EEXIST) {
            throw Error::system("make the directory", path, errno);
        }
    }
    if (const int injected = fault::inject("target.open")) {
        throw Error::system("open", path, injected);
    }
    const int fd = ::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) {
        throw open_error(path, errno, create);
    }
    return adopt_directory_target(FileDescriptor(fd), path);
}

std::shared_ptr<Target> adopt_directory_target(FileDescriptor directory, const std::string& path) {
    return std::make_shared<DirectoryTarget>(path, std::move(directory));
}

}  // namespace nodesnap
