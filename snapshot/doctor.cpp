#include "snapshot/doctor.h"

#include <algorithm>
#include <array>
#include <memory>
#include <string>
#include <vector>

#include "io/units.h"
#include "platform/error.h"
#include "platform/file.h"
#include "platform/file_system.h"
#include "platform/mount.h"
#include "snapshot/backup/backend_choice.h"
#include "snapshot/doctor/contents.h"
#include "snapshot/doctor/daemon.h"
#include "snapshot/doctor/findings.h"
#include "snapshot/doctor/links.h"
#include "snapshot/doctor/speed.h"
#include "snapshot/doctor/storage.h"
#include "snapshot/drain/live_stamp.h"
#include "snapshot/shell_word.h"

namespace nodesnap {
namespace {

class Doctor {
public:
    Doctor(const DoctorOptions& options, const Repository* repository, Progress& progress, Report& report)
        : options_(options),
          repository_(repository),
          progress_(progress),
          report_(report),
          excludes_(options.backup.excludes),
          findings_(result_.findings) {
        result_.node_directory = resolve_path(options.backup.node_directory);
    }

    Diagnosis run() {
        progress_.phase = "looking at the storage";
        examine_storage(result_.node_directory, findings_);
        daemon_ = examine_daemon(result_.node_directory, excludes_, findings_);
        progress_.phase = "counting files";
        contents_ = examine_contents(result_.node_directory, excludes_, progress_, findings_);
        result_.files = contents_.files;
        result_.directories = contents_.directories;
        result_.others = contents_.others;
        result_.bytes = contents_.bytes;
        examine_offers();
        choose();
        if (repository_ != nullptr) {
            examine_repository();
        }
        if (options_.measure) {
            measure();
        }
        propose();
        return std::move(result_);
    }

private:
    BackendOptions backend_options(const std::string& kind) const {
        BackendOptions backend = options_.backup.backend;
        backend.kind = kind;
        backend.held = true;  // that somebody writes to it is told apart from what the storage offers
        return backend;
    }

    void examine_offers() {
        for (const std::string& kind : snapshot_kinds()) {
            SnapshotOffer offer{kind, ""};
            try {
                choose_backend(result_.node_directory, excludes_, backend_options(kind));
            } catch (const Error& error) {
                offer.why_not = error.message();
            }
            result_.offers.push_back(std::move(offer));
        }
    }

    void choose() {
        try {
            const auto backend = choose_backend(result_.node_directory, excludes_, backend_options(options_.backup.backend.kind));
            result_.chosen = backend->name();
            result_.reason = backend->reason();
            const bool is_root = backend->layout() == Layout::kMountRoot && file_system_of(result_.node_directory).type != "btrfs";
            findings_.fact("layout", is_root ? "root of a mount" : to_string(backend->layout()));
            findings_.fact("snapshots", result_.chosen + " (" + result_.reason + ")");
            explain(*backend);
        } catch (const Error& error) {
            findings_.obstacle("snapshots", error.message(), error.hint());
        }
        for (const SnapshotOffer& offer : result_.offers) {
            if (offer.kind != result_.chosen) {
                findings_.fact("not " + offer.kind, offer.why_not.empty() ? "it could be had, by --snapshot " + offer.kind : offer.why_not);
            }
        }
    }

    void explain(const SnapshotBackend& backend) {
        if (backend.name() == "hardlink") {
            examine_links(result_.node_directory, excludes_, options_.backup.backend.immutable, findings_);
        }
        if (backend.name() == "none") {
            explain_none();
            return;
        }
        const bool holds = !daemon_.hold_options.empty();
        if (backend.atomic()) {
            findings_.fact("consistency",
                           std::string("while a daemon writes: as after a power cut (crash-consistent)") +
                               (holds ? "; with " + daemon_.hold_options + " a point in time" : "; with --hold a point in time"));
        } else {
            findings_.fact("consistency",
                           "a point in time, if nobody writes while it is made: " +
                               (holds ? "with " + daemon_.hold_options : std::string("with --hold, or of a stopped daemon")));
            if (daemon_.in_use && !holds) {
                findings_.obstacle("in use", "the node directory is in use, and its snapshots aren't of one instant",
                                   "hold the daemon by --hold stop or --hold hook, or stop it before the backup");
            }
        }
        findings_.fact(
            "changes",
            backend.name() == "hardlink" && backend.tells_changes()
                ? "after the first backup no file is read again that was linked, and all others are"
            : backend.name() == "hardlink"
                ? "after the first backup no file is read again that fits --immutable and hasn't changed, and all others "
                  "are: " +
                      backend.why_no_changes()
            : backend.tells_changes()
                ? "after the first backup only what changed is read"
                : "all is read each time, and compared with what is stored; only what differs is stored: " + backend.why_no_changes());
    }

    void explain_none() {
        findings_.fact("changes", "all is read each time, and compared with what is stored; only what differs is stored");
        std::string why_not;
        try {
            LiveStamp::refuse_unsuitable(result_.node_directory);
        } catch (const Error& error) {
            why_not = error.message();
        }
        if (why_not.empty()) {
            findings_.fact(
                "consistency",
                "a point in time: of a stopped daemon; or with --hold, then it is read in passes while the daemon writes, and held for "
                "the last, which reads what has changed");
        } else {
            findings_.fact("consistency", "a point in time only of a stopped daemon; it can't be read in passes: " + why_not);
        }
        if (daemon_.in_use && (!why_not.empty() || daemon_.hold_options.empty())) {
            findings_.obstacle("in use", "the node directory is in use, and there is no snapshot to take of it",
                               why_not.empty()
                                   ? "hold the daemon by --hold stop or --hold hook, or stop it before the backup"
                                   : "stop the daemon before the backup, and start it afterwards; or move the node to btrfs, or to XFS "
                                     "made with -m reflink=1");
        }
    }

    // What a backup into it would read, and what it refuses.
    void examine_repository() {
        const Target& target = repository_->target();
        findings_.fact("repository", target.describe() + ", of node " + repository_->info().node.name);
        BackupOptions options = options_.backup;
        // Who uses it is told above.
        options.backend.accept_inconsistent = true;
        if (result_.chosen == "hardlink") {
            options.backend.kind = result_.chosen;  // `auto` takes it with a hold only
        }
        try {
            target.check_writable();
            progress_.phase = "finding what a backup would read";
            const BackupPlan plan = plan_backup(*repository_, options, progress_, report_);
            findings_.fact("next backup", "would read " + human_bytes(plan.read_bytes) +
                                              (plan.parent_missing.empty() ? ", what has changed since backup " + plan.parent->hex()
                                                                           : ", everything: " + plan.parent_missing));
            const auto free = target.free_bytes();
            if (free && plan.stored_bytes && *plan.stored_bytes > *free) {
                findings_.obstacle("room",
                                   "the repository's file system has " + human_bytes(*free) + " free, and the next backup may store " +
                                       human_bytes(*plan.stored_bytes),
                                   "free some, or use another repository; `nodesnap forget --prune` gives space back");
            }
        } catch (const Error& error) {
            if (error.status() == ExitStatus::kFailed) {
                throw;
            }
            findings_.obstacle("repository", error.message(), error.hint());
        }
        const auto directory = target.local_directory();
        if (directory && file_system_uuid_of_mount(*directory) == file_system_uuid_of_mount(result_.node_directory)) {
            findings_.warn("repository", "it lies on the node's own file system: what destroys the one destroys the other",
                           "keep it on another disk, or better on another machine");
        }
    }

    static std::string file_system_uuid_of_mount(const std::string& directory) { return mount_of(directory).source; }

    void measure() {
        try {
            progress_.phase = "measuring how fast the node is read";
            const MeasuredSpeed source = measure_reading(result_.node_directory, contents_.largest, options_.measuring_time);
            if (source.bytes_per_second > 0) {
                result_.source = source;
                findings_.fact("reading", human_rate(source.bytes_per_second) + ", and " +
                                              std::to_string(static_cast<std::uint64_t>(source.random_reads_per_second)) +
                                              " random pages a second");
            }
        } catch (const Error& error) {
            findings_.warn("reading", "it can't be measured: " + error.message(), error.hint());
        }
        const auto directory = repository_ != nullptr ? repository_->target().local_directory() : std::nullopt;
        if (!directory) {
            return;
        }
        try {
            progress_.phase = "measuring how fast the repository is written";
            result_.target = measure_writing(*directory, options_.measuring_time);
            findings_.fact("writing", human_rate(result_.target->bytes_per_second) + ", made durable");
        } catch (const Error& error) {
            findings_.warn("writing", "it can't be measured: " + error.message(), error.hint());
        }
    }

    // What follows from the speeds.
    double slower_rate() const {
        const double source = result_.source ? result_.source->bytes_per_second : 0;
        const double target = result_.target ? result_.target->bytes_per_second : 0;
        return target == 0 || (source != 0 && source < target) ? source : target;
    }

    std::string limit_option() const {
        constexpr double kMiB = 1 << 20;
        const auto half = static_cast<std::uint64_t>(slower_rate() / 2 / kMiB);
        return daemon_.in_use && half != 0 ? " --limit " + std::to_string(half) + "M" : "";
    }

    void propose() {
        if (result_.has(Finding::Severity::kObstacle)) {
            return;
        }
        if (const double rate = slower_rate(); rate > 0) {
            const auto seconds = static_cast<std::int64_t>(static_cast<double>(result_.bytes) / rate * 1e9);
            findings_.fact(
                "a full backup",
                "reads " + human_bytes(result_.bytes) + ": about " + human_duration(std::chrono::nanoseconds(seconds)) + " at full speed" +
                    (limit_option().empty() ? "" : ", twice that with" + limit_option() + ", which leaves half of the disk to the daemon"));
        }
        result_.command = "nodesnap backup " + shell_word(result_.node_directory) + " " +
                          (options_.repository.empty() ? "REPOSITORY" : shell_word(options_.repository));
        const bool will_hold = daemon_.in_use && !daemon_.hold_options.empty();
        if (options_.backup.backend.kind != "auto" || (result_.chosen == "hardlink" && !will_hold)) {
            result_.command += " --snapshot " + (options_.backup.backend.kind != "auto" ? options_.backup.backend.kind : result_.chosen);
        }
        for (const std::string& pattern : result_.chosen == "hardlink" ? options_.backup.backend.immutable : std::vector<std::string>{}) {
            result_.command += " --immutable " + shell_word(pattern);
        }
        for (const std::string& pattern : options_.backup.excludes) {
            result_.command += " --exclude " + shell_word(pattern);
        }
        if (will_hold) {
            result_.command += " " + daemon_.hold_options;
        }
        result_.command += limit_option();
    }

    const DoctorOptions& options_;
    const Repository* const repository_;
    Progress& progress_;
    Report& report_;
    const ExcludeRules excludes_;
    Diagnosis result_;
    Findings findings_;
    Daemon daemon_;
    Contents contents_;
};

}  // namespace

bool Diagnosis::has(Finding::Severity severity) const {
    return std::any_of(findings.begin(), findings.end(), [&](const Finding& finding) { return finding.severity == severity; });
}

Diagnosis diagnose(const DoctorOptions& options, const Repository* repository, Progress& progress, Report& report) {
    const auto status = stat_path(options.backup.node_directory);
    if (!status || !S_ISDIR(status->stx_mode)) {
        throw Error::refused("there is no node directory \"" + options.backup.node_directory + "\"",
                             "name the directory that the daemon keeps its data in");
    }
    return Doctor(options, repository, progress, report).run();
}

}  // namespace nodesnap
