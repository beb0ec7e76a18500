// nodesnap list: the backups of a repository.
#include <algorithm>

#include "io/units.h"
#include "snapshot/command/printable.h"
#include "snapshot/command/repository_access.h"
#include "snapshot/repository/receipt.h"

namespace nodesnap::command {
namespace {

void declare(OptionSet& options) {
    options.list("tag", "TAG", "only backups with this tag (may be repeated: with all of them)");
    options.flag("json", "print a JSON document");
}

bool has_tags(const Manifest& manifest, const std::vector<std::string>& wanted) {
    return std::all_of(wanted.begin(), wanted.end(), [&](const std::string& tag) {
        return std::find(manifest.tags.begin(), manifest.tags.end(), tag) != manifest.tags.end();
    });
}

class Table {
public:
    // `receipts`: with the time at which each backup was received.
    Table(std::ostream& out, const Receipts& receipts) : out_(out), receipts_(receipts) {}

    void add(const BackupEntry& entry) {
        if (rows_++ == 0) {
            row("RECEIVED (UTC)", {"ID", "TIME (UTC)", "NODE", "CONSISTENCY", "SIZE", "STORED", "STATE", "PIN", "TAGS"});
        }
        const Receipt* receipt = receipts_.find(entry.name);
        const std::string received = receipt != nullptr ? utc(receipt->received_ns) : receipts_.is_unreadable(entry.name) ? "?" : "";
        if (!entry.manifest) {
            row(received, {entry.object.substr(entry.object.find('/') + 1, 10), utc(entry.name.utc_seconds * 1'000'000'000), "?", "?", "?",
                           "?", "damaged", "", ""});  // what is wrong with it is a warning
            return;
        }
        const Manifest& manifest = *entry.manifest;
        std::string tags;
        for (const std::string& tag : manifest.tags) {
            tags += (tags.empty() ? "" : ",") + printable_name(tag);
        }
        row(received, {short_id(manifest.id), utc(manifest.snapshot_time_ns), printable_name(manifest.node.name),
                       to_string(manifest.consistency), human_bytes(manifest.totals.logical_bytes),
                       human_bytes(manifest.totals.stored_bytes), state_of(manifest), manifest.pinned ? "pinned" : "", tags});
    }
    std::size_t rows() const { return rows_; }

private:
    void row(const std::string& received, std::vector<std::string> cells) {
        static constexpr std::size_t kWithReceipts[] = {12, 19, 19, 12, 16, 10, 10, 10, 6, 0};
        static constexpr std::size_t kWithout[] = {12, 19, 12, 16, 10, 10, 10, 6, 0};
        const std::size_t* widths = receipts_.empty() ? kWithout : kWithReceipts;
        if (!receipts_.empty()) {
            cells.insert(cells.begin() + 2, received);
        }
        std::string text;
        for (std::size_t i = 0; i < cells.size(); ++i) {
            const std::size_t columns = columns_of(cells[i]);
            text += cells[i] + std::string(columns < widths[i] ? widths[i] - columns + 2 : 2, ' ');
        }
        text.erase(text.find_last_not_of(' ') + 1);
        out_ << text << '\n';
    }

    std::ostream& out_;
    const Receipts& receipts_;
    std::size_t rows_ = 0;
};

ExitStatus run(Call& call) {
    const std::string place = call.positional("REPOSITORY");
    call.end_of_positionals();
    const auto tags = call.options().list("tag");
    const Repository repository = open_repository(call, place);
    bool damaged = false;
    const Receipts receipts = Receipts::load(repository.target(), repository.info().uuid,
                                             [&](const std::string& damage) { call.report().warn("a receipt can't be read: " + damage); });
    Table table(call.out(), receipts);
    if (call.json()) {
        JsonWriter& document = call.document();
        document.name("repository", repository.target().describe());
        document.member("uuid", repository.info().uuid.text());
        document.member("node", repository.info().node.name);
        document.begin_array("backups");
    }
    repository.for_each_backup([&](const BackupEntry& entry) {
        if (!entry.manifest) {
            damaged = true;
            warn_of_damaged(call.report(), entry);
        }
        if (entry.manifest && !has_tags(*entry.manifest, tags)) {
            return;
        }
        call.check_output();
        if (!call.json()) {
            table.add(entry);
            return;
        }
        JsonWriter& document = call.document();
        document.begin_object();
        if (entry.manifest) {
            write_backup(document, *entry.manifest, entry.object);
            const Receipt* receipt = receipts.find(entry.name);
            write_received(document, receipt != nullptr ? std::optional(receipt->received_ns) : std::nullopt);
        } else {
            document.member("object", entry.object);
            document.member("sequence", entry.name.sequence);
            document.member("state", "damaged");
            document.member("damage", entry.damage);
        }
        document.end();
    });
    if (!call.json() && table.rows() == 0) {
        call.out() << "no backups\n";
    }
    return damaged ? ExitStatus::kDamaged : ExitStatus::kDone;
}

}  // namespace

const Command kList = {
    "list",
    "list the backups of a repository",
    "nodesnap list REPOSITORY [OPTION]...\n",
    "Lists the backups, the oldest first: id, when the snapshot was taken, what consistency it has, the size of its files, and what\n"
    "the backup added to the repository. SIZE counts holes in files, STORED doesn't. STATE is \"good\", \"incomplete\" (parts of the\n"
    "source could not be read; never taken for \"latest\") or \"damaged\" (its manifest can't be read any more). Where a backup came by "
    "way\n"
    "of \"nodesnap serve --append-only\", RECEIVED tells when, by that host's clock.\n"
    "Needs no lock and no write access.\n",
    "nodesnap list /backup/node1\n"
    "nodesnap list /backup/node1 --json | jq -r '.backups[-1].id'\n",
    "0  done\n"
    "1  failed\n"
    "2  wrong usage\n"
    "3  this isn't a repository\n"
    "4  done; something stored twice has lost a copy\n"
    "5  a backup's manifest is damaged\n",
    declare,
    run,
};

}  // namespace nodesnap::command
