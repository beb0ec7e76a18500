// The part of Repository that lists and picks backups.
#include <algorithm>
#include <tuple>

#include "platform/error.h"
#include "snapshot/repository/backup_id.h"
#include "snapshot/repository/repository.h"

namespace nodesnap {
namespace {

constexpr std::int64_t kSecondNs = 1'000'000'000;

using Names = std::vector<layout::ManifestName>;

// Of all backups, in ascending order of (sequence, UTC), of each the highest revision first. Memory: 24 bytes each.
Names manifest_names(Target& target, std::string_view prefix = layout::kBackups) {
    Names names;
    target.list(prefix, [&](const ObjectEntry& entry) {
        if (const auto name = layout::parse_manifest(entry.name)) {
            names.push_back(*name);
        }
    });
    std::sort(names.begin(), names.end(), [](const auto& a, const auto& b) {
        return std::tie(a.sequence, a.utc_seconds, b.revision) < std::tie(b.sequence, b.utc_seconds, a.revision);
    });
    return names;
}

// The backup that begins at `first`; moves it behind.
Names take_backup(const Names& names, std::size_t& first) {
    const std::size_t begin = first;
    while (first < names.size() && names[first].same_backup(names[begin])) {
        ++first;
    }
    return Names(names.begin() + static_cast<std::ptrdiff_t>(begin), names.begin() + static_cast<std::ptrdiff_t>(first));
}

// The same from the end on, newest first: the backup that ends before `last`.
Names take_backup_before(const Names& names, std::size_t& last) {
    const std::size_t end = last;
    while (last > 0 && names[last - 1].same_backup(names[end - 1])) {
        --last;
    }
    return Names(names.begin() + static_cast<std::ptrdiff_t>(last), names.begin() + static_cast<std::ptrdiff_t>(end));
}

}  // namespace

std::optional<BackupEntry> Repository::load_backup(const Names& revisions) const {
    bool gone = false;
    auto entry = load_listed(revisions, gone);
    if (!entry && gone) {
        // Removed since they were listed; a later revision may have taken its place.
        const std::string object = layout::manifest(revisions.front());
        entry = load_listed(manifest_names(*target_, object.substr(0, object.rfind('.') + 1)), gone);
    }
    return entry;
}

std::optional<BackupEntry> Repository::load_listed(const Names& revisions, bool& gone) const {
    BackupEntry entry;
    for (const layout::ManifestName& name : revisions) {
        const std::string object = layout::manifest(name);
        try {
            auto stored = load_manifest(*target_, object, info_.uuid, sink_);
            if (!stored) {
                gone = true;
                continue;
            }
            if (!*stored) {
                continue;  // a mark voids its own revision only
            }
            if (!entry.damage.empty()) {
                sink_({entry.object, entry.damage, true});
            }
            return BackupEntry{name, object, std::move(*stored), ""};
        } catch (const Error& error) {
            if (error.status() != ExitStatus::kDamaged && !is_media_error(error.error_number())) {
                throw;
            }
            if (entry.damage.empty()) {
                entry = {name, object, std::nullopt, error.message()};
            }
        }
    }
    return entry.damage.empty() ? std::nullopt : std::optional(std::move(entry));
}

void Repository::for_each_backup(const std::function<void(const BackupEntry&)>& each) const {
    const Names names = manifest_names(*target_);
    for (std::size_t first = 0; first < names.size();) {
        const auto entry = load_backup(take_backup(names, first));
        if (entry) {
            each(*entry);
        }
    }
}

void Repository::for_each_backup_backwards(const std::function<bool(const BackupEntry&)>& each) const {
    const Names names = manifest_names(*target_);
    for (std::size_t last = names.size(); last > 0;) {
        const auto entry = load_backup(take_backup_before(names, last));
        if (entry && !each(*entry)) {
            break;
        }
    }
}

Manifest Repository::find_backup(const std::string& backup, std::optional<std::int64_t> as_of_ns,
                                 const std::function<void(const BackupEntry&)>& passed_over) const {
    if (!backup.empty() && backup != "latest") {
        if (as_of_ns) {
            throw Error::usage("a backup is named by its id or by --as-of, not by both");
        }
        return find_by_id(backup);
    }
    const Names names = manifest_names(*target_);
    std::string unreadable;
    for (std::size_t last = names.size(); last > 0;) {
        auto entry = load_backup(take_backup_before(names, last));
        if (!entry) {
            continue;
        }
        if (!entry->manifest) {
            // Its name says when it was begun, just before its snapshot was taken.
            const bool after = as_of_ns && entry->name.utc_seconds > *as_of_ns / kSecondNs;
            if (passed_over && !after) {
                passed_over(*entry);
            }
            sink_({entry->object, entry->damage, false});
            unreadable = entry->object;
        } else if (!entry->manifest->damaged && (!as_of_ns || entry->manifest->snapshot_time_ns <= *as_of_ns)) {
            return std::move(*entry->manifest);
        }
    }
    if (!unreadable.empty()) {
        throw Error::damaged(target_->describe(unreadable), "and no other backup serves", "`nodesnap verify` tells more");
    }
    throw Error::refused(as_of_ns ? "the repository " + target_->describe() + " has no complete backup of that time or before"
                                  : "the repository " + target_->describe() + " has no complete backup",
                         "`nodesnap list` shows what there is");
}

Manifest Repository::find_by_id(const std::string& prefix) const {
    BackupId wanted(prefix);
    std::optional<Manifest> found;
    std::string unreadable;
    for_each_backup([&](const BackupEntry& entry) {
        if (!entry.manifest) {
            unreadable = entry.object;
        } else if (wanted.offer(entry.manifest->id)) {
            found = *entry.manifest;
        }
    });
    if (wanted.result()) {
        return std::move(*found);
    }
    if (!unreadable.empty()) {
        throw Error::damaged(target_->describe(unreadable), "and no backup that can be read has an id that begins with " + prefix,
                             "`nodesnap verify` tells more");
    }
    throw Error::refused("the repository " + target_->describe() + " has no backup " + prefix, "`nodesnap list` shows what there is");
}

std::set<SessionId> Repository::unfinished_sessions() const {
    std::set<SessionId> unfinished;
    for (const SessionRecord& session : sessions()) {
        unfinished.insert(session.id);
    }
    if (!unfinished.empty()) {
        for_each_backup([&](const BackupEntry& entry) {
            if (entry.manifest) {
                unfinished.erase(entry.manifest->id);
                // Another rests on it: it had finished, whatever became of its own manifest.
                if (entry.manifest->parent) {
                    unfinished.erase(*entry.manifest->parent);
                }
                for (const PackId& pack : entry.manifest->packs) {
                    unfinished.erase(pack.session());
                }
            }
        });
    }
    return unfinished;
}

std::uint64_t Repository::next_sequence() const {
    std::uint64_t highest = 0;
    for (const layout::ManifestName& name : manifest_names(*target_)) {
        highest = std::max(highest, name.sequence);
    }
    for (const SessionRecord& session : sessions()) {
        highest = std::max(highest, session.manifest.sequence);
    }
    if (highest >= layout::kSequenceLimit) {
        throw Error::failed("there is no sequence number for another backup: " + target_->describe(layout::kBackups) + " has " +
                                std::to_string(highest) + " already",
                            "no repository comes so far by itself: move the object of that number away if `nodesnap list` doesn't show it "
                            "as a good backup");
    }
    return highest + 1;
}

}  // namespace nodesnap
