#include "snapshot/restore/habits.h"

#include <cerrno>

#include "platform/error.h"
#include "platform/host.h"
#include "platform/interrupt.h"
#include "snapshot/engine_version.h"
#include "snapshot/repository/identity.h"

namespace nodesnap {

void require_engine(const Manifest& backup, const RestoreOptions& options, const std::string& destination, Report& report) {
    const EngineVersion then = parse_engine_version(backup.engine_version);
    if (options.version_command.empty() || options.allow_older_engine || !then.known()) {
        return;
    }
    const EngineAnswer now = ask_engine_version(options.version_command, destination);
    if (!now.version.known()) {
        if (!now.not_installed) {
            report.warn("whether the engine that is installed here can open the backup, which is of \"" + then.text +
                        "\", can't be told: " + now.problem + " (" + options.version_command + ")");
        }
    } else if (is_older(now.version, then)) {
        throw Error::refused("the engine that is installed here, \"" + now.version.text +
                                 "\", is older than the one whose data was backed up, \"" + then.text + "\"",
                             "install that version or a newer one first; --allow-older-engine restores all the same");
    }
}

void require_own_place(const Manifest& backup, const RestoreOptions& options, const std::string& destination, Report& report) {
    if (options.state_directory.empty() || options.allow_other_node) {
        return;
    }
    bool others = false;
    try {
        others = is_place_of_other_node(backup.node, options.state_directory, machine_id(), destination);
    } catch (const Error& error) {
        throw_if_interrupted();
        if (error.error_number() != EACCES) {
            report.warn("whether " + destination + " is another node's place can't be told: " + error.message());
        }
    }
    if (others) {
        throw Error::refused(destination + " is the place of another node on this host, and the backup is one of node \"" +
                                 backup.node.name + "\" (" + backup.node.path + " on " + backup.host_name + ")",
                             "restore a backup of the node that lives there; --allow-other-node puts this one in its place");
    }
}

}  // namespace nodesnap
