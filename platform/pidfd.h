// Pidfd: one process, held on to by a descriptor, so that a pid that is given to another process meanwhile is never mistaken for it.
//
// Errors: Error::system. Threads: any. Privileges: opening and waiting need none; signals as for kill(2). Kernel 5.3.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <utility>

#include "platform/file_descriptor.h"

namespace nodesnap {

class Pidfd {
public:
    // nullopt if there is no such process. A zombie counts as one; ended() is true then.
    static std::optional<Pidfd> open(pid_t pid);
    // Takes over a descriptor that another process opened. `pid` is only told.
    static Pidfd adopt(FileDescriptor descriptor, pid_t pid);

    pid_t pid() const { return pid_; }
    int get() const { return descriptor_.get(); }  // readable, as poll tells, when the process has ended
    // All its threads have ended; it may still be a zombie.
    bool ended() const;
    // Waits for that, at most until `deadline_ns` (monotonic_ns()).
    bool wait_ended(std::int64_t deadline_ns) const;
    bool signal(int number) const;  // false if it has ended, and was waited for

    // Whether it is ending, or is going to: its first thread has ended, or has been sent a SIGKILL, although others may be in system calls
    // that nothing interrupts. Allocates nothing, and throws nothing: what can't be told is false. watch() opens what it needs, if it can.
    void watch() noexcept;
    bool is_dying() const noexcept;

private:
    Pidfd(FileDescriptor descriptor, pid_t pid) : descriptor_(std::move(descriptor)), pid_(pid) {}

    FileDescriptor descriptor_;
    FileDescriptor status_;  // /proc/PID/status
    pid_t pid_;
};

}  // namespace nodesnap
