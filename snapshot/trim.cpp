#include "snapshot/trim.h"

#include <algorithm>
#include <map>
#include <utility>

#include "io/units.h"
#include "platform/error.h"
#include "platform/interrupt.h"
#include "snapshot/backend/snapshot_name.h"
#include "snapshot/backup/parent.h"
#include "snapshot/repository/resume_limit.h"

namespace nodesnap {
namespace {

constexpr std::size_t kRepositoryDigits = 8;

// "<session>-<first digits of the repository's uuid>", as a backup names its snapshot. Empty if it isn't that.
std::string repository_of(const std::string& name) {
    if (name.size() <= kRepositoryDigits || name[name.size() - kRepositoryDigits - 1] != '-') {
        return "";
    }
    std::string digits = name.substr(name.size() - kRepositoryDigits);
    return digits.find_first_not_of("0123456789abcdef") == std::string::npos ? digits : "";
}

class Trim {
public:
    Trim(SnapshotBackend& backend, const TrimOptions& options, const FreeSpaceProbe& probe,
         const std::function<void(const DroppedSnapshot&, const FreeSpace&)>& dropped, Report& report)
        : backend_(backend), options_(options), probe_(probe), tell_(dropped), report_(report) {}

    TrimResult run() {
        left_ = classify(backend_.list(), options_.known);
        std::erase_if(left_, [](const ClassifiedSnapshot& snapshot) { return !snapshot.entry.temporary; });
        space_ = probe_();
        nothing_free_ = space_.free_bytes == 0;
        // What is of no use, then the oldest. What an unfinished backup may go on from, only when nothing else is left to drop.
        const auto rank = [](const ClassifiedSnapshot& snapshot) {
            return snapshot.role == SnapshotRole::kUnfinished ? 3
                   : snapshot.may_be_unfinished               ? 2
                   : snapshot.role == SnapshotRole::kLeft     ? 0
                                                              : 1;
        };
        std::stable_sort(left_.begin(), left_.end(),
                         [&](const ClassifiedSnapshot& a, const ClassifiedSnapshot& b) { return rank(a) < rank(b); });
        count_ = left_.size();
        for (auto snapshot = left_.begin(); snapshot != left_.end(); ++snapshot) {
            throw_if_interrupted();
            const std::string reason = reason_to_drop(*snapshot);
            if (reason.empty()) {
                if (is_beyond_bounds(*snapshot)) {
                    result_.resumable.push_back(*snapshot);
                }
                continue;
            }
            const auto held = snapshot->entry.in_use ? std::nullopt : held_by(*snapshot);
            if (reason == "free" && held && !may_free(*held, snapshot + 1)) {
                result_.useless.push_back(*snapshot);
            } else {
                drop(*snapshot, reason, held.value_or(HeldSpace{}));
            }
        }
        result_.free_bytes = space_.free_bytes;
        result_.used_bytes = space_.used_bytes;
        result_.enough = !lacks_space();
        result_.free_known = !options_.dry_run || !nothing_free_ || result_.dropped.empty();
        return std::move(result_);
    }

private:
    std::chrono::nanoseconds age_of(const ClassifiedSnapshot& snapshot) const {
        // A clock that was set back makes nothing old.
        return std::chrono::nanoseconds(std::max<std::int64_t>(0, options_.now_ns - snapshot.entry.created_ns));
    }
    bool lacks_space() const { return options_.min_free_bytes && space_.free_bytes < *options_.min_free_bytes; }

    bool is_too_old(const ClassifiedSnapshot& snapshot) const { return options_.max_age && age_of(snapshot) > *options_.max_age; }
    bool are_too_many() const { return options_.max_count && count_ > *options_.max_count; }
    bool is_beyond_bounds(const ClassifiedSnapshot& snapshot) const { return is_too_old(snapshot) || are_too_many(); }

    std::string reason_to_drop(const ClassifiedSnapshot& snapshot) const {
        constexpr std::chrono::nanoseconds kResumable = std::chrono::seconds(kResumableSeconds);
        if (snapshot.may_be_unfinished && age_of(snapshot) <= kResumable) {
            return lacks_space() ? "free" : "";
        }
        if (is_too_old(snapshot)) {
            return "age";
        }
        if (are_too_many()) {
            return "count";
        }
        return lacks_space() ? "free" : "";
    }

    // Whether space may come free when it is dropped, by itself or together with one of those that come after it.
    bool may_free(const HeldSpace& held, std::vector<ClassifiedSnapshot>::const_iterator next) {
        if (!held.frees_nothing_alone() || nothing_free_) {
            return true;
        }
        if (held.shared_bytes == 0) {
            return false;
        }
        // In a dry run those before it are still there, and what they would have left to it alone is still shared.
        return would_drop_shared_ || std::any_of(next, left_.cend(), [this](const ClassifiedSnapshot& other) {
                   const auto others = other.entry.in_use ? HeldSpace{} : held_if_known(other);
                   return !others || others->shared_bytes != 0;
               });
    }

    void drop(const ClassifiedSnapshot& snapshot, const std::string& reason, const HeldSpace& held) {
        if (snapshot.entry.in_use) {
            result_.in_use.push_back(snapshot);
            return;
        }
        DroppedSnapshot dropped{snapshot, age_of(snapshot), held.alone_bytes, reason};
        dropped.only_if_needed = options_.dry_run && nothing_free_ && reason == "free" && !result_.dropped.empty();
        if (options_.dry_run) {
            space_.free_bytes += dropped.held_bytes;
            would_drop_shared_ |= held.shared_bytes != 0;
        } else {
            if (!backend_.drop(snapshot.entry)) {
                result_.in_use.push_back(snapshot);
                return;
            }
        }
        --count_;
        result_.dropped.push_back(dropped);
        tell_(dropped, space_);  // before anything can fail
        if (!options_.dry_run) {
            backend_.wait_for_space();
            space_ = probe_();
            nothing_free_ = space_.free_bytes == 0;
        }
        if (snapshot.role == SnapshotRole::kUnfinished) {
            const std::string is =
                snapshot.certain ? (options_.dry_run ? " is" : " was") : (options_.dry_run ? " may be" : " may have been");
            report_.warn("the snapshot " + snapshot.entry.name + is +
                         " that of an unfinished backup: what that backup has read can't be gone on from, the next one begins anew");
        }
    }

    // To know is no condition of dropping it: on a full or damaged file system it may not be told.
    std::optional<HeldSpace> held_by(const ClassifiedSnapshot& snapshot) {
        std::string problem;
        auto held = held_if_known(snapshot, &problem);
        if (!held) {
            report_.warn("cannot tell what the snapshot " + snapshot.entry.name + " holds: " + problem);
        }
        return held;
    }

    std::optional<HeldSpace> held_if_known(const ClassifiedSnapshot& snapshot, std::string* problem = nullptr) {
        try {
            return backend_.held_space(snapshot.entry);
        } catch (const Error& error) {
            throw_if_interrupted();
            if (problem != nullptr) {
                *problem = error.message();
            }
            return std::nullopt;
        }
    }

    SnapshotBackend& backend_;
    const TrimOptions& options_;
    const FreeSpaceProbe& probe_;
    const std::function<void(const DroppedSnapshot&, const FreeSpace&)>& tell_;
    Report& report_;
    std::vector<ClassifiedSnapshot> left_;
    std::size_t count_ = 0;
    bool would_drop_shared_ = false;
    FreeSpace space_;
    bool nothing_free_ = false;  // when it was looked last: a dry run can't tell what would have changed that
    TrimResult result_;
};

}  // namespace

std::string to_string(SnapshotRole role) {
    switch (role) {
        case SnapshotRole::kOperators:
            return "operator's";
        case SnapshotRole::kRolledBack:
            return "before-rollback";
        case SnapshotRole::kParent:
            return "parent";
        case SnapshotRole::kUnfinished:
            return "unfinished";
        case SnapshotRole::kLeft:
            return "left";
        case SnapshotRole::kUnknown:
            break;
    }
    return "unknown";
}

KnownRepository known_repository(const Repository& repository) {
    KnownRepository known;
    known.digits = repository_of(snapshot_name(repository, SessionId{}));
    const std::set<SessionId> unfinished = repository.unfinished_sessions();
    for (const SessionRecord& session : repository.sessions()) {
        if (unfinished.contains(session.id) && repository.can_be_resumed(session)) {
            known.unfinished.insert(snapshot_name(repository, session.id));
        }
    }
    std::set<std::string> parents;
    bool all_read = true;
    repository.for_each_backup([&](const BackupEntry& entry) {
        all_read &= entry.manifest.has_value();
        if (entry.manifest) {
            parents.insert(snapshot_name(repository, entry.manifest->id));
        }
    });
    if (all_read) {
        known.parents = std::move(parents);
    }
    return known;
}

std::vector<ClassifiedSnapshot> classify(const std::vector<SnapshotEntry>& entries, const std::vector<KnownRepository>& known) {
    std::map<std::string, std::size_t> number_of;  // snapshots by repository
    std::vector<ClassifiedSnapshot> classified;
    for (const SnapshotEntry& entry : entries) {
        ClassifiedSnapshot snapshot{entry, rolled_back_at(entry.name) ? SnapshotRole::kRolledBack : SnapshotRole::kOperators, ""};
        if (entry.temporary) {
            snapshot.repository = repository_of(entry.name);
            snapshot.role = snapshot.repository.empty() ? SnapshotRole::kUnknown : SnapshotRole::kParent;
            ++number_of[snapshot.repository];
        }
        for (const KnownRepository& repository : known) {
            if (entry.temporary && repository.digits == snapshot.repository) {
                snapshot.certain = true;
                snapshot.may_be_unfinished |= repository.unfinished.contains(entry.name);
                const bool is_left =
                    repository.parents && !repository.parents->contains(entry.name) && !entry.in_use;  // not of one that runs
                snapshot.role = snapshot.may_be_unfinished ? SnapshotRole::kUnfinished
                                : is_left                  ? SnapshotRole::kLeft
                                                           : SnapshotRole::kParent;
            }
        }
        classified.push_back(std::move(snapshot));
    }
    // A backup that ends well leaves one of its repository, and one that doesn't is the newest. Of several, that one is more likely than
    // not.
    std::map<std::string, std::size_t> seen;
    for (ClassifiedSnapshot& snapshot : classified) {
        if (snapshot.role == SnapshotRole::kParent && !snapshot.certain && ++seen[snapshot.repository] == number_of[snapshot.repository]) {
            snapshot.may_be_unfinished = true;
            snapshot.role = number_of[snapshot.repository] > 1 ? SnapshotRole::kUnfinished : SnapshotRole::kParent;
        }
    }
    return classified;
}

TrimResult trim_snapshots(SnapshotBackend& backend, const TrimOptions& options, const FreeSpaceProbe& probe,
                          const std::function<void(const DroppedSnapshot&, const FreeSpace&)>& dropped, Report& report) {
    return Trim(backend, options, probe, dropped, report).run();
}

std::string describe(const DroppedSnapshot& dropped, std::uint64_t used_bytes, bool dry_run) {
    const ClassifiedSnapshot& snapshot = dropped.snapshot;
    const bool unfinished = snapshot.role == SnapshotRole::kUnfinished;
    const std::string held = std::string(dry_run ? "holds" : "held") + " about " + human_bytes(dropped.held_bytes);
    const std::string drops = !dry_run ? "dropped" : dropped.only_if_needed ? "would drop, if that isn't enough," : "would drop";
    if (snapshot.role == SnapshotRole::kLeft) {
        return drops + std::string(" the snapshot of a backup into repository ") + snapshot.repository +
               " that was cut off and can't be gone on with, " + human_duration(dropped.age) + " old, which " + held + ": it costs nothing";
    }
    const std::string of = snapshot.repository.empty() ? "the snapshot " + snapshot.entry.name + " of a backup"
                           : !unfinished               ? "the parent snapshot of repository " + snapshot.repository
                           : snapshot.certain          ? "the snapshot of an unfinished backup into repository " + snapshot.repository
                                                       : "the newest snapshot of repository " + snapshot.repository;
    const std::string anew = "can't be gone on with, and what it has read is read again";
    const std::string cost =
        unfinished && snapshot.certain ? "that backup " + anew + "; the next one " : "the next backup into that repository ";
    return drops + " " + of + ", " + human_duration(dropped.age) + " old, which " + held + ": " + cost +
           "reads the whole node (up to about " + human_bytes(used_bytes) + " of data) and compares, and stores only what differs" +
           (snapshot.may_be_unfinished && !snapshot.certain ? "; an unfinished backup, if it is one's, " + anew : "");
}

}  // namespace nodesnap
