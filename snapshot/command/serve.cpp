// nodesnap serve: the far end of a repository at ssh://HOST/PATH.
#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <mutex>

#include "io/remote/server.h"
#include "io/remote/ssh.h"
#include "io/target/directory.h"
#include "platform/file.h"
#include "platform/system_log.h"
#include "platform/terminal.h"
#include "snapshot/append_only/append_only_target.h"
#include "snapshot/command/far_command.h"
#include "snapshot/command/printable.h"
#include "snapshot/command/repository_access.h"
#include "snapshot/repository/served_lease.h"

namespace nodesnap::command {
namespace {

void declare(OptionSet& options) {
    options.value("root", "DIR",
                  "serve this repository, or what lies below this directory, and nothing else, whatever the client asks for");
    options.flag("read-only", "refuse whatever would change something");
    options.flag("append-only", "let backups be added, and refuse whatever would remove, alter or replace something");
    declare_io_uring(options);
}

// What the client has asked sshd for, where authorized_keys pins another command: this one.
std::string asked_path(Call& call) {
    std::string path = call.optional_positional("PATH");
    if (!path.empty()) {
        return path;
    }
    const char* command = std::getenv("SSH_ORIGINAL_COMMAND");
    if (command == nullptr) {
        throw Error::usage("PATH is missing", "serve is started over ssh by a nodesnap that is given ssh://HOST/PATH");
    }
    return remote::served_path(command);
}

// `path` in relation to `root`: "" if they are the same. By the name that the operator gave it: what lies elsewhere is never looked at.
std::string below_root(const std::string& path, const std::string& root) {
    const std::string base = root.substr(0, root.find_last_not_of('/') + 1);
    if (path == base || path == base + "/") {
        return "";
    }
    if (!path.starts_with(base + "/")) {
        throw Error::refused("only what lies in " + root + " is served here, not " + path, "give a path in it");
    }
    return path.substr(base.size() + 1);
}

std::shared_ptr<Target> open_below(const std::string& root, const std::string& path, bool make) {
    const FileDescriptor top = open_path(root, O_RDONLY | O_DIRECTORY);
    const std::string inside = below_root(path, root);
    if (make) {
        check_parent(path);
    }
    if (inside.empty()) {
        return adopt_directory_target(open_beneath(top.get(), ".", O_RDONLY | O_DIRECTORY, path), path);
    }
    if (make) {
        const auto slash = inside.rfind('/');
        const std::string parent = slash == std::string::npos ? "." : inside.substr(0, slash);
        const FileDescriptor above = open_beneath(top.get(), parent, O_RDONLY | O_DIRECTORY, path);
        if (::mkdirat(above.get(), inside.substr(slash == std::string::npos ? 0 : slash + 1).c_str(), 0700) == 0) {
            sync_directory(above.get(), path);
        } else if (errno != EEXIST) {
            throw Error::system("make the directory", path, errno);
        }
    }
    return adopt_directory_target(open_beneath(top.get(), inside, O_RDONLY | O_DIRECTORY, path), path);
}

// Refusals, told where the repository's operator looks: whoever has the key may be another than they think.
class RefusalLog {
public:
    explicit RefusalLog(std::ostream& err) : err_(err) {}
    void operator()(const std::string& what) {
        const std::lock_guard lock(mutex_);
        if (told_++ >= kMost) {
            return;
        }
        const char* peer = std::getenv("SSH_CONNECTION");
        const std::string text = "refused, the key may only append: " + printable_text(what);
        log_security_warning(text + (peer == nullptr ? "" : std::string("; client ") + peer));
        err_ << "nodesnap: " << text << (told_ == kMost ? "; no more is told" : "") << std::endl;
    }

private:
    static constexpr unsigned kMost = 100;  // of one connection
    std::ostream& err_;
    std::mutex mutex_;
    unsigned told_ = 0;
};

std::shared_ptr<Target> append_only(const std::shared_ptr<Target>& target, const std::shared_ptr<RefusalLog>& log) {
    begin_append_only(target);
    AppendOnlyOptions options;
    options.refused = [log](const std::string& what) { (*log)(what); };
    return make_append_only_target(target, options);
}

ExitStatus run(Call& call) {
    const std::string path = asked_path(call);
    call.end_of_positionals();
    if (is_terminal(0) || is_terminal(1)) {
        throw Error::usage("serve talks to a nodesnap, not to a terminal",
                           "it is started over ssh by a nodesnap that is given ssh://HOST/PATH");
    }
    const std::string root = call.options().text("root");
    const bool appends = call.options().flag("append-only");
    if (appends && call.options().flag("read-only")) {
        throw Error::usage("--append-only and --read-only don't go together");
    }
    const auto log = std::make_shared<RefusalLog>(call.streams().err);
    const auto open = [&](bool make) {
        if (!root.empty()) {
            return open_below(root, path, make);
        }
        if (make) {
            check_parent(path);
        }
        return open_directory_target(path, make);
    };
    remote::ServeOptions options;
    options.read_only = call.options().flag("read-only");
    options.use_io_uring = !call.options().flag("no-io-uring");
    options.open = [&](bool make) { return appends ? append_only(open(make), log) : open(make); };
    options.run = far_runner(path, appends);
    ServedLease lease;  // released at the end
    options.greeted = [&](const std::shared_ptr<Target>& target, std::uint64_t session) { lease.greeted(target, session); };
    options.swapped = [&](std::string_view name, std::span<const std::byte> content) { lease.swapped(name, content); };
    remote::serve(FileDescriptor(::fcntl(0, F_DUPFD_CLOEXEC, 3)), FileDescriptor(::fcntl(1, F_DUPFD_CLOEXEC, 3)), options);
    return ExitStatus::kDone;
}

}  // namespace

const Command kServe = {
    "serve",
    "the far end of a repository on another host",
    "nodesnap serve PATH [OPTION]...\n"
    "nodesnap serve --root DIR [OPTION]...\n",
    "Started on the host of the repository by a nodesnap that is given ssh://HOST/PATH, over ssh; nobody gives this command by hand. It "
    "does\n"
    "what that one asks for, over its standard input and output, in the directory PATH.\n"
    "\n"
    "A key in authorized_keys can be pinned to it, and then does nothing else:\n"
    "  command=\"nodesnap serve --root /backup/node1\",restrict ssh-ed25519 AAAA... node1\n"
    "What the client asks for must then be that directory, or lie below it, and isn't followed through symlinks.\n"
    "\n"
    "With --append-only a key that is stolen can neither remove or alter backups nor make them expire: it adds backups, and reads. What "
    "it\n"
    "gives is looked at, and when it came is written down here (receipts/), for \"nodesnap forget\" to go by. Of the commands that run "
    "here\n"
    "only \"nodesnap verify\" is done for it; forget, prune, pin, repair and unlock are for this host. Refusals are told in the system's "
    "log\n"
    "too. Programs of earlier versions can only read a repository that was served so.\n",
    "nodesnap serve --root /backup/node1 --append-only\n"
    "nodesnap serve --root /backup --read-only\n",
    "0  the client has closed the connection\n"
    "1  failed: the connection ended otherwise\n"
    "2  wrong usage\n"
    "3  refused: what was asked for isn't nodesnap's, or lies elsewhere\n",
    declare,
    run,
};

}  // namespace nodesnap::command
