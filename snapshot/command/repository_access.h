// What the subcommands share: opening the repository that an operator named, and picking the backup.
#pragma once

#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <string>

#include "io/remote/remote_target.h"
#include "snapshot/command/command.h"
#include "snapshot/repository/repository.h"

namespace nodesnap::command {

// Turns damage that another copy has made good into one warning for each place. Damage that can't be healed comes as an Error from who
// needs the bytes; with `tell_unhealed` it is a warning too, of who goes on without them. Thread-safe.
class DamageWarnings {
public:
    explicit DamageWarnings(Report& report, bool tell_unhealed = false) : report_(report), tell_unhealed_(tell_unhealed) {}
    void operator()(const Damage& damage);

private:
    static constexpr std::size_t kRemembered = 1000;
    Report& report_;
    const bool tell_unhealed_;
    std::mutex mutex_;
    std::set<std::string> seen_;
};

// How a repository on another host is reached. Every command that is given one has these options.
void declare_remote(OptionSet& options);
bool is_far(const std::string& place);  // on another host
remote::Dial dial_of(const Options& options, const std::string& far_place);
// The place that REPOSITORY names: a directory, or ssh://HOST/PATH.
std::shared_ptr<Target> open_target(const Options& options, const std::string& place, bool create = false);
// Error::refused if a repository can't be made at that path of this host: its parent isn't there, or lies inside one.
void check_parent(const std::string& path);
// Opens it; what is damaged and healed becomes a warning of the call.
Repository open_repository(Call& call, const std::string& place);
// The same with a sink of the caller's.
Repository open_repository(const Options& options, const std::string& place, DamageSink sink);

void declare_as_of(OptionSet& options);
// What names a backup: BACKUP, the call's next positional argument, or --as-of. Taken before anything is opened, so that wrong usage is
// told first.
struct BackupChoice {
    std::string backup;
    std::optional<std::int64_t> as_of_ns;
    explicit BackupChoice(Call& call);
    // One of several: `name` is as in the usage line, and `as_of` says whether --as-of may stand in its place.
    BackupChoice(Call& call, const char* name, bool as_of, bool may_be_missing = false);
    static BackupChoice or_latest(Call& call);  // if none is named
    // A newer backup that can't be read, in whose place this one is taken, becomes a warning of the call.
    Manifest find(const Repository& repository) const;

private:
    Report& report_;
};

// A warning that the backup's manifest can't be read, and what to do.
void warn_of_damaged(Report& report, const BackupEntry& entry);

// For tables and documents.
std::string short_id(const SessionId& id);  // 12 digits
std::string utc(std::int64_t nanoseconds);  // "2024-05-31 14:30:05"
std::string state_of(const Manifest& manifest);
void write_backup(JsonWriter& document, const Manifest& manifest, const std::string& object = "");  // members of an open object

void write_received(JsonWriter& document, std::optional<std::int64_t> received_ns);  // when it was, if there is a receipt

// Options of commands that take the lease.
void declare_lease(OptionSet& options);
LeaseOptions lease_options(const Options& options, const char* command);
// The same for a command that shows no progress line: says on stderr whom it waits for.
LeaseOptions lease_options(Call& call, const char* command);
// "waiting up to 10 min: the repository is locked by ..."
std::string waiting_text(std::chrono::seconds wait, const std::string& why);
std::string describe_holder(const LeaseState& state, bool removed = false);
void write_holder(JsonWriter& document, const LeaseState& state);  // member "lock"

// Options of commands that move data.
void declare_workers(OptionSet& options);   // --workers and --no-io-uring
void declare_io_uring(OptionSet& options);  // --no-io-uring alone

}  // namespace nodesnap::command
