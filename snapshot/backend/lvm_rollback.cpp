#include "snapshot/backend/lvm_rollback.h"

#include <fcntl.h>

#include <algorithm>
#include <sstream>
#include <utility>

#include "platform/detached_mount.h"
#include "platform/directory_stream.h"
#include "platform/error.h"
#include "platform/fault.h"
#include "platform/file.h"
#include "platform/inode_flags.h"
#include "platform/lvm_thin.h"
#include "platform/mount_exchange.h"
#include "platform/mount_namespaces.h"
#include "snapshot/backend/lvm_snapshot.h"
#include "snapshot/backend/snapshot_folder.h"
#include "snapshot/shell_word.h"

namespace nodesnap {
namespace {

constexpr int kDirectory = O_RDONLY | O_DIRECTORY;
constexpr const char* kDelta = "restore a backup with nodesnap restore --delta, which changes only what differs";
constexpr std::size_t kNamed = 6;

// What lies in the directory besides the one name.
void add_others(const std::string& directory, const std::string& name, std::vector<std::string>& others) {
    DirectoryStream stream(open_path(directory, kDirectory), directory);
    for (DirectoryEntry entry; others.size() < kNamed && stream.next(entry);) {
        if (entry.name != name && entry.name != "lost+found") {
            others.push_back(join_path(directory, entry.name));
        }
    }
}

}  // namespace

LvmRollback::LvmRollback(const std::string& node_directory, const LvmRollbackOptions& options)
    : node_directory_(node_directory),
      place_(node_directory),
      mount_(mount_of(node_directory)),
      naming_(node_directory, NameStyle::kVolume) {
    if (!place_.volume().is_thin()) {
        throw Error::refused("the node directory " + node_directory + " lies on " + place_.volume().full_name() +
                                 ", which is no thin volume: a classic snapshot can't be rolled back to yet",
                             std::string("stop the daemon, unmount it, and merge it yourself (lvconvert --merge); or ") + kDelta);
    }
    refuse_mount();
    if (!options.whole_volume) {
        refuse_others();
    }
    refuse_by_uuid(options.fstab);
}

LvmRollback::~LvmRollback() {
    if (!record_ || exchanged_) {
        return;
    }
    try {
        const LvmExchange exchange(record_->note());
        if (exchange.shown() == LvmShown::kReplaced) {  // as it should be; otherwise it is for the next command, which the record tells
            exchange.take_back();
            record_->remove();
        }
    } catch (const std::exception&) {
        // Announced in the header: finish_lvm_rollback() removes what is left.
    }
}

LvmRollback::Identity LvmRollback::identity_of(int directory) {
    return {stat_fd(directory).stx_ino, inode_generation(directory)};
}

void LvmRollback::refuse_mount() const {
    const std::string& point = mount_.mount_point;
    if (point == "/") {
        throw Error::refused(
            "the node directory " + node_directory_ + " is on the root file system, which can't be exchanged while it runs",
            std::string("move the node to a volume of its own, or ") + kDelta);
    }
    if (mount_.root != "/") {
        throw Error::refused("the node directory " + node_directory_ + " lies in a part of its file system that is mounted by itself at " +
                                 point + ": a rollback puts another file system in the place of the whole one",
                             "name the directory where the whole one is mounted, and unmount " + point + " meanwhile");
    }
    if (const std::string records = LvmRollbackRecord::place(); mount_of(records).device == mount_.device) {
        throw Error::refused("the volume " + volume() + " of the node directory " + node_directory_ + " also holds " + records +
                                 ", where it is noted how far a rollback has come",
                             "have that on another file system");
    }
    if (mount_.read_only) {
        throw Error::refused("the node directory " + node_directory_ + " is on a read-only file system", "mount it for writing");
    }
    std::vector<std::string> below;
    for (const Mount& mount : mounts_below(point)) {
        below.push_back(mount.mount_point);
    }
    if (!below.empty()) {
        throw Error::refused(
            "something is mounted below " + point + ", where the volume of the node directory is mounted: " + named_in_message(below),
            "unmount it, and mount it again afterwards");
    }
}

// All of the volume goes back.
void LvmRollback::refuse_others() const {
    std::vector<std::string> others;
    std::string above = mount_.mount_point;
    std::istringstream names(place_.inside());
    for (std::string name; std::getline(names, name, '/');) {
        add_others(above, name, others);
        above = join_path(above, name);
    }
    if (!others.empty()) {
        throw Error::refused("the volume " + volume() + " holds more than the node directory " + node_directory_ +
                                 ", which would go back with it: " + named_in_message(others),
                             "move it elsewhere; or take it back too, with --whole-volume");
    }
}

// What is put in place has another UUID, as a volume.
void LvmRollback::refuse_by_uuid(const std::string& fstab) const {
    std::istringstream lines(read_small_file(fstab).value_or(""));
    for (std::string line; std::getline(lines, line);) {
        std::istringstream fields(line);
        std::string device, point;
        fields >> device >> point;
        if (!device.starts_with('#') && device.find("dm-uuid-LVM-") != std::string::npos && point == mount_.mount_point) {
            std::string why = fstab;
            why.append(" mounts ").append(point).append(" by the UUID of its logical volume, which at the next boot would not be found");
            throw Error::refused(why, "write " + place_.volume().device + " there instead");
        }
    }
}

std::vector<StaleMount> LvmRollback::stale_mounts() const {
    const Mount own_parent = parent_of_mount(mount_);
    std::vector<StaleMount> stale;
    for (const SeenMount& seen : mounts_in_all_namespaces(mount_)) {
        if (exchanged_ || (seen.mount.id != mount_.id && !follows(mount_, own_parent, seen))) {
            stale.push_back(described(seen));
        }
    }
    return stale;
}

bool LvmRollback::is_used_by_kernel() const {
    return mount_in_use(mount_.mount_point);
}

lvm::Volume LvmRollback::find_snapshot(const SnapshotEntry& snapshot) const {
    const std::string name = naming_.on_disk(snapshot.name, snapshot.temporary);
    const auto volume = find_own_volume(place_.volume().group, name);
    const std::string what = "the snapshot \"" + snapshot.name + "\" of " + node_directory_;
    if (!volume || !volume->is_thin() || volume->pool != place_.volume().pool || !is_snapshot_of(*volume, place_.volume())) {
        throw Error::refused(what + " is gone", "see nodesnap snapshot list");
    }
    if (!volume->is_read_only()) {
        throw Error::refused(what + " is no snapshot any more: it was made writable", "see nodesnap snapshot list");
    }
    return *volume;
}

void LvmRollback::inspect(const SnapshotEntry& snapshot) {
    find_snapshot(snapshot);
    const std::string flaw = flaw_of_pool(pool_of(place_.volume()), kFullPool);
    if (!flaw.empty()) {
        throw Error::refused("the volume " + volume() + " " + flaw + "; and what is there now is kept besides",
                             "extend the pool (lvextend), its metadata too (--poolmetadatasize), or remove volumes of it");
    }
}

void LvmRollback::prepare(const SnapshotEntry& snapshot, const std::string& kept) {
    const lvm::Volume source = find_snapshot(snapshot);
    const lvm::Volume& live = place_.volume();
    record_.emplace(LvmRollbackRecord::make(node_directory_));
    LvmRollbackNote note;
    note.node_directory = node_directory_;
    note.group = live.group_uuid;
    note.group_name = live.group;
    note.replaced = live.uuid;
    note.name = live.name;
    note.kept = naming_.on_disk(kept, false);
    note.work = "nodesnap" + naming_.rollback_directory();
    note.snapshot_name = snapshot.name;
    note.kept_name = kept;
    note.mount = mount_;
    record_->write(note);
    fault::step("rollback.begun");
    make_volume(source);
    fault::step("rollback.cloned");
}

void LvmRollback::make_volume(const lvm::Volume& snapshot) {
    LvmRollbackNote note = record_->note();
    std::vector<std::string> tags{kExchangeTag};
    for (const std::string& tag : place_.volume().tags) {
        if (tag != kVolumeTag && !tag.starts_with(std::string(kVolumeTag) + ".")) {
            tags.push_back(tag);  // whatever they are for: it is to be the same volume
        }
    }
    const auto made = [&]() -> std::optional<lvm::Volume> {
        for (lvm::Volume& volume : lvm::list_volumes(note.group_name)) {
            if (volume.name == note.work && volume.has_tag(kExchangeTag)) {
                return std::move(volume);
            }
        }
        return std::nullopt;
    };
    try {
        lvm::create_copy(snapshot, note.work, tags);
    } catch (const Error&) {
        const auto left = made();
        if (!left) {
            throw;
        }
        lvm::remove_volume(left->full_name());  // of a rollback whose record is lost, or of what has just failed
        lvm::create_copy(snapshot, note.work, tags);
    }
    fault::step("rollback.copied");
    const auto volume = made();
    if (!volume) {
        throw Error::failed("lvs doesn't list " + note.group_name + "/" + note.work + ", which was just made");
    }
    note.made = volume->uuid;
    record_->write(note);
    try_volume(*volume);
}

// As it will be mounted: what the kernel does to a file system when it is mounted is done then, too.
void LvmRollback::try_volume(const lvm::Volume& made) {
    std::string why;
    const FileDescriptor mounted = mount_detached(mount_like(mount_, made.device), why);
    if (!mounted) {
        throw Error::failed("cannot mount what was made of the snapshot, " + made.full_name() + ": " + why,
                            "what the kernel's log (dmesg) says may tell more");
    }
    node_ = identity_of(place_.open_node(mounted.get()).get());
    sync_file_system(open_at(mounted.get(), ".", kDirectory).get(), made.full_name());
}

void LvmRollback::exchange() {
    const LvmExchange exchange(record_->note());
    if (exchange.shown() != LvmShown::kReplaced || mount_of(node_directory_).id != mount_.id) {
        throw Error::failed("at " + mount_.mount_point + " something else was mounted meanwhile", "look at it, and try again");
    }
    sync_file_system(open_path(node_directory_, kDirectory).get(), node_directory_);
    try {
        // Who unmounts what is mounted of a device that has gone, as systemd does, finds it in use meanwhile.
        FileDescriptor held = open_path(mount_.mount_point, O_PATH | O_DIRECTORY);
        exchange.exchange_names();
        mounted_ = exchange.mount(record_->note().made, std::move(held));
        exchanged_ = true;
        fault::step("rollback.exchanged");
    } catch (const Error& error) {
        if (recover() != LvmShown::kNothing) {
            throw;
        }
        throw Error::failed("nothing is mounted at " + mount_.mount_point + " any more: " + error.message(),
                            "nodesnap snapshot list " + shell_word(node_directory_) + " mounts it again, and says what it is then");
    }
}

// What is seen stays, or is put back where nothing is seen.
LvmShown LvmRollback::recover() noexcept {
    LvmShown shown = LvmShown::kOther;
    try {
        const LvmExchange exchange(record_->note());
        shown = exchange.uncover();
        if (shown == LvmShown::kNothing) {
            mounted_ = exchange.mount(record_->note().replaced, {});
            shown = exchange.shown();
        }
        exchanged_ = shown == LvmShown::kMade;
    } catch (const std::exception&) {
        // finish_lvm_rollback() mounts what has the name by then, and says which it is.
    }
    return shown;
}

std::string LvmRollback::keep() {
    LvmExchange(record_->note()).complete();
    record_->remove();
    fault::step("rollback.tidied");
    return path_of_volume(record_->note().group_name, record_->note().kept);
}

void LvmRollback::require_shown() const {
    const FileDescriptor shown = open_path(node_directory_, kDirectory);
    if (LvmExchange(record_->note()).shown() != LvmShown::kMade || !(identity_of(shown.get()) == node_)) {
        throw Error::failed(
            "the path " + node_directory_ + " doesn't show the directory that was made of the snapshot, which is on " + volume(),
            "look at what is mounted at " + mount_.mount_point);
    }
}

}  // namespace nodesnap
