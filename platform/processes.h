// What other processes do with a directory, and whether a process is still the one that it was. From /proc. Any thread.
#pragma once

#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

namespace nodesnap {

struct DirectoryUser {
    pid_t pid = 0;
    std::string command;       // from /proc/PID/comm
    std::string what;          // "open file", "current directory", "mapped file"
    std::string path;          // of the file, as that process sees it
    std::string relative;      // from the directory; empty if it is the directory itself
    bool writable = false;     // a file opened for writing, or mapped shared and writable, that still has a name
    std::uint64_t direct = 0;  // number of the inode of one that is opened for writing with O_DIRECT
};

// Processes other than this one with a file at or below `directory` open, mapped, or as current or root directory. At most `limit` uses are
// told, those for writing first. Uses through other mounts of the file system, also in other mount namespaces, are found by comparing with
// the mounts that the process sees. Processes that may not be looked into are counted in `hidden`: those of other users, unless this is
// root; for root, process 1 isn't counted. Processes outside our pid namespace are never seen. Nor is looked at those for which `left_out`
// is true.
std::vector<DirectoryUser> users_of_directory(const std::string& directory, std::size_t limit = 64, std::size_t* hidden = nullptr,
                                              const std::function<bool(pid_t)>& left_out = {});

// Numbers of the inodes at or below `directory` that other processes have open for writing with O_DIRECT, ascending. nullopt if that can't
// be told: there are very many, or processes that may not be looked into.
std::optional<std::vector<std::uint64_t>> written_directly(const std::string& directory);

std::optional<std::uint64_t> process_start(pid_t pid);  // field 22 of /proc/PID/stat, clock ticks since boot; nullopt if there is none
std::optional<pid_t> process_parent(pid_t pid);         // 0 for one that has none; nullopt if there is no such process
std::string process_command(pid_t pid);                 // from /proc/PID/comm, at most 15 bytes; empty if there is no such process
// The process that had this pid and start time still runs (a zombie doesn't).
bool process_alive(pid_t pid, std::uint64_t start);

}  // namespace nodesnap
