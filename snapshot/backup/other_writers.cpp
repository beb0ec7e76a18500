#include "snapshot/backup/other_writers.h"

#include <cstddef>

#include "platform/cgroup.h"
#include "platform/error.h"
#include "snapshot/backend/preflight.h"

namespace nodesnap {
namespace {

bool is_member(pid_t pid, const std::string& cgroup) {
    try {
        const auto path = Cgroup::path_of(pid);
        return path && path->starts_with(cgroup) && (path->size() == cgroup.size() || (*path)[cgroup.size()] == '/');
    } catch (const Error&) {
        return false;  // outside of what we see of the tree, and so of the cgroup
    }
}

// The cgroup that all who write are to be in; "" if that isn't known, or if nobody is to write.
std::string home_of(const hold::Intent& intent) {
    // What goes down with a stopped unit may write, too, and has cgroups of its own.
    const bool known = intent.mode == hold::Mode::kFreeze || (intent.mode == hold::Mode::kStop && intent.dependents.empty());
    return known ? intent.cgroup : "";
}

// Nothing of it runs, and nothing is to write.
bool is_down(const hold::Intent& intent) {
    return intent.already && intent.cgroup.empty();
}

}  // namespace

std::optional<OtherWriter> find_other_writer(const std::string& node_directory, const ExcludeRules& excludes, const std::string& cgroup) {
    std::size_t hidden = 0;
    const auto held = [&](pid_t pid) { return !cgroup.empty() && is_member(pid, cgroup); };
    const auto writers = writers_of(node_directory, excludes, &hidden, held);
    if (!writers.empty()) {
        return OtherWriter{describe_writer(writers.front()), true};
    }
    if (hidden != 0) {
        return OtherWriter{
            "it can't be told who writes to the node directory " + node_directory + ": other users' processes are out of sight", false};
    }
    return std::nullopt;
}

void refuse_other_writers(const hold::Intent& intent, const ExcludeRules& excludes) {
    if (intent.mode == hold::Mode::kHook) {
        return;  // what it does to whom shows when it has run
    }
    const std::string home = home_of(intent);
    const auto writer = find_other_writer(intent.node_directory, excludes, home);
    if (!writer) {
        return;
    }
    if (!writer->seen) {
        throw Error::refused(writer->text + ", so that holding " + intent.what + " would prove nothing",
                             "run as root, and in the host's pid namespace; without --hold the backup is crash-consistent");
    }
    if (is_down(intent)) {
        throw Error::refused(intent.what + " doesn't run, but " + writer->text,
                             "if that is the daemon, name it with --hold freeze --pid; otherwise stop it");
    }
    if (!home.empty()) {
        throw Error::refused(
            writer->text + ", and isn't part of " + intent.what + " (cgroup " + home + "): it would go on writing while that is held",
            "stop it, or hold what it belongs to, too: a cgroup above both (see systemd-cgls)");
    }
}

}  // namespace nodesnap
