// nodesnap pin, nodesnap unpin: marks a backup as one that must be kept, and takes that back.
#include "snapshot/pin.h"

#include "snapshot/command/printable.h"
#include "snapshot/command/repository_access.h"

namespace nodesnap::command {
namespace {

void declare_unpin(OptionSet& options) {
    declare_as_of(options);
    declare_lease(options);
    options.flag("json", "print the result as a JSON document");
}

void declare_pin(OptionSet& options) {
    options.value("reason", "TEXT", "who wants it kept, and why; shown by \"nodesnap show\"");
    declare_unpin(options);
}

std::string reason_of(const Options& options) {
    std::string reason = options.text("reason");
    if (options.given("reason") && (reason.empty() || reason.size() > kPinReasonLimit || printable_text(reason) != reason)) {
        throw Error::usage("--reason: \"" + printable_text(reason) + "\" can't be kept",
                           "up to " + std::to_string(kPinReasonLimit) + " bytes of text in one line, without controls");
    }
    return reason;
}

using Change = PinResult (*)(Repository& repository, const Lease& lease, const Manifest& backup, const std::string& reason);

PinResult change_pin(Call& call, const char* command, const std::string& reason, Change change) {
    const std::string place = call.positional("REPOSITORY");
    const BackupChoice choice(call);
    call.end_of_positionals();
    const LeaseOptions lease_settings = lease_options(call, command);
    Repository repository = open_repository(call, place);
    repository.target().check_writable();
    Lease lease = Lease::acquire(repository.target(), repository.info().uuid, lease_settings);
    PinResult result = change(repository, lease, choice.find(repository), reason);
    lease.release();
    call.done(std::string("the ") + command + " is done");
    if (call.json()) {
        call.document().member("changed", result.changed);
        call.document().begin_object("backup");
        write_backup(call.document(), result.manifest);
        call.document().end();
    }
    return result;
}

ExitStatus run_pin(Call& call) {
    const PinResult result = change_pin(call, "pin", reason_of(call.options()), pin_backup);
    if (!call.json()) {
        call.out() << "backup " << result.manifest.id.hex() << (result.changed ? " is pinned\n" : " was pinned already\n");
    }
    return ExitStatus::kDone;
}

ExitStatus run_unpin(Call& call) {
    const PinResult result =
        change_pin(call, "unpin", "", [](Repository& repository, const Lease& lease, const Manifest& backup, const std::string&) {
            return unpin_backup(repository, lease, backup);
        });
    if (!call.json()) {
        call.out() << "backup " << result.manifest.id.hex() << (result.changed ? " isn't pinned any more\n" : " wasn't pinned\n");
    }
    return ExitStatus::kDone;
}

constexpr const char* kStatuses =
    "0  done, also if there was nothing to change\n"
    "1  failed; the backup is as it was, or as it was to be\n"
    "2  wrong usage\n"
    "3  refused: there is no such backup, it must be repaired first, or the repository can't be written to\n"
    "4  done, with warnings\n"
    "5  the backup's manifest is damaged\n"
    "6  another holds the repository, or has taken it over\n";

}  // namespace

const Command kPin = {
    "pin",
    "mark a backup as one that must be kept",
    "nodesnap pin REPOSITORY BACKUP [OPTION]...\n"
    "nodesnap pin REPOSITORY --as-of TIME [OPTION]...\n",
    "\"nodesnap forget\" never removes a pinned backup, neither by its rules nor by name, until \"nodesnap unpin\" takes the pin away.\n"
    "A backup may be pinned for several reasons: pin it again with another --reason. \"nodesnap list\" and \"nodesnap show\" tell.\n",
    "nodesnap pin /backup/node1 702a76fa --reason \"before the migration; ask the storage team\"\n",
    kStatuses,
    declare_pin,
    run_pin,
};

const Command kUnpin = {
    "unpin",
    "let a pinned backup be removed again",
    "nodesnap unpin REPOSITORY BACKUP [OPTION]...\n"
    "nodesnap unpin REPOSITORY --as-of TIME [OPTION]...\n",
    "Takes away all pins of the backup. It isn't removed by that: the next \"nodesnap forget\" judges it like the others.\n",
    "nodesnap unpin /backup/node1 702a76fa\n",
    kStatuses,
    declare_unpin,
    run_unpin,
};

}  // namespace nodesnap::command
