// nodesnap agent: does on one node of a cluster what a coordinator asks for.
#include "snapshot/cluster/agent.h"

#include <fcntl.h>

#include <algorithm>
#include <array>
#include <csignal>
#include <memory>
#include <string_view>

#include "io/remote/greeting.h"
#include "platform/file.h"
#include "platform/program_run.h"
#include "platform/terminal.h"
#include "snapshot/cluster/cut_state.h"
#include "snapshot/cluster/restore_record.h"
#include "snapshot/command/backup_options.h"
#include "snapshot/command/program.h"
#include "snapshot/command/repository_access.h"
#include "snapshot/repository/made_objects.h"

namespace nodesnap::command {
namespace {

constexpr std::array<std::string_view, 4> kDoneByAgents{"verify", "restore", "forget", "status"};

void declare(OptionSet&) {}

// NODE_DIR REPOSITORY and options of `backup`.
struct BackupCall {
    Options options;
    std::string directory, repository;

    explicit BackupCall(const std::vector<std::string>& words) : options(read_options(kBackup, words)) {
        const auto& given = options.positionals();
        if (given.size() != 2) {
            throw Error::usage("a node's backup has a directory and a repository, and nothing else");
        }
        directory = given[0];
        repository = given[1];
    }
};

BackupResult back_up(const std::vector<std::string>& words, BackupGates& gates, std::shared_ptr<const Throttle::Cap> cap,
                     const std::optional<SessionId>& resume, Progress& progress, Report& report) {
    const BackupCall call(words);
    BackupOptions options = backup_options(call.options, call.directory);
    options.gates = &gates;
    options.cap = std::move(cap);
    options.resume_only = resume;
    options.no_resume = !resume;
    const auto warnings = std::make_shared<DamageWarnings>(report, true);
    Repository repository = open_remembering(open_target(call.options, call.repository), options.state_directory,
                                             [warnings](const Damage& damage) { (*warnings)(damage); });
    return run_backup(repository, options, progress, report);
}

Repository open_of(const BackupCall& call) {
    return open_repository(call.options, call.repository, [](const Damage&) {});
}

void mark(const std::vector<std::string>& words, const CutId& cut, CutMark what, const std::string& why) {
    const BackupCall call(words);
    const Repository repository = open_of(call);
    const Lease lease = Lease::acquire(repository.target(), repository.info().uuid, lease_options(call.options, "cluster"));
    mark_cut(repository, lease, cut, what, why);
}

cluster::Json look_or_note(const std::vector<std::string>& words, const std::string& cut, const std::string& backup,
                           const std::string& what) {
    const BackupCall call(words);
    const BackupOptions options = backup_options(call.options, call.directory);
    const cluster::RestorePart part{cut, backup, call.directory, options.state_directory};
    if (what == "begun") {
        note_restore_begun(part);
    } else if (what == "restored") {
        note_restored(part);
    } else if (what == "finished") {
        forget_restore(part);
    }
    return look_at_place(part);
}

int run_command(const std::vector<std::string>& words, const std::function<void(std::string_view)>& output,
                const std::function<bool()>& ended) {
    if (words.empty() || std::find(kDoneByAgents.begin(), kDoneByAgents.end(), words.front()) == kDoneByAgents.end()) {
        throw Error::refused("no such command is done for a coordinator");
    }
    ProgramRun run;
    run.arguments = {read_link(AT_FDCWD, "/proc/self/exe")};
    run.arguments.insert(run.arguments.end(), words.begin(), words.end());
    run.give_up = ended;
    run.take_output = output;
    const ProgramResult result = run_program(run);
    output(result.output);
    return result.exit_code < 0 ? static_cast<int>(ExitStatus::kFailed) : result.exit_code;
}

ExitStatus run(Call& call) {
    call.end_of_positionals();
    if (is_terminal(0) || is_terminal(1)) {
        throw Error::usage("an agent talks to a coordinator, not to a terminal", "`nodesnap cluster` starts it, here or over ssh");
    }
    // The end of the connection is no order to stop.
    std::signal(SIGHUP, SIG_IGN);
    FileDescriptor in(::fcntl(0, F_DUPFD_CLOEXEC, 3));
    FileDescriptor out(::fcntl(1, F_DUPFD_CLOEXEC, 3));
    remote::send_greeting(out.get());
    remote::receive_greeting(in.get());
    const cluster::AgentWork work{
        back_up,
        [](const std::vector<std::string>& words, const auto& tell) { cluster::inspect_repository(open_of(BackupCall(words)), tell); },
        mark,
        look_or_note,
        run_command,
    };
    cluster::run_agent(std::move(in), std::move(out), work);
    return ExitStatus::kDone;
}

}  // namespace

const Command kAgent = {
    "agent",
    "one node's end of a cluster backup",
    "nodesnap agent\n",
    "Started on each node of a cluster by \"nodesnap cluster\", here or over ssh; nobody gives this command by hand. It does what that "
    "one\n"
    "asks for, over its standard input and output. When the connection ends while the daemon is held, it is let go at once; what was\n"
    "snapshotted is kept, and \"nodesnap cluster backup --finish\" goes on with it; a drain that is under way goes on.\n"
    "\n"
    "A key in authorized_keys can be pinned to it:\n"
    "  command=\"nodesnap agent\",restrict ssh-ed25519 AAAA... coordinator\n"
    "Who has that key may back the node up, hold its daemon, and restore it.\n",
    "nodesnap agent\n",
    "0  the coordinator has closed the connection\n"
    "1  failed: the connection ended otherwise\n"
    "2  wrong usage\n",
    declare,
    run,
};

}  // namespace nodesnap::command
