// DrillDaemon: the daemon that a drill starts on what it restored. It ends with this object, and with this process.
//
// Errors: Error::system when it can't be started. Threads: the one that made it. Privileges: none of its own.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "platform/file_descriptor.h"
#include "platform/pidfd.h"

namespace nodesnap {

class DrillDaemon {
public:
    // By /bin/sh -c, in a session of its own; what it prints goes to the file `log`.
    DrillDaemon(const std::string& command, const std::vector<std::string>& environment, const std::string& log);
    DrillDaemon(const DrillDaemon&) = delete;
    DrillDaemon& operator=(const DrillDaemon&) = delete;
    ~DrillDaemon();  // kills what still runs

    bool ended() const;
    bool wait_ended(std::int64_t deadline_ns) const;  // monotonic_ns()
    // SIGTERM to its process group, unless `asked` (it was told otherwise); waits for the end of the command. False if it doesn't come.
    bool stop(bool asked, std::chrono::nanoseconds limit);
    std::string last_words() const;  // the end of what it printed

private:
    void end() noexcept;

    FileDescriptor log_;
    pid_t pid_ = -1;
    std::optional<Pidfd> process_;
};

}  // namespace nodesnap
