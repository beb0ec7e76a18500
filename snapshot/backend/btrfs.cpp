#include "snapshot/backend/btrfs.h"

#include <fcntl.h>

#include <algorithm>
#include <cerrno>
#include <limits>
#include <optional>
#include <utility>

#include "platform/btrfs.h"
#include "platform/btrfs_space.h"
#include "platform/clock.h"
#include "platform/directory_stream.h"
#include "platform/entry.h"
#include "platform/error.h"
#include "platform/fault.h"
#include "platform/file.h"
#include "platform/processes.h"
#include "snapshot/backend/btrfs_place.h"
#include "snapshot/backend/kept_trees.h"
#include "snapshot/backend/preflight.h"
#include "snapshot/backend/snapshot_folder.h"
#include "snapshot/backend/snapshot_name.h"

namespace nodesnap {
namespace {

// The entry of a folder if it is a read-only subvolume; an empty descriptor for anything else.
FileDescriptor open_snapshot(int folder, const std::string& name) {
    const int fd = try_open_long(folder, name, O_RDONLY | O_DIRECTORY);
    if (fd == -ENOENT || fd == -ENOTDIR || fd == -ELOOP) {
        return {};
    }
    if (fd < 0) {
        throw Error::system("open the snapshot", name, -fd);
    }
    FileDescriptor snapshot(fd);
    if (!btrfs::is_subvolume(fd) || !btrfs::subvolume_info(fd).read_only) {
        return {};
    }
    return snapshot;
}

// After it no power cut brings the snapshot back. It may be gone already: who deleted it may have died before that was durable.
// `locked` is closed in between: the kernel gives the space back when nobody has it open, and a commit after that makes it begin at once.
void remove_durably(int folder, const std::string& name, const std::string& shown, FileDescriptor locked = {}) {
    try {
        if (stat_at(folder, name)) {
            btrfs::delete_subvolume(folder, name);
        }
        locked.reset();
        fault::step("snapshot.deleted");
        btrfs::commit(folder, shown);
    } catch (const Error& error) {
        throw Error::system("remove the snapshot", shown, error.error_number(), error.hint());
    }
}

// Whether the name still is that of the opened snapshot.
bool is_still_there(int folder, const std::string& name, int snapshot) {
    const auto status = stat_at(folder, name);
    return status && device_of(*status) == device_of(stat_fd(snapshot, name));
}

bool hold(int folder, const std::string& name, int snapshot) {
    return lock_for_use(snapshot) && is_still_there(folder, name, snapshot);
}

class BtrfsSnapshot : public Snapshot {
public:
    // From here on the snapshot on storage belongs to this object.
    BtrfsSnapshot(std::shared_ptr<const BtrfsPlace> place, FileDescriptor folder, std::string on_disk, SnapshotEntry entry,
                  bool kept = false)
        : place_(std::move(place)), folder_(std::move(folder)), on_disk_(std::move(on_disk)), entry_(std::move(entry)), kept_(kept) {}

    ~BtrfsSnapshot() override {
        try {
            if (!kept_) {
                remove();
            }
        } catch (const Error&) {
            // Announced in the header: the next backup removes what is left.
        }
    }

    // False if the node directory isn't in it, or if it is being removed.
    bool try_open() {
        subvolume_ = open_at(folder_.get(), on_disk_, O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
        if (!hold(folder_.get(), on_disk_, subvolume_.get())) {
            return false;
        }
        root_.reset(std::max(try_open_long(subvolume_.get(), place_->inside(), O_RDONLY | O_DIRECTORY), -1));
        return static_cast<bool>(root_);
    }

    void open(std::int64_t taken_ns, std::int64_t duration_ns, Consistency consistency) {
        subvolume_ = open_at(folder_.get(), on_disk_, O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
        if (!hold(folder_.get(), on_disk_, subvolume_.get())) {
            throw Error::failed("the snapshot " + entry_.path + " was removed by another program as soon as it was taken", "try again");
        }
        root_ = open_long(subvolume_.get(), place_->inside(), O_RDONLY | O_DIRECTORY);
        entry_.created_ns = btrfs::subvolume_info(subvolume_.get()).created_ns;
        taken_ns_ = taken_ns;
        duration_ns_ = duration_ns;
        consistency_ = consistency;
    }

    int root() const override { return root_.get(); }
    const SnapshotEntry& entry() const override { return entry_; }
    btrfs::SubvolumeInfo info() const { return btrfs::subvolume_info(subvolume_.get()); }
    SnapshotProof proof() const override {
        const btrfs::SubvolumeInfo now = info();
        return {"btrfs", entry_.path, place_->file_system_uuid(), Uuid{now.uuid}, now.otransid, now.ctransid, now.read_only};
    }
    std::int64_t taken_ns() const override { return taken_ns_; }
    std::int64_t duration_ns() const override { return duration_ns_; }
    Consistency consistency() const override { return consistency_; }
    void keep() noexcept override { kept_ = true; }

    void keep_for_operator() override {
        kept_ = true;
        const std::string on_disk = without_temporary(on_disk_);
        if (!rename_no_replace(folder_.get(), on_disk_, folder_.get(), on_disk)) {
            throw Error::failed("cannot keep the snapshot " + entry_.path + ": there is one of its name already");
        }
        btrfs::commit(folder_.get(), entry_.path);  // under its old name the next backup would drop it
        entry_.path.replace(entry_.path.size() - on_disk_.size(), on_disk_.size(), on_disk);
        entry_.temporary = false;
        on_disk_ = on_disk;
    }

    void remove() override {
        if (removed_) {
            return;
        }
        root_.reset();
        subvolume_.reset();
        remove_durably(folder_.get(), on_disk_, entry_.path);
        removed_ = true;
        kept_ = true;
    }

private:
    std::shared_ptr<const BtrfsPlace> place_;  // its private mount must outlive our descriptors
    FileDescriptor folder_;
    std::string on_disk_;
    SnapshotEntry entry_;
    FileDescriptor subvolume_;  // its root
    FileDescriptor root_;       // the node directory in it
    std::int64_t taken_ns_ = 0;
    std::int64_t duration_ns_ = 0;
    Consistency consistency_ = Consistency::kCrashConsistent;
    bool kept_ = false;
    bool removed_ = false;
};

class BtrfsBackend : public SnapshotBackend {
public:
    BtrfsBackend(std::shared_ptr<const BtrfsPlace> place, ExcludeRules excludes, bool held, std::string reason)
        : place_(std::move(place)),
          excludes_(std::move(excludes)),
          held_(held),
          naming_(place_->node_directory()),
          kept_(*place_, naming_),
          reason_(std::move(reason)) {}

    std::string name() const override { return "btrfs"; }
    std::string reason() const override { return reason_; }
    Layout layout() const override { return place_->layout(); }
    std::string file_system_uuid() const override { return place_->file_system_uuid(); }
    std::string describe_location() const override { return place_->describe_folder(); }
    bool atomic() const override { return true; }

    void prepare() override {
        // What the preflight found may have changed since.
        refuse_nested(place_->node_directory(), excludes_);
        folder_ = place_->open_folder(true);
        used_before_ = !held_ && in_use();
        flush();
    }

    std::unique_ptr<Snapshot> create(const std::string& name, bool temporary) override {
        if (!folder_) {
            prepare();
        }
        FileDescriptor folder = std::move(folder_);
        const std::string on_disk = naming_.on_disk(name, temporary);
        for (const bool other : {false, true}) {
            if (stat_at(folder.get(), naming_.on_disk(name, other))) {
                throw Error::refused("a snapshot named \"" + name + "\" of " + place_->node_directory() + " exists already",
                                     "choose another name, or remove it with nodesnap snapshot remove");
            }
        }
        const std::int64_t taken_ns = utc_now_ns();
        const std::int64_t begun_ns = monotonic_ns();
        take(folder.get(), on_disk);
        const std::int64_t duration_ns = monotonic_ns() - begun_ns;
        auto snapshot = std::make_unique<BtrfsSnapshot>(place_, std::move(folder), on_disk,
                                                        SnapshotEntry{name, place_->folder() + "/" + on_disk, 0, temporary});
        fault::step("snapshot.taken");
        // Looking through all processes takes time that nobody should be held for.
        const bool used = held_ || used_before_ || in_use();
        snapshot->open(taken_ns, duration_ns, used ? Consistency::kCrashConsistent : Consistency::kPointInTime);
        return snapshot;
    }

    // The first flush writes what has gathered, each further one what came during the one before, so that the snapshot, which flushes too,
    // has next to nothing left to do. As often as that makes them shorter: a daemon that writes all over a large file touches metadata
    // faster than one flush writes it.
    void flush() const {
        constexpr int kMost = 8;
        std::int64_t before_ns = std::numeric_limits<std::int64_t>::max();
        for (int flushes = 0; flushes < kMost; ++flushes) {
            const std::int64_t begun_ns = monotonic_ns();
            sync_file_system(place_->subvolume(), place_->node_directory());
            const std::int64_t took_ns = monotonic_ns() - begun_ns;
            if (flushes > 0 && took_ns > before_ns / 4 * 3) {
                break;
            }
            before_ns = took_ns;
        }
    }

    std::unique_ptr<Snapshot> find(const std::string& name, const SnapshotProof& proof) override {
        FileDescriptor folder = place_->open_folder(false);
        if (!folder || proof.backend != "btrfs" || proof.file_system_uuid != place_->file_system_uuid()) {
            return nullptr;
        }
        for (const bool temporary : {true, false}) {
            const std::string on_disk = naming_.on_disk(name, temporary);
            if (!open_snapshot(folder.get(), on_disk)) {
                continue;
            }
            auto snapshot = std::make_unique<BtrfsSnapshot>(place_, std::move(folder), on_disk,
                                                            SnapshotEntry{name, place_->folder() + "/" + on_disk, 0, temporary}, true);
            if (!snapshot->try_open()) {
                return nullptr;
            }
            SnapshotProof now = snapshot->proof();
            now.path = proof.path;  // it may have been given another name, or be seen by another way
            return now == proof && now.read_only ? std::move(snapshot) : nullptr;
        }
        return nullptr;
    }

    std::string flaw_of(const std::string& name, const SnapshotProof& proof) override {
        const FileDescriptor folder = place_->open_folder(false);
        for (const bool temporary : {true, false}) {
            const std::string on_disk = naming_.on_disk(name, temporary);
            if (!folder || !stat_at(folder.get(), on_disk)) {
                continue;
            }
            const FileDescriptor found(std::max(try_open_long(folder.get(), on_disk, O_RDONLY | O_DIRECTORY | O_NOFOLLOW), -1));
            if (!found || !btrfs::is_subvolume(found.get())) {
                return "was replaced by what is no snapshot";
            }
            const btrfs::SubvolumeInfo now = btrfs::subvolume_info(found.get());
            if (now.uuid != proof.subvolume_uuid.bytes || now.otransid != proof.otransid) {
                return "was replaced by another one";
            }
            return now.read_only && now.ctransid == proof.ctransid ? "can't be opened" : "was made writable";
        }
        return "";
    }

    std::string path_of(const std::string& name) const override { return place_->folder() + "/" + naming_.on_disk(name, true); }

    bool precedes(const Snapshot& snapshot) const override {
        const Descent found = descent(snapshot, nullptr);
        return found.known && found.forked_at == 0;
    }

    Descent descent(const Snapshot& earlier, const Snapshot* of) const override {
        const btrfs::SubvolumeInfo from = static_cast<const BtrfsSnapshot&>(earlier).info();
        const btrfs::SubvolumeInfo now =
            of != nullptr ? static_cast<const BtrfsSnapshot*>(of)->info() : btrfs::subvolume_info(place_->subvolume());
        const std::uint64_t common = btrfs::common_transaction(place_->subvolume(), from, now);
        return {common != 0, common < from.otransid ? common : 0};
    }

    std::vector<SnapshotEntry> list() override {
        std::vector<SnapshotEntry> entries;
        FileDescriptor folder = place_->open_folder(false);
        if (!folder) {
            return entries;
        }
        kept_.clear_up();
        DirectoryStream stream(open_at(folder.get(), ".", O_RDONLY | O_DIRECTORY), place_->describe_folder());
        DirectoryEntry found;
        while (stream.next(found)) {
            const auto name = naming_.parse(found.name);
            if (!name) {
                continue;
            }
            if (const FileDescriptor snapshot = open_snapshot(folder.get(), found.name)) {
                // What was replaced by a rollback is older than that.
                const auto created_ns = rolled_back_at(name->given).value_or(btrfs::subvolume_info(snapshot.get()).created_ns);
                entries.push_back({name->given, place_->folder() + "/" + found.name, created_ns, name->temporary,
                                   entry::lock_exclusive(snapshot.get()) == EWOULDBLOCK});
            }
        }
        kept_.add_to(entries);
        std::sort(entries.begin(), entries.end(), [](const SnapshotEntry& a, const SnapshotEntry& b) {
            return std::pair(a.created_ns, a.name) < std::pair(b.created_ns, b.name);
        });
        return entries;
    }

    void remove(const std::string& name) override {
        if (const FileDescriptor folder = place_->open_folder(false)) {
            for (const bool temporary : {false, true}) {
                const std::string on_disk = naming_.on_disk(name, temporary);
                if (FileDescriptor snapshot = open_snapshot(folder.get(), on_disk)) {
                    if (entry::lock_exclusive(snapshot.get()) == EWOULDBLOCK) {
                        throw Error::refused(
                            "the snapshot \"" + name + "\" of " + place_->node_directory() + " is in use by a running backup",
                            "wait until that backup has ended");
                    }
                    return remove_durably(folder.get(), on_disk, place_->folder() + "/" + on_disk, std::move(snapshot));
                }
            }
            if (kept_.remove(name)) {
                return;
            }
        }
        throw Error::refused(
            "there is no snapshot named \"" + name + "\" of " + place_->node_directory() + " in " + place_->describe_folder(),
            "see nodesnap snapshot list");
    }

    HeldSpace held_space(const SnapshotEntry& entry) override {
        const FileDescriptor folder = place_->open_folder(false);
        const FileDescriptor snapshot =
            folder ? open_snapshot(folder.get(), naming_.on_disk(entry.name, entry.temporary)) : FileDescriptor();
        if (const auto kept = snapshot ? std::nullopt : kept_.held_space(entry.name)) {
            return *kept;
        }
        const auto held = snapshot ? btrfs::held_space(snapshot.get(), place_->subvolume(), entry.path) : btrfs::HeldSpace{};
        return {held.alone_bytes, held.shared_bytes, held.shares_within};
    }

    bool drop(const SnapshotEntry& entry) override {
        const std::string on_disk = naming_.on_disk(entry.name, true);
        const FileDescriptor folder = place_->open_folder(false);
        FileDescriptor snapshot = folder ? open_snapshot(folder.get(), on_disk) : FileDescriptor();
        // From the lock to the removal nobody begins to use it: who opened it meanwhile sees afterwards that it has gone.
        if (!snapshot || entry::lock_exclusive(snapshot.get()) != 0 || !is_still_there(folder.get(), on_disk, snapshot.get())) {
            return false;
        }
        const std::uint64_t id = btrfs::subvolume_info(snapshot.get()).id;
        remove_durably(folder.get(), on_disk, entry.path, std::move(snapshot));
        dropped_.push_back(id);
        return true;
    }

    void wait_for_space() override {
        for (const std::uint64_t id : dropped_) {
            btrfs::wait_until_cleaned(place_->subvolume(), id, place_->node_directory());
        }
        dropped_.clear();
    }

    void remove_temporary(const std::string& name) override {
        const std::string on_disk = naming_.on_disk(name, true);
        const FileDescriptor folder = place_->open_folder(false);
        // A writable one is an operator's by now.
        if (folder && (!stat_at(folder.get(), on_disk) || open_snapshot(folder.get(), on_disk))) {
            remove_durably(folder.get(), on_disk, place_->folder() + "/" + on_disk);
        }
    }

private:
    void take(int folder, const std::string& on_disk) {
        try {
            btrfs::create_snapshot(place_->subvolume(), folder, on_disk, true);
        } catch (const Error& error) {
            throw Error::system("take the snapshot", place_->folder() + "/" + on_disk, error.error_number());
        }
    }

    // Whoever has anything of it open could have been about to write. Who can't be seen counts as a user.
    bool in_use() const {
        std::size_t hidden = 0;
        return !users_of_directory(place_->node_directory(), 1, &hidden).empty() || hidden != 0;
    }

    std::shared_ptr<const BtrfsPlace> place_;
    ExcludeRules excludes_;
    bool held_;
    SnapshotNaming naming_;
    KeptTrees kept_;
    std::string reason_;
    FileDescriptor folder_;  // from prepare() to create()
    bool used_before_ = false;
    std::vector<std::uint64_t> dropped_;  // ids of subvolumes whose space wasn't waited for yet
};

}  // namespace

std::unique_ptr<SnapshotBackend> make_btrfs_backend(const std::string& node_directory, const ExcludeRules& excludes,
                                                    const BackendOptions& options, std::string reason) {
    auto place = std::make_shared<const BtrfsPlace>(node_directory, options.snapshot_directory, options.preflight ? &excludes : nullptr);
    return std::make_unique<BtrfsBackend>(std::move(place), excludes, options.held, std::move(reason));
}

bool remove_left_btrfs_snapshot(const std::string& path) {
    const std::size_t slash = path.rfind('/');
    if (slash == std::string::npos || slash == 0) {
        return true;
    }
    const std::string parent = path.substr(0, slash);
    const std::string name = path.substr(slash + 1);
    const std::string own_folder = std::string("/") + kSnapshotFolder;
    const bool is_own_folder = parent.ends_with(own_folder);
    // The record comes from the repository. Outside our folders only what a backup made for itself can be meant.
    if (!(is_own_folder ? is_snapshot_name(name) : is_temporary_snapshot_name(name))) {
        return true;
    }
    FileDescriptor top_level;
    FileDescriptor folder;
    if (parent.starts_with(kTopLevelScheme)) {
        const std::string uuid =
            parent.substr(std::string_view(kTopLevelScheme).size(), parent.find('/') - std::string_view(kTopLevelScheme).size());
        if (parent != kTopLevelScheme + uuid + own_folder) {
            return true;
        }
        const std::string mounted = btrfs::find_mounted(uuid);
        if (mounted.empty()) {
            return false;
        }
        top_level = btrfs::open_top_level(mounted);
        folder = open_top_level_folder(top_level.get(), false);
        if (!folder) {
            return true;  // the place is seen, and nothing is there
        }
    } else if (!parent.starts_with('/')) {
        return true;
    } else if (stat_path(parent)) {
        folder = open_path(parent, O_RDONLY | O_DIRECTORY | (is_own_folder ? O_NOFOLLOW : 0));
    }
    // Another file system, or none, where it was: its own isn't mounted.
    if (!folder || !btrfs::is_btrfs(folder.get())) {
        return false;
    }
    if (!stat_at(folder.get(), name) || open_snapshot(folder.get(), name)) {
        remove_durably(folder.get(), name, path);
    }
    return true;
}

std::string remove_btrfs_snapshot_elsewhere(const SnapshotProof& proof) {
    const std::string mounted = btrfs::find_mounted(proof.file_system_uuid);
    if (mounted.empty()) {
        return "its file system isn't mounted here";
    }
    const FileDescriptor top_level = btrfs::open_top_level(mounted);
    const FileDescriptor top = open_at(top_level.get(), ".", O_RDONLY | O_DIRECTORY);
    const auto id = btrfs::find_subvolume(top.get(), proof.subvolume_uuid.bytes);
    if (!id) {
        return "";
    }
    const std::string path = btrfs::subvolume_path(top.get(), *id);
    const std::size_t slash = path.rfind('/');
    const std::string name = slash == std::string::npos ? path : path.substr(slash + 1);
    if (!is_temporary_snapshot_name(name)) {
        return "";
    }
    const FileDescriptor folder = open_long(top.get(), slash == std::string::npos ? "." : path.substr(0, slash), O_RDONLY | O_DIRECTORY);
    FileDescriptor snapshot = open_snapshot(folder.get(), name);
    if (!snapshot) {
        return "";  // writable: an operator's by now
    }
    const btrfs::SubvolumeInfo now = btrfs::subvolume_info(snapshot.get());
    if (now.uuid != proof.subvolume_uuid.bytes || now.otransid != proof.otransid || now.ctransid != proof.ctransid) {
        return "it isn't what it was";
    }
    if (entry::lock_exclusive(snapshot.get()) != 0) {
        return "somebody uses it";
    }
    remove_durably(folder.get(), name, proof.path, std::move(snapshot));
    return "";
}

}  // namespace nodesnap
