#include "snapshot/rollback.h"

#include <algorithm>
#include <chrono>
#include <memory>
#include <set>
#include <thread>
#include <utility>

#include "io/units.h"
#include "platform/btrfs.h"
#include "platform/clock.h"
#include "platform/error.h"
#include "platform/fault.h"
#include "platform/file.h"
#include "platform/interrupt.h"
#include "platform/processes.h"
#include "snapshot/backend/btrfs_rollback.h"
#include "snapshot/backend/lvm_cut_off.h"
#include "snapshot/backend/lvm_merge_rollback.h"
#include "snapshot/backend/lvm_rollback.h"
#include "snapshot/backend/snapshot_name.h"
#include "snapshot/backend/tree_rollback.h"
#include "snapshot/engine_lock.h"
#include "snapshot/hold/hold.h"
#include "snapshot/hold/release.h"
#include "snapshot/restore/place.h"
#include "snapshot/shell_word.h"

namespace nodesnap {
namespace {

constexpr const char* kLatest = "latest";
constexpr std::size_t kNamed = 5;  // processes, mounts in one message
constexpr std::size_t kUsesLooked = 4096;

// Who would go on with what was there, in words; empty if nobody.
std::string users_of(const std::string& node_directory, const std::string& all_replaced) {
    const std::string& directory = all_replaced.empty() ? node_directory : all_replaced;
    std::size_t hidden = 0;
    const auto users = users_of_directory(directory, kUsesLooked, &hidden);
    std::string text;
    std::set<std::pair<pid_t, std::string>> named;
    for (const DirectoryUser& user : users) {
        // A database has very many files open: one of them tells as much.
        if (named.size() == kNamed || !named.emplace(user.pid, user.what).second) {
            continue;
        }
        text += (text.empty() ? "" : ", ") + std::string("process ") + std::to_string(user.pid) + " (" + user.command + ") has it as its " +
                user.what + (user.relative.empty() ? "" : " " + user.relative);
    }
    if (text.empty()) {
        text = engine_lock(node_directory);
    }
    if (text.empty() && hidden != 0) {
        text = "it can't be told of " + std::to_string(hidden) + " processes whether they use it";
    }
    return text;
}

// Of a --max-downtime that is nearly over, for what must be done before the daemon is started.
std::chrono::nanoseconds time_to_mount(std::chrono::nanoseconds max_downtime) {
    constexpr int kPart = 10;
    const std::chrono::nanoseconds least = std::chrono::seconds(5);
    return std::min(std::max(max_downtime / kPart, least), max_downtime / 2);
}

class RollbackRun {
public:
    RollbackRun(const RollbackOptions& options, Progress& progress, Report& report)
        : options_(options), progress_(progress), report_(report) {}

    RollbackResult run() {
        if (!options_.dry_run) {
            finish_rollback(options_.node_directory, options_.snapshot_directory, report_);
        }
        look();
        const std::unique_ptr<RollbackWay> way = choose_way();
        RollbackWay& rollback = *way;
        choose();
        result_.layout = rollback.layout();
        result_.volume = rollback.volume();
        result_.replaced_subvolume = rollback.subvolume_id();
        refuse_unfinished(directory_);
        const bool holds = options_.hold.mode != hold::Mode::kNone;
        if (!holds) {  // a hold undoes what was left, and waits for another one
            hold::refuse_held(options_.hold.state_directory, directory_);
            look_for_users(rollback);
        }
        look_for_mounts(rollback);
        rollback.inspect(result_.snapshot);
        tell_left_out(rollback);
        if (options_.dry_run) {
            return std::move(result_);
        }
        throw_if_interrupted();
        const std::int64_t begun_ns = monotonic_ns();
        rollback.prepare(result_.snapshot, result_.kept_as);
        std::int64_t held_ns = monotonic_ns();
        result_.total_time = std::chrono::nanoseconds(held_ns - begun_ns);
        // What is held is let go by its destructor, however this ends.
        std::unique_ptr<hold::Hold> held;
        if (holds) {
            held = hold(rollback.unmounts());
            held_ns = monotonic_ns();
        }
        exchange(rollback);
        result_.total_time += std::chrono::nanoseconds(monotonic_ns() - held_ns);
        if (held) {
            release(*held);
        }
        return std::move(result_);
    }

private:
    // What it opens is closed again: a mount that is exchanged must not be in use.
    void look() {
        BackendOptions backend_options;
        backend_options.kind = options_.kind;
        backend_options.must_snapshot = true;
        backend_options.preflight = false;
        backend_options.snapshot_directory = options_.snapshot_directory;
        const auto backend = choose_backend(options_.node_directory, ExcludeRules(), backend_options);
        kind_ = backend->name();
        layout_ = backend->layout();
        if (kind_ == "none") {
            throw Error::refused("the node directory " + options_.node_directory + " can't be rolled back on this storage (" + kind_ + ")",
                                 "restore a backup with nodesnap restore --delta");
        }
        directory_ = resolve_path(options_.node_directory);
        snapshots_ = backend->list();
        location_ = backend->describe_location();
    }

    // A folder is never exchanged with all else that its subvolume holds.
    std::unique_ptr<RollbackWay> choose_way() const {
        if (kind_ == "btrfs" && layout_ != Layout::kFolder) {
            return std::make_unique<BtrfsRollback>(directory_, options_.snapshot_directory, options_.fstab);
        }
        if (kind_ == "lvm") {
            LvmMergeOptions merge{options_.whole_volume, {}};
            if (options_.hold.mode != hold::Mode::kNone) {
                merge.longest = options_.hold.max_downtime - time_to_mount(options_.hold.max_downtime);
            }
            return std::make_unique<LvmMergeRollback>(directory_, merge, progress_);
        }
        if (kind_ == "lvm-thin") {
            return std::make_unique<LvmRollback>(directory_, LvmRollbackOptions{options_.whole_volume, options_.fstab});
        }
        return std::make_unique<TreeRollback>(directory_, TreeRollbackOptions{options_.snapshot_directory, kind_, options_.immutable});
    }

    void choose() {
        result_.snapshot = find();
        const auto taken = [this](const std::string& name) {
            return std::any_of(snapshots_.begin(), snapshots_.end(), [&](const SnapshotEntry& entry) { return entry.name == name; });
        };
        const std::string name = before_rollback_name(utc_now());
        result_.kept_as = name;
        for (int number = 2; taken(result_.kept_as); ++number) {
            result_.kept_as = name + "-" + std::to_string(number);
        }
    }

    SnapshotEntry find() const {
        const auto named = std::find_if(snapshots_.begin(), snapshots_.end(),
                                        [this](const SnapshotEntry& entry) { return entry.name == options_.snapshot; });
        if (named != snapshots_.end()) {
            return *named;
        }
        // The newest that isn't what an earlier rollback has replaced: twice `latest` mustn't be there and back again.
        const auto newest =
            std::find_if(snapshots_.rbegin(), snapshots_.rend(), [](const SnapshotEntry& entry) { return !rolled_back_at(entry.name); });
        if (options_.snapshot == kLatest && newest != snapshots_.rend()) {
            return *newest;
        }
        throw Error::refused("there is no snapshot " + (options_.snapshot == kLatest ? "" : "named \"" + options_.snapshot + "\" ") +
                                 "of " + options_.node_directory + " in " + location_,
                             "see nodesnap snapshot list; what is in a repository only, nodesnap restore brings back");
    }

    std::string in_use(const RollbackWay& rollback) const {
        std::string users = users_of(directory_, rollback.all_replaced());
        if (users.empty() && rollback.is_used_by_kernel()) {
            users = "the kernel has something on its mount in use (an NFS export, a loop device, a mount below)";
        }
        return users;
    }

    void look_for_users(const RollbackWay& rollback) {
        const std::string users = in_use(rollback);
        if (users.empty()) {
            return;
        }
        if (rollback.unmounts()) {
            throw Error::refused(
                "the node directory " + directory_ + " is in use: " + users,
                "stop the daemon first (a shell: cd elsewhere), or let --hold stop do that; its volume must be unmounted, so "
                "that --allow-in-use can't be had");
        }
        if (!options_.allow_in_use) {
            throw Error::refused(
                "the node directory " + directory_ + " is in use: " + users,
                "stop the daemon first (a shell: cd elsewhere), or let --hold stop do that; with --allow-in-use those go on with "
                "what was there, which " +
                    std::string(rollback.seals_replaced() ? "becomes read-only" : "changes what is kept of it"));
        }
        report_.warn("the node directory " + directory_ + " is rolled back although it is in use: " + users);
    }

    void look_for_mounts(const RollbackWay& rollback) {
        const std::vector<StaleMount> stale = rollback.stale_mounts();
        std::string shown, commands;
        for (std::size_t i = 0; i < stale.size(); ++i) {
            result_.stale_mounts.push_back(stale[i].shown);
            if (i < kNamed) {
                shown += (i == 0 ? "" : ", ") + stale[i].shown;
                commands += (i == 0 ? "" : "; ") + stale[i].unmount;
            }
        }
        if (stale.empty() || (options_.allow_stale_mounts && !rollback.unmounts())) {
            return;
        }
        const std::string way_out = rollback.unmounts() ? "its volume must not be mounted, so that --allow-stale-mounts can't be had"
                                                        : "--allow-stale-mounts leaves it so";
        throw Error::refused("the node directory " + directory_ +
                                 " is also mounted elsewhere, where what is there now would go on being shown: " + shown +
                                 (stale.size() > kNamed ? " and " + std::to_string(stale.size() - kNamed) + " more" : ""),
                             "unmount it there first (" + commands + "), and mount it again afterwards; " + way_out +
                                 (rollback.seals_replaced() ? ", read-only" : ""));
    }

    void tell_left_out(const RollbackWay& rollback) {
        std::string patterns;
        for (const std::string& pattern : rollback.left_out()) {
            patterns += (patterns.empty() ? "" : ", ") + pattern;
        }
        if (!patterns.empty()) {
            report_.warn("the snapshot " + result_.snapshot.name + " was taken without what fits --exclude (" + patterns +
                         "): of that the directory has nothing then, and what there is now is kept as " + result_.kept_as + " only");
        }
    }

    std::unique_ptr<hold::Hold> hold(bool unmounts) {
        hold::Options wanted = options_.hold;
        wanted.mount_back = unmounts;
        auto held = std::make_unique<hold::Hold>(wanted);
        for (const std::string& warning : held->warnings()) {
            report_.warn(warning);
        }
        held->hold();
        return held;
    }

    void release(hold::Hold& held) {
        try {
            const hold::Result released = held.release();
            result_.downtime = released.downtime;
            if (!released.broken.empty()) {
                report_.warn("the daemon may have run while the node directory was rolled back: " + released.broken);
            }
        } catch (const Error& error) {
            throw Error::failed(told("but " + error.message()), error.hint());
        }
    }

    // It may be a while since that was looked at; or the daemon was only stopped now, and what it had open is let go soon after its end.
    void require_unused(const RollbackWay& rollback) const {
        constexpr std::chrono::milliseconds kBetween(10);
        std::string users = in_use(rollback);
        for (int attempts = 100; !users.empty() && (!options_.allow_in_use || rollback.unmounts()); --attempts) {
            if (attempts == 0) {
                throw Error::failed("the node directory " + directory_ + " is in use, and was not rolled back: " + users,
                                    "stop that, and try again");
            }
            std::this_thread::sleep_for(kBetween);
            users = in_use(rollback);
        }
    }

    void exchange(RollbackWay& rollback) {
        require_unused(rollback);
        const std::int64_t begun_ns = monotonic_ns();
        try {
            rollback.exchange();
        } catch (const Error& error) {
            if (!rollback.exchanged()) {
                throw;
            }
            throw Error::failed(told("but " + error.message()), "nodesnap snapshot list ends it, and says what the directory is" +
                                                                    (error.hint().empty() ? "" : "; " + error.hint()));
        }
        result_.exchange_time = std::chrono::nanoseconds(monotonic_ns() - begun_ns);
        result_.subvolume = rollback.subvolume_id();
        try {
            result_.kept_path = rollback.keep();
        } catch (const Error& error) {
            report_.warn(told("but " + error.message() + "; the next nodesnap snapshot list or backup tries again to keep it as " +
                              result_.kept_as));
        }
        if (const std::string lost = rollback.lost(); !lost.empty()) {
            report_.warn(told("but " + lost));
        }
        try {
            rollback.require_shown();
        } catch (const Error& error) {
            throw Error::failed(told("but " + error.message()), error.hint());
        }
        tell_stale_mounts(rollback);
        if (rollback.has_sealed_root()) {
            report_.warn("the node directory " + directory_ + " was immutable or append-only itself, and isn't any more: see chattr");
        }
    }

    void tell_stale_mounts(const RollbackWay& rollback) {
        result_.stale_mounts.clear();
        try {
            for (const StaleMount& stale : rollback.stale_mounts()) {
                result_.stale_mounts.push_back(stale.shown);
                report_.warn(stale.shown + " still shows what was there before" + (rollback.seals_replaced() ? ", read-only now" : "") +
                             ": " + stale.unmount + ", and mount it again");
            }
        } catch (const Error& error) {
            report_.warn(told("but whether a mount still shows what was there before can't be told: " + error.message()));
        }
    }

    std::string told(const std::string& what) const { return "the node directory " + directory_ + " was rolled back, " + what; }

    const RollbackOptions& options_;
    Progress& progress_;
    Report& report_;
    std::string directory_;
    std::string kind_;
    Layout layout_ = Layout::kFolder;
    std::vector<SnapshotEntry> snapshots_;
    std::string location_;
    RollbackResult result_;
};

// Of what is noted beside the node directory's snapshots. Of a volume it is noted elsewhere, since that may not be mounted.
std::string finish_at_place(const std::string& node_directory, const std::string& snapshot_directory) {
    const auto status = node_directory.empty() ? std::nullopt : stat_path(node_directory);
    if (!status || !S_ISDIR(status->stx_mode)) {
        return "";  // whoever wants to do something with it says so
    }
    const std::string directory = resolve_path(node_directory);
    std::string told = btrfs::is_btrfs(directory) ? finish_btrfs_rollback(directory, snapshot_directory) : "";
    return told.empty() ? finish_tree_rollback(directory, snapshot_directory) : told;
}

}  // namespace

RollbackResult run_rollback(const RollbackOptions& options, Progress& progress, Report& report) {
    return RollbackRun(options, progress, report).run();
}

void finish_rollback(const std::string& node_directory, const std::string& snapshot_directory, Report& report) {
    try {
        std::string told = finish_lvm_rollback(node_directory);
        if (told.empty()) {
            told = finish_at_place(node_directory, snapshot_directory);
        }
        if (!told.empty()) {
            report.warn(told);
        }
    } catch (const Error& error) {
        throw_if_interrupted();
        report.warn("a rollback of " + node_directory + " that was cut off could not be ended: " + error.message());
    }
}

}  // namespace nodesnap
