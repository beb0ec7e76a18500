#include "snapshot/backend/lvm_way.h"

#include <fcntl.h>

#include <sstream>

#include "platform/directory_stream.h"
#include "platform/error.h"
#include "platform/file.h"
#include "platform/inode_flags.h"
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

DirectoryIdentity DirectoryIdentity::of(int directory) {
    return {stat_fd(directory).stx_ino, inode_generation(directory)};
}

LvmWay::LvmWay(const std::string& node_directory, bool whole_volume)
    : node_directory_(node_directory),
      place_(node_directory),
      mount_(mount_of(node_directory)),
      naming_(node_directory, NameStyle::kVolume) {
    refuse_mount();
    if (!whole_volume) {
        refuse_others();
    }
}

void LvmWay::refuse_mount() const {
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
void LvmWay::refuse_others() const {
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

std::vector<StaleMount> LvmWay::stale_mounts() const {
    const Mount own_parent = parent_of_mount(mount_);
    std::vector<StaleMount> stale;
    for (const SeenMount& seen : mounts_in_all_namespaces(mount_)) {
        if (exchanged() || (seen.mount.id != mount_.id && !follows(mount_, own_parent, seen))) {
            stale.push_back(described(seen));
        }
    }
    return stale;
}

bool LvmWay::is_used_by_kernel() const {
    return mount_in_use(mount_.mount_point);
}

void LvmWay::refuse_gone(const SnapshotEntry& snapshot) const {
    throw Error::refused("the snapshot \"" + snapshot.name + "\" of " + node_directory_ + " is gone", "see nodesnap snapshot list");
}

lvm::Volume LvmWay::find_own(const SnapshotEntry& snapshot) const {
    auto volume = find_own_volume(place_.volume().group, naming_.on_disk(snapshot.name, snapshot.temporary));
    if (!volume || !is_snapshot_of(*volume, place_.volume())) {
        refuse_gone(snapshot);
    }
    return std::move(*volume);
}

LvmRollbackNote LvmWay::note_of(const SnapshotEntry& snapshot, const std::string& kept) const {
    const lvm::Volume& live = place_.volume();
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
    return note;
}

void LvmWay::require_still_mounted() const {
    if (NotedVolumes(record_->note()).shown() != LvmShown::kReplaced || mount_of(node_directory_).id != mount_.id) {
        throw Error::failed("at " + mount_.mount_point + " something else was mounted meanwhile", "look at it, and try again");
    }
}

void LvmWay::fail_unmounted(const Error& error) const {
    throw Error::failed("nothing is mounted at " + mount_.mount_point + " any more: " + error.message(),
                        "nodesnap snapshot list " + shell_word(node_directory_) + " mounts it again, and says what it is then");
}

}  // namespace nodesnap
