#include "snapshot/hold/guard_process.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <utility>

#include "platform/clock.h"
#include "platform/error.h"
#include "platform/interrupt.h"
#include "platform/spawn.h"
#include "snapshot/hold/own_cgroups.h"

namespace nodesnap::hold {

GuardProcess::GuardProcess(const std::vector<std::string>& program, const IntentFile& file, std::string id) : id_(std::move(id)) {
    int ends[2] = {-1, -1};
    if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) != 0) {
        throw Error::system("make", "a socket for the guard", errno);
    }
    socket_.reset(ends[0]);
    const FileDescriptor theirs(ends[1]);
    const Pidfd own = Pidfd::open(::getpid()).value();
    std::string why;
    const auto cgroup = make_guard_cgroup(id_, &why);
    if (!cgroup) {
        warning_ = "the guard is in nodesnap's own cgroup, and ends with it: " + why;
    }
    Spawn what;
    // As ps shows it: "nodesnap guard 5 6 812 ...", where /proc/self/exe would say nothing.
    what.program = program.at(0);
    what.arguments = {"nodesnap"};
    what.arguments.insert(what.arguments.end(), program.begin() + 1, program.end());
    for (const std::string& argument : {std::to_string(theirs.get()), std::to_string(own.get()), std::to_string(own.pid()),
                                        std::to_string(file.file()), std::to_string(file.directory()), file.name()}) {
        what.arguments.push_back(argument);
    }
    what.inherited = {theirs.get(), own.get(), file.file(), file.directory()};
    what.cgroup_procs = cgroup ? cgroup->procs_descriptor() : -1;
    process_ = Pidfd::open(spawn(what));
}

GuardProcess::~GuardProcess() {
    socket_.reset();
    clean_up();
}

std::optional<Message> GuardProcess::receive(bool interruptible) {
    std::int64_t deadline = monotonic_ns() + kSilenceNs;
    while (monotonic_ns() < deadline) {
        Message message;
        const Receive received = receive_message(socket_.get(), message, deadline, process_->get());
        if (received == Receive::kGone) {
            return std::nullopt;
        }
        if (received == Receive::kMessage && message.kind != Kind::kWorking) {
            return message;
        }
        if (received == Receive::kMessage) {
            deadline = monotonic_ns() + kSilenceNs;
        }
        if (interruptible) {
            throw_if_interrupted();
        }
    }
    return std::nullopt;
}

// What it says is still heard.
void GuardProcess::abandon() noexcept {
    ::shutdown(socket_.get(), SHUT_WR);
}

bool GuardProcess::end() {
    process_->signal(SIGKILL);
    return wait();
}

void GuardProcess::wait_for_its_command() {
    Message message;
    while (receive_message(socket_.get(), message, monotonic_ns() + kSilenceNs) != Receive::kGone) {
        throw_if_interrupted();
    }
    clean_up();
}

bool GuardProcess::wait() {
    const bool ended = process_->wait_ended(monotonic_ns() + kSilenceNs);
    clean_up();
    return ended;
}

void GuardProcess::clean_up() {
    if (process_ && process_->ended()) {
        if (!waited_for_) {
            waited_for_ = true;
            wait_for_child(process_->pid());
        }
        remove_own_cgroups(id_);
    }
}

}  // namespace nodesnap::hold
