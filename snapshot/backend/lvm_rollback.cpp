#include "snapshot/backend/lvm_rollback.h"

#include <fcntl.h>

#include <sstream>
#include <utility>

#include "platform/detached_mount.h"
#include "platform/error.h"
#include "platform/fault.h"
#include "platform/file.h"
#include "platform/lvm_thin.h"
#include "snapshot/backend/lvm_snapshot.h"

namespace nodesnap {
namespace {

constexpr int kDirectory = O_RDONLY | O_DIRECTORY;

}  // namespace

LvmRollback::LvmRollback(const std::string& node_directory, const LvmRollbackOptions& options)
    : LvmWay(node_directory, options.whole_volume) {
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

lvm::Volume LvmRollback::find_snapshot(const SnapshotEntry& snapshot) const {
    lvm::Volume volume = find_own(snapshot);
    if (!volume.is_thin() || volume.pool != place_.volume().pool) {
        refuse_gone(snapshot);
    }
    if (!volume.is_read_only()) {
        throw Error::refused(
            "the snapshot \"" + snapshot.name + "\" of " + node_directory_ + " is no snapshot any more: it was made writable",
            "see nodesnap snapshot list");
    }
    return volume;
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
    record_.emplace(LvmRollbackRecord::make(node_directory_));
    record_->write(note_of(snapshot, kept));
    fault::step("rollback.begun");
    make_volume(source);
    fault::step("rollback.cloned");
}

void LvmRollback::make_volume(const lvm::Volume& snapshot) {
    LvmRollbackNote note = record_->note();
    std::vector<std::string> tags{kExchangeTag};
    for (const std::string& tag : place_.volume().tags) {
        if (!is_own_tag(tag)) {
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
    node_ = DirectoryIdentity::of(place_.open_node(mounted.get()).get());
    sync_file_system(open_at(mounted.get(), ".", kDirectory).get(), made.full_name());
}

void LvmRollback::exchange() {
    const LvmExchange exchange(record_->note());
    require_still_mounted();
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
        fail_unmounted(error);
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
    if (LvmExchange(record_->note()).shown() != LvmShown::kMade || !(DirectoryIdentity::of(shown.get()) == node_)) {
        throw Error::failed(
            "the path " + node_directory_ + " doesn't show the directory that was made of the snapshot, which is on " + volume(),
            "look at what is mounted at " + mount_.mount_point);
    }
}

}  // namespace nodesnap
