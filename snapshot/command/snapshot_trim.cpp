#include "snapshot/command/snapshot_trim.h"

#include <algorithm>
#include <array>
#include <charconv>

#include "io/units.h"
#include "platform/file_system.h"
#include "platform/interrupt.h"
#include "snapshot/command/printable.h"
#include "snapshot/command/repository_access.h"

namespace nodesnap::command {
namespace {

constexpr std::array kBounds = {"min-free", "max-age", "max-count"};

// "20G" or "10%" of the file system.
std::uint64_t min_free_bytes(const std::string& text, const std::string& node_directory) {
    try {
        if (!text.ends_with('%')) {
            return parse_size(text);
        }
        double percent = 0;
        const char* const end = text.data() + text.size() - 1;
        const auto [read, problem] = std::from_chars(text.data(), end, percent, std::chars_format::fixed);
        if (problem != std::errc{} || read != end || !(percent >= 0 && percent < 100)) {
            throw Error::usage("\"" + printable_name(text) + "\" is not a part of the file system", "a number from 0 to below 100 with %");
        }
        return static_cast<std::uint64_t>(static_cast<double>(file_system_of(node_directory).total_bytes) / 100 * percent);
    } catch (const Error& error) {
        if (error.status() != ExitStatus::kUsage) {
            throw;
        }
        throw Error::usage("--min-free: " + error.message(), error.hint());
    }
}

// Of statvfs(), which is what the daemon can still write: on btrfs the free part of the data chunks and what can become new ones, less what
// metadata may need, and nothing when metadata has run out.
FreeSpace free_space_of(const std::string& node_directory) {
    const FileSystem system = file_system_of(node_directory);
    return {system.free_bytes, system.total_bytes - std::min(system.total_bytes, system.free_bytes)};
}

void write_dropped(JsonWriter& document, const DroppedSnapshot& dropped, const std::string& message) {
    document.begin_object();
    write_snapshot(document, dropped.snapshot);
    document.member("age_seconds", std::chrono::duration_cast<std::chrono::seconds>(dropped.age).count());
    document.member("held_bytes", dropped.held_bytes);
    document.member("reason", dropped.reason);
    document.member("only_if_needed", dropped.only_if_needed);
    document.member("message", message);
    document.end();
}

void write_kept(JsonWriter& document, const char* name, const std::vector<ClassifiedSnapshot>& kept) {
    document.begin_array(name);
    for (const ClassifiedSnapshot& snapshot : kept) {
        document.begin_object();
        write_snapshot(document, snapshot);
        document.end();
    }
    document.end();
}

void write_result(JsonWriter& document, const TrimResult& result, const TrimOptions& options) {
    document.end();  // "dropped"
    write_kept(document, "in_use", result.in_use);
    write_kept(document, "useless", result.useless);
    write_kept(document, "resumable", result.resumable);
    if (result.free_known) {
        document.member("free_bytes", result.free_bytes);
    } else {
        document.null("free_bytes");
    }
    if (options.min_free_bytes) {
        document.member("min_free_bytes", *options.min_free_bytes);
    } else {
        document.null("min_free_bytes");
    }
    if (result.enough || result.free_known) {
        document.member("enough", result.enough);
    } else {
        document.null("enough");
    }
}

void print_result(std::ostream& out, const TrimResult& result, const TrimOptions& options) {
    for (const ClassifiedSnapshot& snapshot : result.in_use) {
        out << "kept " << printable_name(snapshot.entry.name) << ": a running backup uses it\n";
    }
    for (const ClassifiedSnapshot& snapshot : result.useless) {
        out << "kept " << printable_name(snapshot.entry.name) << ": no space would come free without it\n";
    }
    for (const ClassifiedSnapshot& snapshot : result.resumable) {
        out << "kept " << printable_name(snapshot.entry.name)
            << (snapshot.role == SnapshotRole::kUnfinished
                    ? ": an unfinished backup can go on from it"
                    : ": an unfinished backup may go on from it; --repository REPOSITORY tells whether one does")
            << '\n';
    }
    if (result.dropped.empty() && result.in_use.empty() && result.useless.empty() && result.resumable.empty()) {
        out << "nothing to drop\n";
    }
    if (!result.free_known) {
        out << "free then: can't be told. The file system says that nothing is free, which it also does when its own metadata is full; "
               "trim "
               "looks after each parent whether that was enough\n";
    } else {
        out << (options.dry_run ? "free then: about " : "free: ") << human_bytes(result.free_bytes) << '\n';
    }
}

}  // namespace

void declare_trim(OptionSet& options) {
    options.value("min-free", "SIZE|PERCENT",
                  "with trim: drop parents, the oldest first, until the file system has so much free (20G, 10%)");
    options.value("max-age", "AGE", "with trim: drop parents that are older (7d)");
    options.value("max-count", "N", "with trim: drop the oldest parents until there are N, of all repositories together");
    options.list("repository", "REPOSITORY", "with trim and list: says of its backups' snapshots what they are (may be repeated)");
    options.flag("dry-run", "with trim: only tell what would be dropped");
}

TrimOptions read_trim_options(const Options& options, const std::string& node_directory) {
    TrimOptions result;
    if (options.given("min-free")) {
        result.min_free_bytes = min_free_bytes(options.text("min-free"), node_directory);
    }
    result.max_age = options.duration("max-age");
    if (options.given("max-count")) {
        constexpr unsigned kMost = 1'000'000;
        result.max_count = options.count("max-count", 0, kMost, 0);
    }
    if (!result.min_free_bytes && !result.max_age && !result.max_count) {
        throw Error::usage("snapshot trim needs a bound", "give --min-free, --max-age or --max-count");
    }
    result.dry_run = options.flag("dry-run");
    result.now_ns = utc_now();
    return result;
}

// One that is out of reach is no reason to let the disk fill.
std::vector<KnownRepository> known_repositories(Call& call) {
    std::vector<KnownRepository> known;
    for (const std::string& place : call.options().list("repository")) {
        try {
            known.push_back(known_repository(open_repository(call.options(), place, [](const Damage&) {})));
        } catch (const Error& error) {
            throw_if_interrupted();
            call.report().warn("what its backups' snapshots are can't be asked for: " + error.message());
        }
    }
    return known;
}

void refuse_trim_options(const Options& options, const std::string& action) {
    for (const char* const name : kBounds) {
        if (options.given_in_call(name)) {
            throw Error::usage("--" + std::string(name) + " belongs to snapshot trim, not to snapshot " + action);
        }
    }
    if (action != "list" && options.given_in_call("repository")) {
        throw Error::usage("--repository belongs to snapshot trim and list, not to snapshot " + action);
    }
    if (options.flag("dry-run")) {
        throw Error::usage("--dry-run belongs to snapshot trim, not to snapshot " + action);
    }
}

ExitStatus trim(Call& call, SnapshotBackend& backend, const TrimOptions& options, const std::string& node_directory) {
    if (call.json()) {
        call.document().member("dry_run", options.dry_run);
        call.document().begin_array("dropped");
    }
    const auto tell = [&](const DroppedSnapshot& dropped, const FreeSpace& space) {
        const std::string message = describe(dropped, space.used_bytes, options.dry_run);
        if (!options.dry_run) {
            call.done("parent snapshots are dropped");
        }
        if (call.json()) {
            write_dropped(call.document(), dropped, message);
        } else {
            call.out() << printable_text(message) << std::endl;  // in the journal at once, whatever comes next
        }
    };
    // What the daemon can write to may depend on more than its own file system: on the pool of a thin volume.
    if (const std::string dropped = options.dry_run ? "" : backend.make_room(); !dropped.empty()) {
        call.done("parent snapshots are dropped");
        call.report().warn(dropped);
    }
    const TrimResult result = trim_snapshots(
        backend, options, [&] { return free_space_of(node_directory); }, tell, call.report());
    if (call.json()) {
        write_result(call.document(), result, options);
    } else {
        print_result(call.out(), result, options);
    }
    if (!result.enough && result.free_known) {
        call.report().warn("the file system of " + node_directory + " has " + human_bytes(result.free_bytes) + " free, and " +
                           human_bytes(*options.min_free_bytes) + " are asked for: no parent snapshot is left " +
                           (result.useless.empty() ? "to drop" : "that would give space when it is dropped") + "; see " +
                           "nodesnap snapshot list for those that an operator keeps");
    }
    return ExitStatus::kDone;
}

void write_snapshot(JsonWriter& document, const ClassifiedSnapshot& snapshot) {
    document.member("name", snapshot.entry.name);
    document.name("path", snapshot.entry.path);
    document.member("created_time", format_utc(snapshot.entry.created_ns));
    document.member("temporary", snapshot.entry.temporary);
    document.member("role", to_string(snapshot.role));
    document.member("repository_prefix", snapshot.repository);
    document.member("certain", snapshot.certain);
    document.member("in_use", snapshot.entry.in_use);
}

std::string describe_role(const ClassifiedSnapshot& snapshot) {
    switch (snapshot.role) {
        case SnapshotRole::kOperators:
            return "operator's own";
        case SnapshotRole::kRolledBack:
            return "what was there before a rollback";
        case SnapshotRole::kParent:
            return "parent of the next backup into repository " + snapshot.repository;
        case SnapshotRole::kUnfinished:
            return "left by an unfinished backup into repository " + snapshot.repository + (snapshot.certain ? "" : ", or its next parent");
        case SnapshotRole::kLeft:
            return "left by a backup into repository " + snapshot.repository + " that can't be gone on with";
        case SnapshotRole::kUnknown:
            break;
    }
    return "made by a backup";
}

}  // namespace nodesnap::command
