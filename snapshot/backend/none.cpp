#include "snapshot/backend/none.h"

#include <fcntl.h>

#include <optional>
#include <utility>

#include "platform/btrfs.h"
#include "platform/clock.h"
#include "platform/error.h"
#include "platform/file.h"
#include "platform/file_system.h"
#include "platform/mount.h"
#include "snapshot/backend/preflight.h"

namespace nodesnap {
namespace {

constexpr const char* kRemedy =
    "stop the daemon, or hold it with --hold, for the last moment only; or keep the node on btrfs, where a snapshot is taken";

class LiveDirectory : public Snapshot {
public:
    LiveDirectory(std::string node_directory, ExcludeRules excludes, const BackendOptions& options, SnapshotEntry entry)
        : node_directory_(std::move(node_directory)),
          excludes_(std::move(excludes)),
          accept_inconsistent_(options.accept_inconsistent),
          held_(options.held),
          entry_(std::move(entry)),
          root_(open_path(node_directory_, O_RDONLY | O_DIRECTORY)) {
        if (!held_) {
            used_at_first_ = find_obstacle(node_directory_, excludes_, kRemedy).has_value();
            consistency();
            sync_file_system(root_.get(), node_directory_);
        }
        entry_.created_ns = utc_now_ns();
        proof_.backend = "none";
        proof_.file_system_uuid = file_system_uuid_of(node_directory_);
    }

    int root() const override { return root_.get(); }
    const SnapshotEntry& entry() const override { return entry_; }
    SnapshotProof proof() const override { return proof_; }
    std::int64_t taken_ns() const override { return entry_.created_ns; }
    std::int64_t duration_ns() const override { return 0; }

    Consistency consistency() const override {
        if (held_) {
            return Consistency::kPointInTime;  // if the hold was one
        }
        const auto obstacle = find_obstacle(node_directory_, excludes_, kRemedy);
        if (!obstacle && !used_at_first_) {
            return Consistency::kPointInTime;
        }
        if (accept_inconsistent_) {
            return Consistency::kInconsistent;
        }
        throw Error::failed(obstacle ? obstacle->message : "the node directory " + node_directory_ + " was in use",
                            obstacle ? obstacle->hint : "stop the daemon");
    }

    void keep() noexcept override {}
    void keep_for_operator() override {}
    void remove() override {}

private:
    std::string node_directory_;
    ExcludeRules excludes_;
    bool accept_inconsistent_;
    bool held_;
    SnapshotEntry entry_;
    FileDescriptor root_;
    SnapshotProof proof_;
    bool used_at_first_ = false;
};

class NoneBackend : public SnapshotBackend {
public:
    NoneBackend(std::string node_directory, ExcludeRules excludes, BackendOptions options, std::string reason)
        : node_directory_(std::move(node_directory)),
          excludes_(std::move(excludes)),
          options_(std::move(options)),
          reason_(std::move(reason)) {}

    std::string name() const override { return "none"; }
    std::string reason() const override { return reason_; }
    std::string file_system_uuid() const override { return file_system_uuid_of(node_directory_); }
    std::string describe_location() const override { return "nowhere: the node directory itself is read"; }
    bool atomic() const override { return false; }
    std::string why_no_changes() const override { return "without a snapshot nothing tells what has changed"; }

    Layout layout() const override {
        if (is_mount_root(node_directory_)) {
            return Layout::kMountRoot;
        }
        return btrfs::is_subvolume(open_path(node_directory_, O_PATH).get()) ? Layout::kSubvolume : Layout::kFolder;
    }

    void prepare() override {}
    std::unique_ptr<Snapshot> create(const std::string& name, bool temporary) override {
        return std::make_unique<LiveDirectory>(node_directory_, excludes_, options_, SnapshotEntry{name, "", 0, temporary});
    }
    std::unique_ptr<Snapshot> find(const std::string&, const SnapshotProof&) override { return nullptr; }
    std::string flaw_of(const std::string&, const SnapshotProof&) override { return ""; }
    std::string path_of(const std::string&) const override { return ""; }
    bool precedes(const Snapshot&) const override { return false; }
    std::vector<SnapshotEntry> list() override { return {}; }
    void remove(const std::string& name) override {
        throw Error::refused("there is no snapshot named \"" + name + "\" of " + node_directory_ + ": its file system has none");
    }
    HeldSpace held_space(const SnapshotEntry&) override { return {}; }
    bool drop(const SnapshotEntry&) override { return false; }
    void wait_for_space() override {}
    void remove_temporary(const std::string&) override {}

private:
    std::string node_directory_;
    ExcludeRules excludes_;
    BackendOptions options_;
    std::string reason_;
};

}  // namespace

std::unique_ptr<SnapshotBackend> make_none_backend(const std::string& node_directory, const ExcludeRules& excludes,
                                                   const BackendOptions& options, std::string reason) {
    if (options.preflight && !options.held && !options.accept_inconsistent) {
        if (const auto obstacle = find_obstacle(node_directory, excludes, kRemedy)) {
            throw Error::refused(obstacle->message, obstacle->hint);
        }
    }
    return std::make_unique<NoneBackend>(node_directory, excludes, options, std::move(reason));
}

}  // namespace nodesnap
