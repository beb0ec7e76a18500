// Cgroup: one control group of cgroup v2, open: its freezer, its members, and making and removing one.
//
// A cgroup is named by its path below the top that this process sees ("/", "/system.slice/qdbd.service"), and known by its inode number,
// which no other cgroup of this boot has: one that was removed and made again under the same name is another. Descriptors are opened at
// once; none of the operations on an open one needs a new descriptor, but processes().
//
// Errors: Error::system; Error::refused where the host has no cgroup v2 or no freezer (kernels before 5.2). Threads: any, one at a time for
// one object. Privileges: reading needs none; freezing, moving, making and killing need root, or a delegated part of the tree.
// Source: cgroup2's files as Documentation/admin-guide/cgroup-v2.rst describes them.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "platform/file_descriptor.h"

namespace nodesnap {

class Cgroup {
public:
    struct Events {
        bool populated = false;  // it or one below has a process that isn't dead
        bool frozen = false;     // every member has stopped; also when an ancestor was frozen, and when there is no member
    };

    // Where cgroup v2 is mounted ("/sys/fs/cgroup", "/sys/fs/cgroup/unified"); nullopt if it isn't.
    static std::optional<std::string> mount_point();
    // The path of the cgroup that a process is in; nullopt if there is no such process. Error::refused if it lies outside of what this
    // process's cgroup namespace shows, or there is no cgroup v2.
    static std::optional<std::string> path_of(pid_t pid);
    // nullopt if there is none of that path. The top has no freezer: has_freezer() is false.
    static std::optional<Cgroup> open(const std::string& path);
    // Makes one; its parent must exist.
    static Cgroup make(const std::string& path);
    // False if it wasn't there, or has members or children. Throws for other reasons.
    static bool remove(const std::string& path);
    // Those above it, from the top down: "/", "/a", "/a/b" for "/a/b/c".
    static std::vector<std::string> ancestors(const std::string& path);

    const std::string& path() const { return path_; }
    std::uint64_t id() const { return id_; }
    bool has_freezer() const { return static_cast<bool>(freeze_); }

    // What was written to cgroup.freeze last, by whomever; not what an ancestor's is. nullopt if the cgroup is gone.
    std::optional<bool> freeze_requested() const;
    // False if the cgroup is gone. Returns at once: see wait_frozen.
    bool request_freeze(bool frozen);
    // From now on, whether anybody writes to cgroup.freeze, whatever it is, is known: freeze_written() tells it once. What is written
    // through another mount of the tree, in another cgroup namespace, isn't seen.
    void watch_freeze();
    bool freeze_written() const;
    // nullopt if the cgroup is gone.
    std::optional<Events> events() const;
    // Waits until every member has stopped, or (false) not all are stopped any more, at most until `deadline_ns` (monotonic_ns()). Whether
    // it came to that; nullopt if the cgroup is gone. Sees a change within a millisecond.
    std::optional<bool> wait_frozen(bool frozen, std::int64_t deadline_ns) const;

    // The pids of all members, also of the cgroups below it, ascending. What comes and goes meanwhile may be missed.
    std::vector<pid_t> processes() const;
    void move_here(pid_t pid);
    // SIGKILL to all members, at once and also while they fork (kernel 5.14); frozen ones too.
    void kill_all();
    // For a child between fork and exec: write "0" to it, and the writer is a member. -1 if it may not be written.
    int procs_descriptor() const { return procs_.get(); }
    // An advisory lock on the cgroup's directory for as long as this object lives: exclusive, or shared. False if another has it.
    bool try_lock(bool exclusive);

private:
    Cgroup() = default;

    std::string path_;
    std::string directory_path_;
    std::uint64_t id_ = 0;
    FileDescriptor directory_;
    FileDescriptor freeze_;
    FileDescriptor events_;
    FileDescriptor watch_;
    FileDescriptor procs_;
};

}  // namespace nodesnap
