// GuardProcess: the guard as nodesnap sees it: started, asked, waited for, and ended when it doesn't answer.
//
// Errors: nodesnap::Error. Threads: one at a time. Privileges: root, for a guard in a cgroup of its own.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "platform/file_descriptor.h"
#include "platform/pidfd.h"
#include "snapshot/hold/intent.h"
#include "snapshot/hold/protocol.h"

namespace nodesnap::hold {

class GuardProcess {
public:
    // What `file` holds is what it will carry out. It shares the file's lock.
    GuardProcess(const std::vector<std::string>& program, const IntentFile& file, std::string id);
    ~GuardProcess();  // the socket ends, which lets it go; not waited for
    GuardProcess(const GuardProcess&) = delete;
    GuardProcess& operator=(const GuardProcess&) = delete;

    pid_t pid() const { return process_->pid(); }
    const std::string& warning() const { return warning_; }  // that it has no cgroup of its own, or ""

    // False if it is gone.
    bool send(const Message& message) { return send_message(socket_.get(), message); }
    // The next message but kWorking. nullopt if it is gone, or has said nothing for kSilenceNs. `interruptible`: throws when the program is
    // asked to stop.
    std::optional<Message> receive(bool interruptible = false);
    // Tells it that nobody waits any more: it lets go at once. Any thread.
    void abandon() noexcept;
    // SIGKILL, and waits for its end: from then on it does nothing any more. False if it can't be ended (it hangs in the kernel).
    bool end();
    // After end(): waits until the command that it was running, if any, has ended too, as long as that takes. Throws when the program is
    // asked to stop.
    void wait_for_its_command();
    // Waits for its end, which it has announced. False if it didn't come.
    bool wait();

private:
    void clean_up();

    FileDescriptor socket_;
    std::optional<Pidfd> process_;
    std::string id_;
    std::string warning_;
    bool waited_for_ = false;
};

}  // namespace nodesnap::hold
