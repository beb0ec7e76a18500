// Forget: removes backups, by a policy or by name. A backup is its manifest: what only it refers to is given back by prune.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "snapshot/report.h"
#include "snapshot/repository/repository.h"
#include "snapshot/retention.h"

namespace nodesnap {

struct ForgetOptions {
    RetentionRules rules;              // either these
    std::vector<std::string> backups;  // or ids, unique beginnings of them, "latest"
    bool allow_newest = false;         // a named one may be the newest good one
    bool allow_mass_expire = false;    // more than half of the backups may go at once
    bool cluster_members = false;      // also parts of cluster backups that aren't forgotten
};

struct ForgetPlan {
    struct Backup {
        RetentionBackup facts;
        layout::ManifestName name{};                   // of the revision that counts
        std::vector<layout::ManifestName> superseded;  // earlier revisions, ascending
        std::optional<CutId> cut;                      // that it is a part of
        std::string damage;                            // why it can't be read
        std::vector<KeepReason> reasons;               // none: it is removed
        std::int64_t snapshot_ns = 0;                  // UTC, as it says itself
    };
    std::vector<Backup> backups;  // in ascending order of (sequence, UTC)
    std::size_t removed = 0;
    std::size_t unreadable = 0;
    // Of those that the last run kept, where receipts are kept: how many there are, and how many would go.
    std::size_t kept_before = 0, removed_of_them = 0;
    std::size_t kept() const { return backups.size() - removed; }
    // Whoever adds many could otherwise hide among them how many go.
    bool is_mass_expiry() const {
        return nodesnap::is_mass_expiry(removed, backups.size() - unreadable) ||
               (removed_of_them != 0 && nodesnap::is_mass_expiry(removed_of_them, kept_before));
    }
};

void check_request(const ForgetOptions& options);  // Error::usage: neither rules nor names, or both; not an id
// What run_forget() would do now. Reads only, needs no lease. Error::usage as from check_request(); Error::refused for a name that none has
// (a warning if others have theirs), or that is protected: pinned, the newest good one, damaged. Memory: some 400 bytes for each backup.
ForgetPlan plan_forget(const Repository& repository, const ForgetOptions& options, Report& report);

struct ForgetResult {
    ForgetPlan plan;
    std::size_t cleared_sessions = 0;
};
// Removes them, the oldest first; durably when it returns. Needs the lease, and looks at it before each removal; so no backup can be
// running whose parent goes. Clears up after dead sessions first. Error::refused before anything is removed if it is a mass expiry that
// isn't allowed. Interrupted or killed it leaves each backup whole or gone; run again it goes on.
ForgetResult run_forget(Repository& repository, const Lease& lease, const ForgetOptions& options, Report& report);

}  // namespace nodesnap
