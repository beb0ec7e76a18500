// nodesnap verify: proves that backups can be restored.
#include "snapshot/verify.h"

#include <algorithm>
#include <charconv>

#include "io/units.h"
#include "snapshot/command/printable.h"
#include "snapshot/command/progress_line.h"
#include "snapshot/command/repository_access.h"

namespace nodesnap::command {
namespace {

void declare(OptionSet& options) {
    options.flag("data", "read all file data too, and check every block");
    options.value("sample", "SHARE",
                  "with --data: read only so much, as in 5% or 10G: what was never checked, then what wasn't for longest");
    options.value("since", "DURATION", "with --data: read only what wasn't checked within this time, as in 30d");
    declare_as_of(options);
    options.value("limit", "RATE", "with --data: read at most so many bytes a second, as in 200M (default: no limit)");
    options.value("workers", "N", "with --data: threads that read, 1 to 8 (default: one for each CPU, up to 8)");
    options.flag("no-io-uring", "use plain system calls instead of io_uring");
    options.value("scratch-dir", "DIR", "for what doesn't fit in memory (default: $TMPDIR or /var/tmp)");
    options.flag("quiet", "no progress line; say nothing if all is whole");
    options.flag("json", "print the result as a JSON document");
}

bool reads_all_data(const VerifyOptions& options) {
    return options.data && !options.sample && !options.since;
}

// "5%", or a size.
Sample parse_sample(const std::string& text) {
    Sample sample;
    if (!text.ends_with('%')) {
        sample.bytes = parse_size(text);
        if (sample.bytes == 0) {
            throw Error::usage("--sample: \"" + text + "\" is nothing");
        }
        return sample;
    }
    const char* end = text.data() + text.size() - 1;
    const auto [stop, problem] = std::from_chars(text.data(), end, sample.percent, std::chars_format::fixed);
    if (problem != std::errc{} || stop != end || !(sample.percent > 0 && sample.percent <= 100)) {
        throw Error::usage("--sample: \"" + text + "\" isn't a share of more than 0% and at most 100%, as in 5%, nor a size, as in 10G");
    }
    return sample;
}

// In a configuration file they are for the calls that have --data.
void read_choice(const Options& options, VerifyOptions& result) {
    result.data = options.flag("data");
    for (const char* name : {"sample", "since", "limit"}) {
        if (!result.data && options.given_in_call(name)) {
            throw Error::usage("--" + std::string(name) + " is about reading the data: it needs --data");
        }
    }
    // Looked at in any case: a configuration file may be for calls with --data too, and a mistake in it is one now.
    const auto sample = options.given("sample") ? std::optional(parse_sample(options.text("sample"))) : std::nullopt;
    const auto since = options.duration("since");
    result.limit_bytes_per_second = options.rate("limit");
    if (result.data) {
        result.sample = sample;
        result.since = since;
    }
}

void tell_forgetfulness(Call& call, const VerifyOptions& options, VerifyResult& result) {
    const std::string& why = result.coverage.not_remembered;
    if (!options.data || why.empty()) {
        return;
    }
    const std::string text = "not all that was checked could be remembered: " + why;
    if (reads_all_data(options)) {
        result.information.push_back(text);
    } else {
        call.report().warn(text + "; the next run reads the same again");
    }
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

// "61 %": rounded down, so that 100 % is all.
std::string share(const Coverage::Amount& part, const Coverage::Amount& all) {
    const double percent = all.bytes == 0 ? 100 : 100 * (static_cast<double>(part.bytes) / static_cast<double>(all.bytes));
    return std::to_string(part.packs == all.packs ? 100 : std::min(99, static_cast<int>(percent))) + " %";
}

std::string amount(const Coverage::Amount& amount) {
    return counted(amount.packs, "pack", "packs") + ", " + human_bytes(amount.bytes);
}

void print_coverage(std::ostream& out, const Coverage& coverage, const std::string& since) {
    if (coverage.all.packs == 0) {
        return;
    }
    out << "data: " << amount(coverage.all) << "; checked now: " << share(coverage.now, coverage.all) << ", within "
        << (since.empty() ? "30d" : since) << ": " << share(coverage.recent, coverage.all)
        << ", ever: " << share(coverage.ever, coverage.all);
    if (coverage.oldest_ns) {
        out << "; the oldest check is of " << utc(*coverage.oldest_ns) << " UTC";
    }
    out << '\n';
    if (coverage.rewritten.packs != 0) {
        out << "not checked since they were rewritten: " << amount(coverage.rewritten) << '\n';
    }
    if (coverage.damaged.packs != 0) {
        out << "damaged when they were last read: " << amount(coverage.damaged) << '\n';
    }
}

std::string verdict(const VerifyResult& result, const VerifyOptions& options) {
    if (result.lost_count != 0) {
        return counted(result.lost_count, "damage", "damages") + " can't be healed";
    }
    if (result.needs_repair()) {
        return "nothing is lost; \"nodesnap repair\" restores the redundancy";
    }
    if (!options.data) {
        return "the structure is whole; --data reads the data too";
    }
    return reads_all_data(options) ? "all is whole" : "all that was checked is whole";
}

void print_result(Call& call, const VerifyOptions& options, const VerifyResult& result, std::chrono::nanoseconds elapsed) {
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
        << (options.data ? "" : " (not their data)") << ", " << human_bytes(result.bytes_read) << " in " << human_duration(elapsed) << '\n';
    print_coverage(out, result.coverage, call.options().text("since"));
    out << verdict(result, options) << '\n';
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

void write_amount(JsonWriter& document, const std::string& name, const Coverage::Amount& amount) {
    document.member(name + "packs", amount.packs);
    document.member(name + "bytes", amount.bytes);
}

void write_coverage(JsonWriter& document, const Coverage& coverage) {
    document.begin_object("coverage");
    write_amount(document, "", coverage.all);
    write_amount(document, "now_", coverage.now);
    write_amount(document, "recent_", coverage.recent);
    document.member("recent_seconds", std::chrono::duration<double>(coverage.window).count());
    write_amount(document, "ever_", coverage.ever);
    write_amount(document, "rewritten_", coverage.rewritten);
    write_amount(document, "damaged_", coverage.damaged);
    if (coverage.oldest_ns) {
        document.member("oldest_check_time", format_utc(*coverage.oldest_ns));
    } else {
        document.null("oldest_check_time");
    }
    document.member("remembered", coverage.not_remembered.empty());
    document.end();
}

void write_result(JsonWriter& document, const VerifyResult& result, const VerifyOptions& options, std::chrono::nanoseconds elapsed) {
    document.member("whole", !result.needs_repair());
    document.member("data_checked", reads_all_data(options));
    document.member("backups", result.backups);
    document.member("objects", result.objects);
    document.member("nodes", result.nodes);
    document.member("segments", result.segments);
    document.member("bytes_read", result.bytes_read);
    write_coverage(document, result.coverage);
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
    read_choice(call.options(), options);
    options.workers = call.options().count("workers", 1, VerifyOptions::kWorkersLimit, 0);
    options.force_blocking = call.options().flag("no-io-uring");
    options.scratch_directory = call.options().scratch_directory();
    // run_verify() looks at all copies itself; what it doesn't is the records of unfinished backups.
    Repository repository = open_repository(call.options(), place, [&call](const Damage& damage) {
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
    tell_forgetfulness(call, options, result);
    if (call.json()) {
        write_result(call.document(), result, options, elapsed);
    } else {
        print_result(call, options, result, elapsed);
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
    "backup doesn't keep the others from being checked. Needs no lock and no write access.\n"
    "\n"
    "What --data checks, and when, is remembered in the repository, also by a run that is interrupted, and how much of the data has\n"
    "been checked is told. --sample reads a part: packs that were never checked, then those whose check is the longest ago. --since\n"
    "reads what wasn't checked within a time; together they read at most the sample of that. Metadata is always checked whole.\n",
    "nodesnap verify /backup/node1\n"
    "nodesnap verify /backup/node1 latest --data --limit 200M\n"
    "nodesnap verify /backup/node1 --data --sample 4%\n",
    "0  all that was checked is whole\n"
    "1  failed or interrupted\n"
    "2  wrong usage\n"
    "3  this isn't a repository\n"
    "4  all that was checked is whole, with warnings; as when a sample that was checked can't be remembered\n"
    "5  damage was found, be it healed by another copy or not\n",
    declare,
    run,
};

}  // namespace nodesnap::command
