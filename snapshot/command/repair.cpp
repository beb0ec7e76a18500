// nodesnap repair: restores the copies that damaged objects have lost.
#include <algorithm>

#include "snapshot/command/printable.h"
#include "snapshot/command/progress_line.h"
#include "snapshot/command/repository_access.h"
#include "snapshot/verify.h"

namespace nodesnap::command {
namespace {

void declare(OptionSet& options) {
    options.list("drop-lost", "OBJECT", "give up the backup whose manifest OBJECT can't be read in any copy (may be repeated)");
    declare_lease(options);
    options.flag("quiet", "no progress line; say nothing if there is nothing to repair");
    options.flag("json", "print the result as a JSON document");
}

bool is_manifest(const Damage& damage) {
    return layout::parse_manifest(damage.object).has_value();
}

void print_result(Call& call, const RepairResult& result, const std::vector<std::string>& dropped) {
    std::ostream& out = call.out();
    for (const std::string& object : dropped) {
        out << "dropped: " << printable_text(object) << "; what is left of it is kept as " << printable_text(layout::remains(object))
            << '\n';
    }
    for (const std::string& object : result.repaired) {
        out << "repaired: " << printable_text(object) << '\n';
    }
    if (result.repaired_count > result.repaired.size()) {
        out << "repaired: and " << result.repaired_count - result.repaired.size() << " more\n";
    }
    for (const Damage& damage : result.lost) {
        out << "LOST: " << printable_text(damage.object + ": " + damage.what) << '\n';
    }
    if (result.lost_count > result.lost.size()) {
        out << "LOST: and " << result.lost_count - result.lost.size() << " more\n";
    }
    if (result.damaged_data_packs != 0) {
        out << "not repaired: the newest backup needs "
            << (result.damaged_data_packs == 1 ? "a pack" : std::to_string(result.damaged_data_packs) + " packs")
            << " with damaged file data (" << printable_text(result.damaged_data_example)
            << "). \"nodesnap backup --full\" stores anew what the node still has of it\n";
    }
    if (result.repaired_count == 0 && result.lost_count == 0 && result.damaged_data_packs == 0 && dropped.empty() &&
        !call.options().flag("quiet")) {
        out << "nothing to repair: everything has all its copies\n";
    }
    if (result.lost_count != 0) {
        out << "what is lost was left as it is; \"nodesnap verify\" tells which backups and files are affected\n";
    }
    if (std::any_of(result.lost.begin(), result.lost.end(), is_manifest)) {
        out << "a backup whose manifest is lost can't be restored; --drop-lost OBJECT gives it up, so that it isn't told any more\n";
    }
}

void write_result(JsonWriter& document, const RepairResult& result, const std::vector<std::string>& dropped) {
    document.begin_array("dropped");
    for (const std::string& object : dropped) {
        document.element(object);
    }
    document.end();
    document.member("repaired_count", result.repaired_count);
    document.begin_array("repaired");
    for (const std::string& object : result.repaired) {
        document.element(object);
    }
    document.end();
    document.member("lost_count", result.lost_count);
    document.member("damaged_data_packs", result.damaged_data_packs);
    document.begin_array("lost");
    for (const Damage& damage : result.lost) {
        document.begin_object();
        document.member("object", damage.object);
        document.member("what", damage.what);
        document.end();
    }
    document.end();
}

ExitStatus run(Call& call) {
    const std::string place = call.positional("REPOSITORY");
    call.end_of_positionals();
    const LeaseOptions lease_settings = lease_options(call, "repair");
    Repository repository = open_repository(call.options(), place, [](const Damage&) {});  // run_repair() looks at all copies itself
    repository.target().check_writable();
    Lease lease = Lease::acquire(repository.target(), repository.info().uuid, lease_settings);
    // A dead backup's session is given up first: a sleeper must not publish what rests on packs that the repair touches. Its snapshot is
    // for the next backup, which knows the node directory.
    repository.clear_sessions(lease, {});
    const std::vector<std::string> dropped = drop_lost_backups(repository, lease, call.options().list("drop-lost"));
    Progress progress;
    RepairResult result;
    {
        const ProgressLine line(progress, call.streams().err, call.shows_progress());
        result = run_repair(repository, lease, progress);
    }
    lease.release();
    if (result.repaired_count != 0) {
        call.done("what could be repaired is repaired");
    }
    if (call.json()) {
        write_result(call.document(), result, dropped);
    } else {
        print_result(call, result, dropped);
    }
    return result.lost_count != 0 || result.damaged_data_packs != 0 ? ExitStatus::kDamaged : ExitStatus::kDone;
}

}  // namespace

const Command kRepair = {
    "repair",
    "restore the copies that damaged objects have lost",
    "nodesnap repair REPOSITORY [OPTION]...\n",
    "Everything but file data is stored twice. repair finds what has lost one of its copies and writes it anew, before the damaged\n"
    "object is removed; it can be interrupted and run again. File data is stored once: where its blocks are damaged they are left\n"
    "as they are, and \"nodesnap backup --full\" stores anew what the node still has of them. It doesn't read file data to find\n"
    "such blocks: \"nodesnap verify --data\" does.\n"
    "What it writes is read back, and nothing is removed that holds more: a damaged pack whose disk couldn't give all of it stays.\n"
    "A backup whose manifest no copy can heal is lost. It is told by every command until --drop-lost gives it up: what is left of\n"
    "the manifest is kept in the repository's folder lost/, and no other backup is touched.\n",
    "nodesnap repair /backup/node1\n"
    "nodesnap repair /backup/node1 --drop-lost backups/0000000007-20240531T020000Z.0\n",
    "0  everything has all its copies\n"
    "1  failed or interrupted; what was repaired stays repaired\n"
    "2  wrong usage\n"
    "3  refused: this isn't a repository, it can't be written to, or what --drop-lost names isn't lost\n"
    "5  something is damaged in all its copies, or the newest backup needs file data that verify has found damaged\n"
    "6  another holds the repository, or has taken it over\n",
    declare,
    run,
};

}  // namespace nodesnap::command
