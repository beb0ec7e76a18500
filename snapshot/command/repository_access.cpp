#include "snapshot/command/repository_access.h"

#include "io/human_time.h"
#include "io/remote/ssh.h"
#include "io/remote/ssh_ciphers.h"
#include "io/target/directory.h"
#include "io/units.h"
#include "platform/file.h"
#include "snapshot/command/printable.h"
#include "snapshot/overlap.h"

namespace nodesnap::command {
namespace {

constexpr std::size_t kNewerShown = 8;

}  // namespace

void DamageWarnings::operator()(const Damage& damage) {
    if (!damage.healed && !tell_unhealed_) {
        return;
    }
    const std::string text = damage.object + ": " + damage.what +
                             (damage.healed ? "; another copy served, \"nodesnap repair\" restores the redundancy"
                                            : "; \"nodesnap repair\" heals what can be healed, and tells how to give up what can't");
    {
        const std::lock_guard lock(mutex_);
        if (seen_.size() >= kRemembered || !seen_.insert(text).second) {
            return;
        }
    }
    report_.warn(text);
}

void declare_remote(OptionSet& options) {
    options.value("ssh", "COMMAND", "what reaches the host of a repository at ssh://HOST/PATH: ssh, with options of its own (default ssh)");
    options.value("remote-program", "PATH", "where nodesnap is on that host (default nodesnap, found by its PATH)");
    options.value("connections", "N", "at most so many connections to it at once (default 4)");
}

bool is_far(const std::string& place) {
    return remote::parse_ssh_place(place).has_value();
}

remote::Dial dial_of(const Options& options, const std::string& far_place) {
    const remote::SshPlace place = remote::parse_ssh_place(far_place).value();
    remote::SshOptions ssh;
    ssh.remote_program = options.text("remote-program", ssh.remote_program);
    if (options.given("ssh")) {
        ssh.program = options.text("ssh");
    } else {
        ssh.ciphers = remote::preferred_ciphers(place);
    }
    return [place, ssh](bool first) { return remote::dial_ssh(place, ssh, first); };
}

std::shared_ptr<Target> open_target(const Options& options, const std::string& place, bool create) {
    if (is_far(place)) {
        constexpr unsigned kConnections = 4;
        constexpr unsigned kMostConnections = 16;
        remote::RemoteOptions target;
        target.place = place;
        target.connections = options.count("connections", 1, kMostConnections, kConnections);
        target.dial = dial_of(options, place);
        return remote::open_remote_target(std::move(target), create);
    }
    if (const auto scheme = place.find("://"); scheme != std::string::npos && place.find('/') == scheme + 1) {
        throw Error::usage("\"" + place + "\": a repository is a directory, or ssh://HOST/PATH", "mount other places and give the path");
    }
    return open_directory_target(place, create);
}

void check_parent(const std::string& path) {
    const auto end = path.find_last_not_of('/');
    const auto slash = end == std::string::npos ? end : path.rfind('/', end);
    const std::string parent = slash == std::string::npos ? "." : path.substr(0, slash + 1);
    if (!stat_path(parent)) {
        throw Error::refused("cannot make " + path + ": there is no directory " + parent,
                             "make it first, or check that its disk is mounted");
    }
    if (const auto around = repository_around(parent)) {
        throw Error::refused("cannot make " + path + ": it would lie inside the repository " + *around, "name another directory");
    }
}

Repository open_repository(const Options& options, const std::string& place, DamageSink sink) {
    return Repository::open(open_target(options, place), std::move(sink));
}

Repository open_repository(Call& call, const std::string& place) {
    const auto warnings = std::make_shared<DamageWarnings>(call.report());
    return open_repository(call.options(), place, [warnings](const Damage& damage) { (*warnings)(damage); });
}

void declare_as_of(OptionSet& options) {
    options.value("as-of", "TIME", "in place of BACKUP: the newest backup whose snapshot was taken at TIME or before");
}

BackupChoice::BackupChoice(Call& call) : BackupChoice(call, "BACKUP", true) {}

BackupChoice::BackupChoice(Call& call, const char* name, bool as_of, bool may_be_missing)
    : as_of_ns(as_of ? call.options().time("as-of") : std::nullopt), report_(call.report()) {
    if (as_of_ns) {
        return;
    }
    backup = may_be_missing ? call.optional_positional(name) : call.positional(name);
    if (backup.empty()) {
        backup = "latest";
    }
}

BackupChoice BackupChoice::or_latest(Call& call) {
    return {call, "BACKUP", true, true};
}

Manifest BackupChoice::find(const Repository& repository) const {
    std::vector<BackupEntry> newer;
    Manifest found = repository.find_backup(backup, as_of_ns, [&](const BackupEntry& entry) {
        if (newer.size() < kNewerShown) {
            newer.push_back(entry);
        }
    });
    for (const BackupEntry& entry : newer) {
        warn_of_damaged(report_, entry);
    }
    if (!newer.empty()) {
        report_.warn("backup " + found.id.hex() + " of " + utc(found.snapshot_time_ns) + " UTC was taken instead, which is older");
    }
    return found;
}

void warn_of_damaged(Report& report, const BackupEntry& entry) {
    report.warn(entry.object + ": this backup's manifest can't be read: " + entry.damage +
                "; run \"nodesnap repair\": it heals what can be healed, and tells how to give up what can't");
}

std::string short_id(const SessionId& id) {
    return id.hex().substr(0, 12);
}

std::string utc(std::int64_t nanoseconds) {
    return human_time(nanoseconds);
}

std::string state_of(const Manifest& manifest) {
    return manifest.damaged ? "incomplete" : "good";
}

void write_backup(JsonWriter& document, const Manifest& manifest, const std::string& object) {
    document.member("id", manifest.id.hex());
    document.member("sequence", manifest.name.sequence);
    if (!object.empty()) {
        document.member("object", object);
    }
    document.member("state", state_of(manifest));
    if (manifest.parent) {
        document.member("parent", manifest.parent->hex());
    } else {
        document.null("parent");
    }
    document.member("snapshot_time", format_utc_precise(manifest.snapshot_time_ns));
    document.member("finished_time", format_utc_precise(manifest.finished_time_ns));
    document.member("snapshot_ms", static_cast<double>(manifest.snapshot_duration_ns) / 1e6);
    document.member("downtime_ms", static_cast<double>(manifest.held_ns) / 1e6);
    document.member("consistency", to_string(manifest.consistency));
    document.member("backend", manifest.proof.backend);
    document.member("node", manifest.node.name);
    document.name("node_directory", manifest.node.path);
    document.member("host", manifest.host_name);
    document.member("tool_version", manifest.tool_version);
    document.member("profile", manifest.profile);
    document.member("engine_version", manifest.engine_version);
    if (manifest.cut) {
        document.member("cluster_backup", manifest.cut->cut.text());
    } else {
        document.null("cluster_backup");
    }
    const Manifest::Totals& totals = manifest.totals;
    document.member("files", totals.files);
    document.member("directories", totals.directories);
    document.member("others", totals.others);
    document.member("unreadable_files", totals.unreadable_files);
    document.member("logical_bytes", totals.logical_bytes);
    document.member("data_bytes", totals.data_bytes);
    document.member("read_bytes", totals.read_bytes);
    document.member("stored_bytes", totals.stored_bytes);
    document.member("referenced_bytes", totals.referenced_bytes);
    document.begin_array("tags");
    for (const std::string& tag : manifest.tags) {
        document.element(tag);
    }
    document.end();
    document.begin_array("captured");
    for (const CapturedFile& file : manifest.captured) {
        document.begin_object();
        document.name("path", file.path);
        document.member("bytes", std::uint64_t{file.content.size()});
        document.end();
    }
    document.end();
    document.begin_array("excludes");
    for (const std::string& pattern : manifest.excludes) {
        document.element(pattern);
    }
    document.end();
    document.member("pinned", manifest.pinned);
    document.begin_array("pins");
    for (const std::string& pin : manifest.pins) {
        document.element(pin);
    }
    document.end();
}

void write_received(JsonWriter& document, std::optional<std::int64_t> received_ns) {
    if (received_ns) {
        document.member("received_time", format_utc_precise(*received_ns));
    } else {
        document.null("received_time");
    }
}

void declare_lease(OptionSet& options) {
    options.value("wait-lock", "DURATION", "wait so long for another that holds the repository (default: 0)");
    options.value("lock-lease", "DURATION", "after how long without a sign of life others may take the lock over, 1s to 1d (default: 5m)");
}

std::string waiting_text(std::chrono::seconds wait, const std::string& why) {
    return "nodesnap: " + (wait.count() == 0 ? "" : "waiting up to " + human_duration(wait) + ": ") + why;
}

LeaseOptions lease_options(Call& call, const char* command) {
    LeaseOptions result = lease_options(call.options(), command);
    result.waiting = [&call, wait = result.wait](const std::string& why) {
        call.streams().err << waiting_text(wait, why) << '\n' << std::flush;
    };
    return result;
}

LeaseOptions lease_options(const Options& options, const char* command) {
    LeaseOptions result;
    result.command = command;
    result.lease = options.whole_seconds("lock-lease", result.lease);
    result.wait = options.whole_seconds("wait-lock", result.wait);
    if (result.lease < std::chrono::seconds(1) || result.lease > std::chrono::hours(24)) {
        throw Error::usage("--lock-lease: a lease lasts from 1s to 1d");
    }
    return result;
}

namespace {

const char* state_text(HolderState state) {
    switch (state) {
        case HolderState::kNone:
            return "none";
        case HolderState::kAlive:
            return "alive";
        case HolderState::kDead:
            return "dead";
        case HolderState::kExpired:
            return "expired";
        case HolderState::kUnknown:
            return "unknown";
        case HolderState::kUnreadable:
            return "unreadable";
    }
    return "unknown";
}

const char* state_sentence(HolderState state) {
    switch (state) {
        case HolderState::kNone:
            return "released";
        case HolderState::kAlive:
            return "it is alive";
        case HolderState::kDead:
            return "it is dead";
        case HolderState::kExpired:
            return "its lease has run out";
        case HolderState::kUnknown:
            return "on another host, with a recent sign of life";
        case HolderState::kUnreadable:
            return "its record can't be read";
    }
    return "";
}

}  // namespace

std::string describe_holder(const LeaseState& state, bool removed) {
    if (state.state == HolderState::kUnreadable) {
        return "an unknown holder (" + printable_text(state.damage) + "; see \"nodesnap help unlock\")";
    }
    if (!state.holder) {
        return "an unknown holder (" + std::string(state_sentence(state.state)) + ")";
    }
    const LeaseHolder& holder = *state.holder;
    const bool gone = state.state == HolderState::kDead || state.state == HolderState::kExpired;
    return "\"nodesnap " + printable_name(holder.command) + "\", process " + std::to_string(holder.pid) + " on " +
           printable_name(holder.host) + ", since " + utc(holder.acquired_ns) + " UTC, last sign of life " + utc(holder.heartbeat_ns) +
           " UTC (" + state_sentence(state.state) + (gone && !removed ? "; the next backup takes over" : "") + ")";
}

void write_holder(JsonWriter& document, const LeaseState& state) {
    if (state.state == HolderState::kUnreadable) {
        document.begin_object("lock");
        document.member("state", state_text(state.state));
        document.member("damage", state.damage);
        document.end();
        return;
    }
    if (state.state == HolderState::kNone || !state.holder) {
        document.null("lock");
        return;
    }
    const LeaseHolder& holder = *state.holder;
    document.begin_object("lock");
    document.member("state", state_text(state.state));
    document.member("command", holder.command);
    document.member("host", holder.host);
    document.member("pid", holder.pid);
    document.member("epoch", holder.epoch);
    document.member("acquired_time", format_utc_precise(holder.acquired_ns));
    document.member("heartbeat_time", format_utc_precise(holder.heartbeat_ns));
    document.member("lease_seconds", holder.lease_seconds);
    document.end();
}

void declare_workers(OptionSet& options) {
    options.value("workers", "N", "threads that move data, 1 to 8 (default: one for each CPU or connection, at most 4)");
    declare_io_uring(options);
}

void declare_io_uring(OptionSet& options) {
    options.flag("no-io-uring", "use plain system calls instead of io_uring");
}

}  // namespace nodesnap::command
