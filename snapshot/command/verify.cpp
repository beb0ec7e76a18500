// nodesnap verify: proves that backups can be restored.
#include "snapshot/verify.h"

#include "io/units.h"
#include "snapshot/command/printable.h"
#include "snapshot/command/progress_line.h"
#include "snapshot/command/repository_access.h"

namespace nodesnap::command {
namespace {

void declare(OptionSet& options) {
    options.flag("data", "read all file data too, and check every block");
    declare_as_of(options);
    options.value("limit", "RATE", "with --data: read at most so many bytes a second, as in 200M (default: no limit)");
    options.value("workers", "N", "with --data: threads that read, 1 to 8 (default: one for each CPU, up to 8)");
    options.flag("no-io-uring", "use plain system calls instead of io_uring");
    options.value("scratch-dir", "DIR", "for what doesn't fit in memory (default: $TMPDIR or /var/tmp)");
    options.flag("quiet", "no progress line; say nothing if all is whole");
    options.flag("json", "print the result as a JSON document");
}

void print_damage(std::ostream& out, const VerifyResult& result) {
    for (const Damage& damage : result.damages) {
        out << (damage.healed ? "damaged (another copy is good): " : "DAMAGED: ") << printable_text(damage.object + ": " + damage.what)
            << '\n';
    }
    if (result.damage_count > result.damages.size()) {
        out << "and " << result.damage_count - result.damages.size() << " more\n";
    }
    for (const std::string& affected : result.affected) {
        out << "affected: " << printable_text(affected) << '\n';
    }
    if (result.affected_count > result.affected.size()) {
        out << "affected: and " << result.affected_count - result.affected.size() << " more\n";
    }
}

void print_result(Call& call, const VerifyResult& result, std::chrono::nanoseconds elapsed) {
    const bool data = call.options().flag("data");
    std::ostream& out = call.out();
    print_damage(out, result);
    if (call.options().flag("quiet")) {
        return;
    }
    for (const std::string& line : result.information) {
        out << "note: " << printable_text(line) << '\n';
    }
    out << "checked " << counted(result.backups, "backup", "backups") << ": " << counted(result.objects, "object", "objects") << ", "
        << counted(result.nodes, "metadata node", "metadata nodes") << ", " << counted(result.segments, "segment", "segments")
        << (data ? "" : " (not their data)") << ", " << human_bytes(result.bytes_read) << " in " << human_duration(elapsed) << '\n';
    if (!result.needs_repair()) {
        out << (data ? "all is whole\n" : "the structure is whole; --data reads the data too\n");
    } else if (result.lost_count == 0) {
        out << "nothing is lost; \"nodesnap repair\" restores the redundancy\n";
    } else {
        out << counted(result.lost_count, "damage", "damages") << " can't be healed\n";
    }
}

void write_damage(JsonWriter& document, const Damage& damage) {
    document.begin_object();
    document.member("object", damage.object);
    document.member("what", damage.what);
    document.member("healed", damage.healed);
    document.end();
}

void write_texts(JsonWriter& document, const char* key, const std::vector<std::string>& texts) {
    document.begin_array(key);
    for (const std::string& text : texts) {
        document.element(text);
    }
    document.end();
}

void write_result(JsonWriter& document, const VerifyResult& result, bool data, std::chrono::nanoseconds elapsed) {
    document.member("whole", !result.needs_repair());
    document.member("data_checked", data);
    document.member("backups", result.backups);
    document.member("objects", result.objects);
    document.member("nodes", result.nodes);
    document.member("segments", result.segments);
    document.member("bytes_read", result.bytes_read);
    document.member("elapsed_seconds", std::chrono::duration<double>(elapsed).count());
    document.member("damage_count", result.damage_count);
    document.member("lost_count", result.lost_count);
    document.begin_array("damages");
    for (const Damage& damage : result.damages) {
        write_damage(document, damage);
    }
    document.end();
    document.member("affected_count", result.affected_count);
    write_texts(document, "affected", result.affected);
    write_texts(document, "information", result.information);
}

ExitStatus run(Call& call) {
    const std::string place = call.positional("REPOSITORY");
    VerifyOptions options;
    options.backup = call.options().given("as-of") ? "" : call.optional_positional("BACKUP");
    call.end_of_positionals();
    options.as_of_ns = call.options().time("as-of");
    options.data = call.options().flag("data");
    options.workers = call.options().count("workers", 1, VerifyOptions::kWorkersLimit, 0);
    options.force_blocking = call.options().flag("no-io-uring");
    options.limit_bytes_per_second = call.options().rate("limit");
    options.scratch_directory = call.options().text("scratch-dir");
    // run_verify() looks at all copies itself; what it doesn't is the records of unfinished backups.
    Repository repository = open_repository(place, [&call](const Damage& damage) {
        if (damage.object.starts_with(layout::kJournal)) {
            call.report().warn(damage.object + ": " + damage.what);
        }
    });
    Progress progress;
    VerifyResult result;
    const auto begin = std::chrono::steady_clock::now();
    {
        const ProgressLine line(progress, call.streams().err, call.shows_progress());
        result = run_verify(repository, options, progress);
    }
    const auto elapsed = std::chrono::steady_clock::now() - begin;
    if (call.json()) {
        write_result(call.document(), result, options.data, elapsed);
    } else {
        print_result(call, result, elapsed);
    }
    return result.needs_repair() ? ExitStatus::kDamaged : ExitStatus::kDone;
}

}  // namespace

const Command kVerify = {
    "verify",
    "prove that backups can be restored",
    "nodesnap verify REPOSITORY [BACKUP] [OPTION]...\n"
    "nodesnap verify REPOSITORY --as-of TIME [OPTION]...\n",
    "Checks all backups, or one: both copies of everything that is stored twice, every metadata record, that every name leads to a\n"
    "file and every file to data that exists. With --data it reads all that the backups' packs hold and checks every block. Says\n"
    "which objects are damaged, whether another copy is good, and which backups, files and ranges are affected. Damage in one\n"
    "backup doesn't keep the others from being checked. Changes nothing; needs no lock and no write access.\n",
    "nodesnap verify /backup/node1\n"
    "nodesnap verify /backup/node1 latest --data --limit 200M\n",
    "0  all that was checked is whole\n"
    "1  failed or interrupted\n"
    "2  wrong usage\n"
    "3  this isn't a repository\n"
    "5  damage was found, be it healed by another copy or not\n",
    declare,
    run,
};

}  // namespace nodesnap::command
