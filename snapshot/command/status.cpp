// nodesnap status: is there a good backup, how old is it, and does anything need an operator. For people and for monitoring.
#include <algorithm>
#include <optional>

#include "io/units.h"
#include "snapshot/backup/stored_damage.h"
#include "snapshot/command/printable.h"
#include "snapshot/command/repository_access.h"
#include "snapshot/repository/receipt.h"

namespace nodesnap::command {
namespace {

void declare(OptionSet& options) {
    options.value("max-age", "DURATION", "exit with 1 if the last good backup's snapshot is older than this, as in 26h");
    options.flag("json", "print a JSON document");
}

struct Summary {
    std::uint64_t backups = 0, incomplete = 0, damaged = 0;
    std::uint64_t stored_bytes = 0;       // in packs, as they are now
    StoredDamage lost;                    // of what the last good backup needs
    std::uint64_t made_stored_bytes = 0;  // by the backups that are there, when each was made
    std::optional<Manifest> last_good;
    std::optional<std::int64_t> received_ns;  // when it was, if that is known: its own time may be forged
    LeaseState lease;
    std::vector<SessionRecord> unfinished;
    std::optional<std::uint64_t> free_bytes;

    std::int64_t time_ns() const { return received_ns.value_or(last_good->snapshot_time_ns); }
    // The clock, here or where the backup was made, was wrong by more than clocks differ.
    bool from_the_future() const {
        constexpr std::int64_t kClocksDiffer = 300'000'000'000;  // nanoseconds
        return last_good && time_ns() > utc_now() + kClocksDiffer;
    }
    // How long ago the last good backup's snapshot was taken; 0 if the clock says that it is in the future.
    std::chrono::nanoseconds age() const { return std::chrono::nanoseconds(std::max<std::int64_t>(0, utc_now() - time_ns())); }
};

Summary summarize(const Repository& repository, Report& report) {
    Summary summary;
    repository.for_each_backup([&](const BackupEntry& entry) {
        ++summary.backups;
        if (!entry.manifest) {
            ++summary.damaged;
            warn_of_damaged(report, entry);
            return;
        }
        summary.made_stored_bytes += entry.manifest->totals.stored_bytes;
        if (entry.manifest->damaged) {
            ++summary.incomplete;
        } else {
            summary.last_good = entry.manifest;
        }
    });
    if (summary.last_good) {
        const auto receipt = load_receipt(repository.target(), repository.info().uuid, summary.last_good->name,
                                          [&](const std::string& damage) { report.warn("a receipt can't be read: " + damage); });
        summary.received_ns = receipt ? std::optional(receipt->received_ns) : std::nullopt;
    }
    PackStock stock = take_stock(repository);
    summary.stored_bytes = stock.stored_bytes;
    if (summary.last_good) {
        if (!stock.complete) {
            complete_stock(repository, *summary.last_good, stock);
        }
        summary.lost = find_stored_damage(repository, stock, &*summary.last_good);
        if (!summary.lost.needed.empty()) {
            report.warn(
                summary.lost.reason() + " (" + summary.lost.example +
                "): `nodesnap verify --data` tells which files are affected, and the next backup stores anew what the node still has of "
                "them");
        }
    }
    summary.lease = inspect_lease(repository.target(), repository.info().uuid);
    summary.unfinished = repository.sessions();
    summary.free_bytes = repository.target().free_bytes();
    return summary;
}

void print(std::ostream& out, const Repository& repository, const Summary& summary) {
    out << "repository:  " << printable_name(repository.target().describe()) << ", of node " << printable_name(repository.info().node.name)
        << '\n';
    if (summary.last_good) {
        out << "last good:   " << summary.last_good->id.hex() << ", snapshot of " << utc(summary.last_good->snapshot_time_ns) << " UTC, "
            << (summary.received_ns ? "received " : "") << human_duration(summary.age()) << " ago\n";
    } else {
        out << "last good:   none\n";
    }
    out << "backups:     " << summary.backups;
    if (summary.incomplete != 0) {
        out << ", of them incomplete: " << summary.incomplete;
    }
    if (summary.damaged != 0) {
        out << ", of them damaged: " << summary.damaged;
    }
    if (!summary.lost.needed.empty()) {
        out << ", packs that the last good one needs and that are missing or damaged: " << summary.lost.needed.size();
    }
    out << "\nstored:      " << human_bytes(summary.stored_bytes);
    if (summary.free_bytes) {
        out << ", free: " << human_bytes(*summary.free_bytes);
    }
    out << "\nlocked:      " << (summary.lease.state == HolderState::kNone ? "no" : "by " + describe_holder(summary.lease)) << '\n';
    for (const SessionRecord& session : summary.unfinished) {
        out << "unfinished:  backup " << session.id.hex() << " of " << utc(session.manifest.utc_seconds * 1'000'000'000)
            << " UTC from host " << printable_name(session.host) << "\n";
    }
}

void write(JsonWriter& document, const Repository& repository, const Summary& summary) {
    document.name("repository", repository.target().describe());
    document.member("uuid", repository.info().uuid.text());
    document.member("node", repository.info().node.name);
    document.member("backups", summary.backups);
    document.member("incomplete", summary.incomplete);
    document.member("damaged", summary.damaged);
    document.member("lost_packs", summary.lost.needed.size());
    document.member("stored_bytes", summary.stored_bytes);
    document.member("made_stored_bytes", summary.made_stored_bytes);
    if (summary.free_bytes) {
        document.member("free_bytes", *summary.free_bytes);
    } else {
        document.null("free_bytes");
    }
    if (summary.last_good) {
        document.begin_object("last_good");
        write_backup(document, *summary.last_good);
        write_received(document, summary.received_ns);
        document.member("age_seconds", std::chrono::duration<double>(summary.age()).count());
        document.end();
    } else {
        document.null("last_good");
    }
    write_holder(document, summary.lease);
    document.begin_array("unfinished");
    for (const SessionRecord& session : summary.unfinished) {
        document.begin_object();
        document.member("id", session.id.hex());
        document.member("started_time", format_utc(session.manifest.utc_seconds * 1'000'000'000));
        document.member("host", session.host);
        document.name("snapshot_path", session.snapshot_path);
        document.end();
    }
    document.end();
}

ExitStatus run(Call& call) {
    const std::string place = call.positional("REPOSITORY");
    call.end_of_positionals();
    const auto most = call.options().duration("max-age");
    const Repository repository = open_repository(call, place);
    const Summary summary = summarize(repository, call.report());
    const bool too_old = most && (!summary.last_good || summary.age() > *most || summary.from_the_future());
    if (summary.from_the_future()) {
        call.report().warn(
            "the last good backup is dated in the future: how old it is can't be told; look at the clocks, and make a new one");
    }
    if (call.json()) {
        write(call.document(), repository, summary);
        call.document().member("too_old", too_old);
    } else {
        print(call.out(), repository, summary);
    }
    if (!summary.last_good) {
        throw Error::failed("there is no good backup");
    }
    if (too_old && summary.from_the_future()) {
        throw Error::failed("how old the last good backup is can't be told: it is dated in the future",
                            "look at the clocks, here and where it was made, then make a new one");
    }
    if (too_old) {
        throw Error::failed("the last good backup is " + human_duration(summary.age()) + " old, more than " + human_duration(*most));
    }
    return summary.damaged != 0 || !summary.lost.needed.empty() ? ExitStatus::kDamaged : ExitStatus::kDone;
}

}  // namespace

const Command kStatus = {
    "status",
    "tell how old the last good backup is, and who holds the lock",
    "nodesnap status REPOSITORY [OPTION]...\n",
    "Tells the last good backup and its age, who holds the repository's lock, backups that didn't finish, and damaged manifests.\n"
    "For monitoring, --max-age makes an old backup an error. It doesn't read the backups' data: \"nodesnap verify\" does.\n"
    "Needs no lock and no write access.\n",
    "nodesnap status /backup/node1 --max-age 26h\n",
    "0  there is a good backup, young enough\n"
    "1  there is none, or it is too old; or failed\n"
    "2  wrong usage\n"
    "3  this isn't a repository\n"
    "4  something stored twice has lost a copy, or the last good backup is dated in the future\n"
    "5  a backup's manifest is damaged, or a pack that the last good backup needs is missing or damaged, as far as is known\n",
    declare,
    run,
};

}  // namespace nodesnap::command
