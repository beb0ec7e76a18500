#include "snapshot/backend/lvm_merge_rollback.h"

#include <fcntl.h>

#include <algorithm>

#include "platform/clock.h"
#include "platform/error.h"
#include "platform/fault.h"
#include "platform/file.h"
#include "platform/interrupt.h"
#include "platform/lvm_merge.h"
#include "platform/mount_exchange.h"
#include "snapshot/backend/lvm_merge_room.h"
#include "snapshot/backend/lvm_snapshot.h"

namespace nodesnap {
namespace {

constexpr int kDirectory = O_RDONLY | O_DIRECTORY;
constexpr std::int64_t kSecondNs = 1'000'000'000;

}  // namespace

LvmMergeRollback::LvmMergeRollback(const std::string& node_directory, const LvmMergeOptions& options, Progress& progress)
    : LvmWay(node_directory, options.whole_volume), options_(options), progress_(progress) {
    refuse_covering();
}

// What is beneath, or mounts it again by itself, would be seen while it is unmounted.
void LvmMergeRollback::refuse_covering() const {
    for (const Mount& mount : list_mounts()) {
        if (mount.mount_point == mount_.mount_point && mount.id != mount_.id) {
            throw Error::refused("the volume " + volume() + " of the node directory " + node_directory_ + " is mounted over " + mount.type +
                                     " at " + mount_.mount_point + ", and must be unmounted for a rollback",
                                 "mount it at a directory where nothing else is, without automount, meanwhile");
        }
    }
}

std::vector<StaleMount> LvmMergeRollback::stale_mounts() const {
    return exchanged_ ? std::vector<StaleMount>() : LvmWay::stale_mounts();
}

lvm::Volume LvmMergeRollback::find_snapshot(const SnapshotEntry& snapshot) const {
    lvm::Volume volume = find_own(snapshot);
    if (!volume.is_classic_snapshot()) {
        refuse_gone(snapshot);
    }
    if (volume.is_open()) {
        throw Error::refused(
            "the snapshot \"" + snapshot.name + "\" of " + node_directory_ + " is in use: a running backup reads it, or it is mounted",
            "wait until that backup has ended, or unmount it");
    }
    return volume;
}

void LvmMergeRollback::inspect(const SnapshotEntry& snapshot) {
    if (place_.volume().is_merging()) {
        throw Error::refused("another snapshot is being merged into the volume " + volume(), "wait until `lvs` shows none any more");
    }
    const lvm::Volume merged = find_snapshot(snapshot);
    refuse_overflows(place_.volume(), merged, place_.group());
    extents_of_kept(place_.volume(), merged);
}

void LvmMergeRollback::prepare(const SnapshotEntry& snapshot, const std::string& kept) {
    const lvm::Volume merged = find_snapshot(snapshot);
    LvmRollbackRecord::make(node_directory_).remove();  // nobody else is at it
    note_ = note_of(snapshot, kept);
    note_.made = merged.uuid;
    note_.merged = merged.name;
    note_.merged_bytes = merged.snapshot_bytes;
    note_.merged_chunk_bytes = merged.chunk_bytes;
    note_.merged_at_s = static_cast<std::uint64_t>(std::max<std::int64_t>(snapshot.created_ns, 0) / kSecondNs);
    // It can be mounted, and has the directory.
    node_ = DirectoryIdentity::of(place_.open_node(place_.mount(merged).get()).get());
}

// The record is there only from here on, and locked only until here: once it isn't, whoever starts the daemon again mounts the volume.
void LvmMergeRollback::exchange() {
    record_.emplace(LvmRollbackRecord::make(node_directory_));
    record_->write(note_);
    try {
        const lvm::KeptOpen kept(record_->lock_descriptor());
        fault::step("rollback.begun");
        require_still_mounted();
        sync_file_system(open_path(node_directory_, kDirectory).get(), node_directory_);
        unmounted_ns_ = monotonic_ns();
        unmount(mount_.mount_point);
        fault::step("rollback.unmounted");
        merge();
        mounted_ = LvmMerge(note_).mount(note_.replaced, {});
        fault::step("rollback.exchanged");
    } catch (const Error& error) {
        const LvmShown shown = recover();
        record_.reset();
        if (shown != LvmShown::kNothing) {
            throw;
        }
        fail_unmounted(error);
    }
}

void LvmMergeRollback::merge() {
    LvmMerge(note_).wait_until_closed();
    try {
        LvmMerge(note_).keep_present();
    } catch (const Error& error) {
        throw Error::failed(error.message(), error.hint());  // by now something was touched
    }
    fault::step("rollback.kept");
    note_.written = lvm::write_mark(LvmMerge(note_).volume());
    if (note_.written.empty()) {
        note_.written = "unknown";  // the snapshot won't be made anew
    }
    record_->write(note_);
    fault::step("rollback.noted");
    const LvmMerge merge(note_);
    merge.begin();
    exchanged_ = true;
    fault::step("rollback.merging");
    if (!wait_for_merge(merge)) {
        lost_ =
            interrupted() ? "interrupted before all was copied" : "not all was copied before --max-downtime was over; LVM goes on with it";
        return;
    }
    fault::step("rollback.merged");
    lost_ = merge.renew();
    fault::step("rollback.renewed");
}

bool LvmMergeRollback::wait_for_merge(const LvmMerge& merge) {
    return merge.wait([&](std::uint64_t left) {
        if (!progress_.totals_final) {
            progress_.phase = "merging";
            progress_.bytes_total = left;
            progress_.totals_final = true;
        }
        const std::uint64_t total = progress_.bytes_total;
        progress_.bytes_done = total - std::min(left, total);
        return !interrupted() && (!options_.longest || monotonic_ns() - unmounted_ns_ < options_.longest->count());
    });
}

// What the volume shows, whichever it is, is mounted again; if that is what it was nothing is left.
LvmShown LvmMergeRollback::recover() noexcept {
    LvmShown shown = LvmShown::kOther;
    try {
        const lvm::KeptOpen kept(record_->lock_descriptor());
        const LvmMerge merge(note_);
        exchanged_ = merge.stage() != LvmMerge::Stage::kNotBegun;
        shown = merge.shown();
        if (shown == LvmShown::kNothing) {
            mounted_ = merge.mount_back();
            shown = merge.shown();
        }
        if (!exchanged_ && shown == LvmShown::kReplaced) {
            merge.take_back();
            record_->remove();
        }
    } catch (const std::exception&) {
        // finish_lvm_rollback() mounts it, and says which it is.
    }
    return shown;
}

std::string LvmMergeRollback::keep() {
    if (!lost_.empty()) {
        lost_ = told_of_lost(note_, lost_);
    }
    const std::string flaw = LvmMerge(note_).flaw_of_kept();
    if (!flaw.empty()) {
        throw Error::failed("what was there before, the snapshot " + note_.kept_name + ", " + flaw);
    }
    record_->remove();
    fault::step("rollback.tidied");
    return path_of_volume(note_.group_name, note_.kept);
}

void LvmMergeRollback::require_shown() const {
    const FileDescriptor shown = open_path(node_directory_, kDirectory);
    if (LvmMerge(note_).shown() != LvmShown::kReplaced || !(DirectoryIdentity::of(shown.get()) == node_)) {
        throw Error::failed("the path " + node_directory_ + " doesn't show the directory that the snapshot held, which is on " + volume(),
                            "look at what is mounted at " + mount_.mount_point);
    }
}

}  // namespace nodesnap
