// nodesnap unlock: removes the lock that a dead process left.
#include "io/units.h"
#include "snapshot/command/printable.h"
#include "snapshot/command/repository_access.h"

namespace nodesnap::command {
namespace {

void declare(OptionSet& options) {
    options.flag("json", "print the result as a JSON document");
}

ExitStatus run(Call& call) {
    const std::string place = call.positional("REPOSITORY");
    call.end_of_positionals();
    const Repository repository = open_repository(call, place);
    const LeaseState before = inspect_lease(repository.target(), repository.info().uuid);
    const bool held = before.state != HolderState::kNone;
    if (held) {
        break_lease(repository.target(), repository.info().uuid);
        call.done("the lock is removed");
    }
    if (call.json()) {
        call.document().member("removed", held);
        if (held) {
            write_holder(call.document(), before);
        }
    } else if (before.state == HolderState::kUnreadable) {
        call.out() << "removed the lock; whose it was can't be told: " << printable_text(before.damage) << '\n';
    } else if (held) {
        call.out() << "removed the lock of " << describe_holder(before, true) << '\n';
    } else {
        call.out() << "the repository isn't locked\n";
    }
    return ExitStatus::kDone;
}

}  // namespace

const Command kUnlock = {
    "unlock",
    "remove the lock that a dead process left",
    "nodesnap unlock REPOSITORY [OPTION]...\n",
    "Removes the repository's lock if its holder is dead (on this host: no such process any more) or hasn't given a sign of life\n"
    "for the time of its lease. While the holder lives, or may live on another host, it refuses. It is seldom needed: the next\n"
    "backup takes such a lock over by itself. A lock that is damaged is removed too, although whose it is can't be told: make sure\n"
    "first that no backup or repair of this repository runs on any host. One that does ends without publishing anything.\n",
    "nodesnap unlock /backup/node1\n",
    "0  there is no lock any more\n"
    "1  failed\n"
    "2  wrong usage\n"
    "3  refused: the holder lives or may live, or this isn't a repository\n",
    declare,
    run,
};

}  // namespace nodesnap::command
