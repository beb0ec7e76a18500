#include "snapshot/drill/daemon.h"

#include <fcntl.h>
#include <sys/stat.h>

#include <algorithm>
#include <csignal>
#include <cstdint>
#include <span>

#include "platform/clock.h"
#include "platform/file.h"
#include "platform/spawn.h"

namespace nodesnap {
namespace {

constexpr std::uint64_t kToldBytes = 2000;

}  // namespace

DrillDaemon::DrillDaemon(const std::string& command, const std::vector<std::string>& environment, const std::string& log)
    : log_(open_path(log, O_RDWR | O_CREAT | O_TRUNC | O_APPEND, 0600)) {
    Spawn what;
    what.arguments = {"/bin/sh", "-c", command};
    what.environment = environment;
    what.output = log_.get();
    what.death_signal = SIGTERM;
    pid_ = spawn(what);
    try {
        process_ = Pidfd::open(pid_);
    } catch (...) {  // what has no destructor yet must not leave it running
        end();
        throw;
    }
}

DrillDaemon::~DrillDaemon() {
    end();
}

// Its number belongs to it, and to its group, until it is waited for: that is done last.
void DrillDaemon::end() noexcept {
    ::kill(-pid_, SIGKILL);
    try {
        static_cast<void>(wait_for_child(pid_));
    } catch (const std::exception&) {  // there is nothing more to be done about it
    }
}

bool DrillDaemon::ended() const {
    return !process_ || process_->ended();
}

bool DrillDaemon::wait_ended(std::int64_t deadline_ns) const {
    return !process_ || process_->wait_ended(deadline_ns);
}

bool DrillDaemon::stop(bool asked, std::chrono::nanoseconds limit) {
    if (!asked) {
        ::kill(-pid_, SIGTERM);
    }
    return wait_ended(monotonic_ns() + limit.count());
}

std::string DrillDaemon::last_words() const {
    const std::uint64_t size = stat_fd(log_.get(), "the daemon's output").stx_size;
    std::string text(std::min(size, kToldBytes), '\0');
    text.resize(pread_some(log_.get(), std::as_writable_bytes(std::span(text)), size - text.size(), "the daemon's output"));
    while (text.ends_with('\n')) {
        text.pop_back();
    }
    return text;
}

}  // namespace nodesnap
