// Folders: the directory tree under a directory target, and what must be made durable in it. Internal to the directory target. Any thread.
#pragma once

#include <sys/types.h>

#include <mutex>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "platform/error.h"
#include "platform/file_descriptor.h"

namespace nodesnap {

class Folders {
public:
    Folders(std::string path, FileDescriptor root) : path_(std::move(path)), root_(std::move(root)) {}

    const std::string& path() const { return path_; }
    int root() const { return root_.get(); }
    std::string place(std::string_view name) const { return path_ + "/" + std::string(name); }

    // A descriptor, or a negative errno. O_CLOEXEC and O_NOFOLLOW are added.
    int try_open(const std::string& name, int flags, mode_t mode = 0) const noexcept;
    FileDescriptor open_folder(const std::string& folder) const;  // "" is the root

    // Makes the missing folders above `name`. Returns the folders that got a new entry: they must be synced before anything rests on it.
    std::vector<std::string> make_above(std::string_view name);
    void sync(const std::string& folder) const;

    // Moves without replacing; false if `to` exists.
    bool move_new(const std::string& from, const std::string& to) const;
    void replace(const std::string& from, const std::string& to) const;
    // False if there was none. The removal is durable after the next sync_removals().
    bool remove(const std::string& name);
    void sync_removals();
    // Of this folder, whoever removed; nothing if there is no such folder.
    void persist_removals(const std::string& folder) const;

    // The error of an operation on `name`, with a remedy for what an operator can remedy.
    Error error(const std::string& operation, std::string_view name, int error_number) const;

private:
    std::string path_;
    FileDescriptor root_;
    std::mutex mutex_;
    std::set<std::string> removals_;  // folders in which something was removed since they were synced
};

}  // namespace nodesnap
