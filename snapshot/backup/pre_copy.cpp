#include "snapshot/backup/pre_copy.h"

#include <algorithm>
#include <utility>

#include "io/units.h"
#include "platform/clock.h"
#include "platform/error.h"
#include "platform/fault.h"
#include "platform/file.h"

namespace nodesnap {
namespace {

constexpr std::chrono::milliseconds kLittle{50};

}  // namespace

PreCopy::PreCopy(const Source& source, const DrainOptions& options, Progress& progress, Report& report)
    : source_(source), options_(options), progress_(progress), report_(report) {}

void PreCopy::warm(const std::function<DrainResult(DrainOptions& options)>& first) {
    options_.source_is_live = true;
    options_.tolerate_changes = false;
    options_.is_warm_pass = true;
    begin_pass();
    LiveStamp stamp = LiveStamp::take(source_.root, source_.node_directory);
    add(first(options_));
    stamp_.emplace(std::move(stamp));
    fault::step("passes.warm");
    while (passes_ < kWarmPasses && !is_little_enough()) {
        begin_pass();
        LiveStamp next = LiveStamp::take(source_.root, source_.node_directory);
        drain(options_);
        stamp_.emplace(std::move(next));
        fault::step("passes.warm");
    }
}

// One pass more would leave as much. The first reads everything, which says nothing of what changes.
bool PreCopy::is_little_enough() const {
    return reading_ <= kLittle || (passes_ > 2 && reading_ * 3 > reading_before_ * 2);
}

Held PreCopy::finish(SnapshotHold& hold, std::chrono::nanoseconds longest) {
    // Under a cap that says nothing: the last pass goes without.
    if (passes_ > 1 && reading_ > longest && options_.limit_bytes_per_second == 0) {
        throw Error::failed("the daemon wasn't held: what changes while the node directory is read takes " + human_duration(reading_) +
                                " to read, and it may be held for " + human_duration(longest) + " (--max-downtime)",
                            "allow a longer downtime, or run the backup when less is written; of a file that has changed all is read");
    }
    options_.is_warm_pass = false;
    options_.stores_whole_blocks = true;
    options_.limit_bytes_per_second = 0;  // it spares a daemon that isn't held
    Held held = hold.around(false, progress_, report_, [&](const SnapshotHold::Standstill& standstill) {
        fault::step("passes.held");
        const std::uint64_t read_before = result_.totals.read_bytes;
        const std::uint64_t files_before = result_.read_files;
        options_.read_until_ns = standstill.since_ns + longest.count();
        options_.all_is_read = [&] {
            fault::step("passes.held-read");
            if (const Held verdict = standstill.release(); !verdict.doubt.empty()) {
                throw Error::failed("what was read shows no single instant: " + verdict.doubt, "run the backup again");
            }
        };
        look_at_place();
        begin_pass();
        drain(options_);
        held_read_bytes_ = result_.totals.read_bytes - read_before;
        held_files_ = result_.read_files - files_before;
    });
    fault::step("passes.done");
    return held;
}

// Another directory may have been put in its place since it was opened.
void PreCopy::look_at_place() const {
    const auto there = stat_path(source_.node_directory);
    const FileStatus opened = stat_fd(source_.root, source_.node_directory);
    if (!there || there->stx_ino != opened.stx_ino || device_of(*there) != device_of(opened)) {
        throw Error::failed("the node directory " + source_.node_directory + " was replaced by another one while it was read",
                            "run the backup again");
    }
}

void PreCopy::begin_pass() {
    progress_.bytes_total = progress_.bytes_done = 0;
    progress_.files_total = progress_.files_done = 0;
    progress_.totals_final = false;
    progress_.phase = "draining";
}

void PreCopy::drain(const DrainOptions& options) {
    Manifest before;
    before.tree = result_.tree;
    before.root_ino = result_.root_ino;
    DrainParent parent{before, -1, {}, true};
    parent.stamp = stamp_->counts() ? &*stamp_ : nullptr;
    add(run_drain(source_.root, source_.repository, source_.session, source_.excludes, &parent, options, progress_, report_));
}

void PreCopy::add(DrainResult pass) {
    ++passes_;
    reading_before_ = std::exchange(reading_, pass.reading);
    options_.first_pack = pass.next_pack;
    pass.packs.insert(pass.packs.begin(), result_.packs.begin(), result_.packs.end());
    pass.new_bytes += result_.new_bytes;
    pass.read_files += result_.read_files;
    pass.totals.read_bytes += result_.totals.read_bytes;
    pass.totals.stored_bytes += result_.totals.stored_bytes;
    pass.totals.referenced_bytes = pass.totals.data_bytes - std::min(pass.totals.data_bytes, pass.new_bytes);
    if (pass.io_fallback_reason.empty()) {
        pass.io_fallback_reason = std::move(result_.io_fallback_reason);
    }
    result_ = std::move(pass);
}

}  // namespace nodesnap
