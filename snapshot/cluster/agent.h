// The agent of a node: does what a coordinator asks for, over two descriptors, until that one closes its side. What a backup holds is let
// go, and what it has begun taken back or kept for a resume, also when the coordinator is lost; a drain that is under way then goes on.
//
// Errors: Error::failed if the connection ends otherwise than by being closed, after all that is under way. Threads: the link's two, one
// that tells how far a backup has come, and the caller's, which does the work. Privileges: those of what is asked for.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "io/throttle.h"
#include "snapshot/backup.h"
#include "snapshot/cluster/link.h"
#include "snapshot/repository/cut.h"

namespace nodesnap::cluster {

// The work itself: words are those of nodesnap's command line.
struct AgentWork {
    // `words` are those of "backup", without its name. `gates`, `cap` and `resume` belong into its options.
    std::function<BackupResult(const std::vector<std::string>& words, BackupGates& gates, std::shared_ptr<const Throttle::Cap> cap,
                               const std::optional<SessionId>& resume, Progress& progress, Report& report)>
        backup;
    // Tells what a repository has of cluster backups; `words` are the repository and the options with which it is reached.
    std::function<void(const std::vector<std::string>& words, const std::function<void(const Json&)>& tell)> inspect;
    // Marks a cut in a repository.
    std::function<void(const std::vector<std::string>& words, const CutId& cut, CutMark mark, const std::string& why)> mark;
    // Looks at the directory of these words, or notes something of it; see restore_record.h. `what`: "look", "begun", "restored",
    // "finished".
    std::function<Json(const std::vector<std::string>& words, const std::string& cut, const std::string& backup, const std::string& what)>
        place;
    // A command, in a process of its own; its exit status. `ended`: nobody waits for it any more.
    std::function<int(const std::vector<std::string>& words, const std::function<void(std::string_view text)>& output,
                      const std::function<bool()>& ended)>
        run;
};

void run_agent(FileDescriptor in, FileDescriptor out, const AgentWork& work);

}  // namespace nodesnap::cluster
