// The btrfs backend on real file systems, in all layouts.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <functional>
#include <memory>

#include "platform/btrfs.h"
#include "platform/error.h"
#include "platform/file.h"
#include "platform/mount.h"
#include "snapshot/backend/backend.h"
#include "tests/support/fault_hooks.h"
#include "tests/support/holder_process.h"
#include "tests/support/loop_mount.h"

namespace nodesnap {
namespace {

namespace fs = std::filesystem;

template <typename Function>
Error error_of(Function function) {
    try {
        function();
    } catch (const Error& error) {
        return error;
    }
    ADD_FAILURE() << "no error";
    return Error::failed("no error");
}

bool contains(const std::string& text, const std::string& part) {
    return text.find(part) != std::string::npos;
}

std::string read_at(int directory, const std::string& name) {
    const FileDescriptor file = open_at(directory, name, O_RDONLY);
    std::string content(100, '\0');
    content.resize(pread_some(file.get(), std::as_writable_bytes(std::span(content)), 0, name));
    return content;
}

class BtrfsBackendTest : public testing::Test {
protected:
    void SetUp() override {
        NODESNAP_NEEDS_LOOP_MOUNT("btrfs");
        mount_ = std::make_unique<test::LoopMount>("btrfs");
    }
    std::string operator/(const std::string& name) const { return *mount_ / name; }
    void subvolume(const std::string& path) {
        const fs::path made(path);
        btrfs::create_subvolume(open_path(made.parent_path(), O_RDONLY).get(), made.filename());
    }
    static std::unique_ptr<SnapshotBackend> choose(const std::string& node, std::vector<std::string> excludes = {},
                                                   const std::string& snapshot_directory = "") {
        BackendOptions options;
        options.snapshot_directory = snapshot_directory;
        return choose_backend(node, ExcludeRules(std::move(excludes)), options);
    }
    std::unique_ptr<test::LoopMount> mount_;
};

// Every layout: makes the node directory, says where its snapshots must be found.
struct LayoutCase {
    const char* name;
    Layout layout;
};

class LayoutTest : public BtrfsBackendTest, public testing::WithParamInterface<LayoutCase> {
protected:
    void SetUp() override {
        BtrfsBackendTest::SetUp();
        if (IsSkipped()) {
            return;
        }
        subvolume(*this / "sub");
        const std::string name = GetParam().name;
        if (name == "folder") {
            node_ = *this / "sub/deep/node";
            fs::create_directories(node_);
            folder_ = *this / "sub/.nodesnap";
        } else if (name == "folder_of_the_top_level") {
            node_ = *this / "node";
            fs::create_directories(node_);
            folder_ = *this / ".nodesnap";
        } else if (name == "subvolume") {
            subvolume(*this / "sub/node");
            node_ = *this / "sub/node";
            folder_ = *this / "sub/.nodesnap";
        } else if (name == "mounted_subvolume") {
            node_ = mount_->mount_again("subvol=sub");
            folder_ = *this / ".nodesnap";
        } else if (name == "folder_of_a_mounted_subvolume") {
            const std::string mounted = mount_->mount_again("subvol=sub");
            node_ = mounted + "/node";
            fs::create_directories(node_);
            folder_ = mounted + "/.nodesnap";
        } else {  // "mounted_folder"
            fs::create_directories(*this / "sub/deep/node");
            node_ = *this / "bound";
            fs::create_directories(node_);
            test::run({"mount", "--bind", *this / "sub/deep/node", node_});
            folder_ = *this / ".nodesnap";
        }
        write_file_durably(node_ + "/file", "before");
    }

    std::vector<std::string> stored() const {
        std::vector<std::string> names;
        if (fs::exists(folder_)) {
            for (const auto& entry : fs::directory_iterator(folder_)) {
                names.push_back(entry.path().filename());
            }
        }
        return names;
    }

    std::string node_;
    std::string folder_;
};

TEST_P(LayoutTest, SnapshotIsFrozenWhileTheNodeGoesOn) {
    const auto backend = choose(node_);
    EXPECT_EQ(backend->name(), "btrfs");
    EXPECT_EQ(backend->layout(), GetParam().layout);
    EXPECT_TRUE(contains(backend->reason(), "btrfs"));
    const auto snapshot = backend->create("one", false);
    write_file_durably(node_ + "/file", "after");
    write_file_durably(node_ + "/new", "x");
    EXPECT_EQ(read_at(snapshot->root(), "file"), "before");
    EXPECT_FALSE(stat_at(snapshot->root(), "new"));
    EXPECT_LT(::openat(snapshot->root(), "file", O_WRONLY), 0);
    EXPECT_GT(snapshot->duration_ns(), 0);
    EXPECT_GT(snapshot->taken_ns(), 1'500'000'000'000'000'000);
}

TEST_P(LayoutTest, SnapshotsAreKeptWhereDocumentedAndListed) {
    const auto backend = choose(node_);
    EXPECT_TRUE(backend->list().empty());
    EXPECT_FALSE(fs::exists(folder_)) << "choosing touches nothing";
    backend->create("one", false)->keep();
    backend->create("two", true)->keep();
    EXPECT_EQ(stored().size(), 2u);
    EXPECT_EQ(fs::status(folder_).permissions(), fs::perms::owner_all);
    const auto entries = backend->list();
    ASSERT_EQ(entries.size(), 2u);
    EXPECT_EQ(entries[0].name, "one");
    EXPECT_FALSE(entries[0].temporary);
    EXPECT_EQ(entries[1].name, "two");
    EXPECT_TRUE(entries[1].temporary);
    EXPECT_GT(entries[0].created_ns, 1'500'000'000'000'000'000);
    EXPECT_TRUE(contains(entries[0].path, "/.nodesnap/"));

    EXPECT_EQ(choose(node_)->list().size(), 2u) << "another run finds them";
    backend->remove("one");
    backend->remove("two");
    EXPECT_TRUE(backend->list().empty());
    EXPECT_TRUE(stored().empty());
    EXPECT_TRUE(contains(error_of([&] { backend->remove("one"); }).message(), "one"));
}

TEST_P(LayoutTest, SnapshotGoesWithItsOwnerUnlessKept) {
    const auto backend = choose(node_);
    { const auto dropped = backend->create("dropped", true); }
    EXPECT_TRUE(stored().empty());
    const auto removed = backend->create("removed", true);
    removed->remove();
    removed->remove();
    EXPECT_TRUE(stored().empty());
}

TEST_P(LayoutTest, ProofNamesTheVerySnapshot) {
    const auto backend = choose(node_);
    const auto snapshot = backend->create("one", true);
    const SnapshotProof proof = snapshot->proof();
    EXPECT_EQ(proof.backend, "btrfs");
    EXPECT_EQ(proof.path, snapshot->entry().path);
    EXPECT_EQ(proof.file_system_uuid, backend->file_system_uuid());
    EXPECT_TRUE(proof.read_only);
    ASSERT_EQ(stored().size(), 1u);
    const auto info = btrfs::subvolume_info(open_path(folder_ + "/" + stored()[0], O_RDONLY).get());
    EXPECT_EQ(proof.subvolume_uuid.bytes, info.uuid);
    EXPECT_EQ(proof.otransid, info.otransid);
    EXPECT_EQ(proof.ctransid, info.ctransid);
    EXPECT_FALSE(proof.subvolume_uuid == backend->create("two", true)->proof().subvolume_uuid);
}

TEST_P(LayoutTest, LeftSnapshotIsRemovedByItsRecordedPath) {
    const auto backend = choose(node_);
    const auto left = backend->create("left", true);
    left->keep();
    ASSERT_EQ(stored().size(), 1u);
    remove_left_snapshot("none", left->entry().path);
    EXPECT_EQ(stored().size(), 1u);
    remove_left_snapshot("btrfs", left->entry().path);
    EXPECT_TRUE(stored().empty());
    remove_left_snapshot("btrfs", left->entry().path);  // gone already
}

TEST_P(LayoutTest, NestedSubvolumeIsRefusedUnlessExcluded) {
    fs::create_directories(node_ + "/data");
    subvolume(node_ + "/data/cache");
    subvolume(node_ + "/[odd");
    const Error error = error_of([&] { choose(node_); });
    EXPECT_EQ(error.status(), ExitStatus::kRefused);
    EXPECT_TRUE(contains(error.message(), "data/cache/")) << error.message();
    EXPECT_TRUE(contains(error.message(), "[odd/")) << error.message();
    EXPECT_TRUE(contains(error.hint(), "--exclude /data/cache")) << error.hint();
    EXPECT_TRUE(contains(error.hint(), "--exclude '/\\[odd")) << error.hint();
    EXPECT_THROW(choose(node_, {"data/cache"}), Error);
    const auto snapshot = choose(node_, {"/data", "\\[odd"})->create("one", true);
    EXPECT_EQ(read_at(snapshot->root(), "file"), "before");
}

TEST_P(LayoutTest, MountBelowIsRefusedUnlessExcluded) {
    fs::create_directories(node_ + "/data/log");
    test::run({"mount", "-t", "tmpfs", "tmpfs", node_ + "/data/log"});
    const Error error = error_of([&] { choose(node_); });
    EXPECT_EQ(error.status(), ExitStatus::kRefused);
    EXPECT_TRUE(contains(error.message(), "mount at data/log/")) << error.message();
    EXPECT_TRUE(contains(error.hint(), "--exclude /data/log")) << error.hint();
    EXPECT_NO_THROW(choose(node_, {"log"})->create("one", true));
    test::run({"umount", node_ + "/data/log"});
}

TEST_P(LayoutTest, SubvolumeMadeAfterThePreflightIsRefused) {
    const auto backend = choose(node_);
    subvolume(node_ + "/late");
    EXPECT_EQ(error_of([&] { backend->create("one", true); }).status(), ExitStatus::kRefused);
    EXPECT_TRUE(stored().empty());
}

TEST_P(LayoutTest, FailureAtAnyPointLeavesNoSnapshot) {
    for (std::uint64_t n = 1;; ++n) {
        const auto backend = choose(node_);
        test::FaultHooks hooks;
        hooks.fail_nth(n);
        std::unique_ptr<Snapshot> snapshot;
        try {
            snapshot = backend->create("one", true);
        } catch (const Error&) {
        }
        const bool fired = hooks.injected() != 0;
        hooks.stop_failing();
        if (snapshot) {
            snapshot->remove();
        }
        EXPECT_TRUE(backend->list().empty()) << n;
        if (!fired) {
            EXPECT_GT(n, 8u);
            break;
        }
    }
}

INSTANTIATE_TEST_SUITE_P(Btrfs, LayoutTest,
                         testing::Values(LayoutCase{"folder", Layout::kFolder}, LayoutCase{"folder_of_the_top_level", Layout::kFolder},
                                         LayoutCase{"subvolume", Layout::kSubvolume}, LayoutCase{"mounted_subvolume", Layout::kMountRoot},
                                         LayoutCase{"folder_of_a_mounted_subvolume", Layout::kFolder},
                                         LayoutCase{"mounted_folder", Layout::kMountRoot}),
                         [](const auto& layout_case) { return std::string(layout_case.param.name); });

TEST_F(BtrfsBackendTest, TopLevelAsNodeIsRefusedWithTheRemedy) {
    const Error error = error_of([&] { choose(mount_->path()); });
    EXPECT_EQ(error.status(), ExitStatus::kRefused);
    EXPECT_TRUE(contains(error.hint(), "--snapshot-dir")) << error.hint();
    // The remedy works.
    write_file_durably(*this / "file", "x");
    const auto backend = choose(mount_->path(), {"/.nodesnap"}, *this / ".nodesnap");
    const auto snapshot = backend->create("one", true);
    EXPECT_EQ(read_at(snapshot->root(), "file"), "x");
    EXPECT_EQ(backend->list().size(), 1u);
    EXPECT_NO_THROW(choose(mount_->path(), {"/.nodesnap"}, *this / ".nodesnap")) << "its own snapshots aren't in the way";
}

TEST_F(BtrfsBackendTest, NamedSnapshotDirectoryIsUsed) {
    subvolume(*this / "node");
    write_file_durably(*this / "node/file", "x");
    fs::create_directory(*this / "shared");
    const std::string odd = *this / "shared/o d\xff";
    const auto backend = choose(*this / "node", {}, odd + "/");
    const auto snapshot = backend->create("one", true);
    EXPECT_EQ(snapshot->entry().path.substr(0, odd.size() + 1), odd + "/");
    EXPECT_TRUE(fs::exists(snapshot->entry().path + "/file"));
    EXPECT_EQ(fs::status(odd).permissions(), fs::perms::owner_all);
    EXPECT_FALSE(fs::exists(*this / ".nodesnap"));
    snapshot->keep();
    remove_left_snapshot("btrfs", snapshot->entry().path);
    EXPECT_TRUE(backend->list().empty());
}

TEST_F(BtrfsBackendTest, SnapshotDirectoryInTheWrongPlaceIsRefused) {
    subvolume(*this / "node");
    fs::create_directories(*this / "node/inside");
    EXPECT_EQ(error_of([&] { choose(*this / "node", {}, "/dev/shm"); }).status(), ExitStatus::kRefused);
    EXPECT_EQ(error_of([&] { choose(*this / "node", {}, *this / "node"); }).status(), ExitStatus::kRefused);
    const Error inside = error_of([&] { choose(*this / "node", {}, *this / "node/inside/new"); });
    EXPECT_EQ(inside.status(), ExitStatus::kRefused);
    EXPECT_TRUE(contains(inside.hint(), "--exclude /inside/new")) << inside.hint();
    EXPECT_NO_THROW(choose(*this / "node", {"inside"}, *this / "node/inside/new")->create("one", true));
    const test::LoopMount other("btrfs");
    EXPECT_EQ(error_of([&] { choose(*this / "node", {}, other.path()); }).status(), ExitStatus::kRefused);
}

TEST_F(BtrfsBackendTest, FolderOfAnotherUserOrASymlinkIsNotUsed) {
    subvolume(*this / "node");
    fs::create_directory(*this / "elsewhere");
    fs::create_directory_symlink("elsewhere", *this / ".nodesnap");
    EXPECT_THROW(choose(*this / "node")->create("one", true), Error);
    EXPECT_TRUE(fs::is_empty(*this / "elsewhere"));
    fs::remove(*this / ".nodesnap");
    fs::create_directory(*this / ".nodesnap");
    ASSERT_EQ(::chown((*this / ".nodesnap").c_str(), 4711, 4711), 0);
    EXPECT_EQ(error_of([&] { choose(*this / "node")->create("one", true); }).status(), ExitStatus::kRefused);
}

TEST_F(BtrfsBackendTest, NodesShareAFolderWithoutMixing) {
    subvolume(*this / "a");
    subvolume(*this / "a/node");
    subvolume(*this / "b");
    subvolume(*this / "b/node");
    const auto a = choose(*this / "a/node", {}, *this / "shared");
    const auto b = choose(*this / "b/node", {}, *this / "shared");
    a->create("same", false)->keep();
    b->create("same", false)->keep();
    EXPECT_EQ(a->list().size(), 1u);
    a->remove("same");
    EXPECT_TRUE(a->list().empty());
    EXPECT_EQ(b->list().size(), 1u);
}

TEST_F(BtrfsBackendTest, OddNamesWork) {
    const std::string node = *this / (std::string("\xff\n *[") + std::string(240, 'x'));
    subvolume(node);
    write_file_durably(node + "/file", "x");
    const auto backend = choose(node);
    const std::string longest(200, 'n');
    const auto snapshot = backend->create(longest, true);
    EXPECT_EQ(read_at(snapshot->root(), "file"), "x");
    ASSERT_EQ(backend->list().size(), 1u);
    EXPECT_EQ(backend->list()[0].name, longest);
    backend->create("name with spaces \xfe.1", false)->keep();
    EXPECT_EQ(backend->list().size(), 2u);
    for (const std::string& bad : {std::string(), std::string("a/b"), std::string("x.tmp"), std::string("a\nb"), std::string(201, 'x')}) {
        EXPECT_EQ(error_of([&] { backend->create(bad, false); }).status(), ExitStatus::kUsage) << bad;
    }
}

TEST_F(BtrfsBackendTest, NameInUseIsRefused) {
    subvolume(*this / "node");
    const auto backend = choose(*this / "node");
    backend->create("one", false)->keep();
    EXPECT_EQ(error_of([&] { backend->create("one", false); }).status(), ExitStatus::kRefused);
    EXPECT_EQ(error_of([&] { backend->create("one", true); }).status(), ExitStatus::kRefused);
    EXPECT_EQ(backend->list().size(), 1u);
}

TEST_F(BtrfsBackendTest, ConsistencyTellsWhetherTheNodeWasInUse) {
    subvolume(*this / "node");
    write_file_durably(*this / "node/file", "x");
    const auto backend = choose(*this / "node");
    EXPECT_EQ(backend->create("one", true)->consistency(), Consistency::kPointInTime);
    const test::HolderProcess daemon([&] { return ::open((*this / "node/file").c_str(), O_RDWR) >= 0; });
    EXPECT_EQ(backend->create("two", true)->consistency(), Consistency::kCrashConsistent);
}

TEST_F(BtrfsBackendTest, WhatIsNoSnapshotOfOursIsNeverRemoved) {
    subvolume(*this / "node");
    write_file_durably(*this / "node/file", "x");
    const auto backend = choose(*this / "node");
    const auto snapshot = backend->create("one", true);
    const std::string path = snapshot->entry().path;
    snapshot->keep();
    const std::string folder = *this / ".nodesnap";
    const FileDescriptor top = open_path(mount_->path(), O_RDONLY);
    const FileDescriptor kept = open_path(folder, O_RDONLY);

    // Writable: an operator has taken it over.
    btrfs::set_read_only(open_path(path, O_RDONLY).get(), false);
    remove_left_snapshot("btrfs", path);
    EXPECT_TRUE(fs::exists(path));
    EXPECT_TRUE(backend->list().empty());
    EXPECT_THROW(backend->remove("one"), Error);
    btrfs::set_read_only(open_path(path, O_RDONLY).get(), true);

    // Read-only, but not ours, by its name or by its place.
    btrfs::create_snapshot(open_path(*this / "node", O_RDONLY).get(), top.get(), "production", true);
    btrfs::create_snapshot(open_path(*this / "node", O_RDONLY).get(), top.get(), "node-0123abcd.kept", true);
    btrfs::create_snapshot(open_path(*this / "node", O_RDONLY).get(), kept.get(), "mine", true);
    for (const std::string& other : {*this / "production", *this / "node-0123abcd.kept", folder + "/mine", *this / "node",
                                     *this / ".nodesnap/../production", *this / ".nodesnap", *this / "node/file"}) {
        remove_left_snapshot("btrfs", other);
        EXPECT_TRUE(fs::exists(other)) << other;
    }
    const std::string uuid = backend->file_system_uuid();
    for (const std::string& hostile :
         {std::string(), std::string("/"), std::string("x"), std::string("btrfs:"), "btrfs:" + uuid, "btrfs:" + uuid + "/production",
          "btrfs:" + uuid + "/x/../production", std::string("btrfs:none/.nodesnap/node-0123abcd.x.tmp"),
          std::string("/nothing/.nodesnap/node-0123abcd.x.tmp"), std::string("relative/node-0123abcd.x.tmp")}) {
        EXPECT_NO_THROW(remove_left_snapshot("btrfs", hostile)) << hostile;
    }
    // By way of the top level it is the same one.
    remove_left_snapshot("btrfs", "btrfs:" + uuid + "/.nodesnap/" + fs::path(path).filename().string());
    EXPECT_FALSE(fs::exists(path));
}

TEST_F(BtrfsBackendTest, RemovedSnapshotStaysRemovedAfterAPowerCut) {
    mount_->remount("commit=300");
    subvolume(*this / "node");
    const auto backend = choose(*this / "node");
    // What is there after a power cut: the last committed state, as it lies on the device.
    const auto survives = [&](const std::string& name) {
        const std::string image = fs::path(mount_->path()).parent_path() / "image";
        return contains(test::run({"btrfs", "inspect-internal", "dump-tree", "-t", "root", image}), name);
    };
    const auto removed_for_good = [&](const std::string& name, const std::function<void(Snapshot&)>& remove) {
        const auto snapshot = backend->create(name, true);
        EXPECT_TRUE(survives("." + name + ".tmp"));
        snapshot->keep();
        remove(*snapshot);
        EXPECT_FALSE(survives("." + name + ".tmp")) << name;
        EXPECT_TRUE(backend->list().empty());
    };
    removed_for_good("own", [](Snapshot& snapshot) { snapshot.remove(); });
    {
        backend->create("by-name", true)->keep();
        backend->remove("by-name");
        EXPECT_FALSE(survives(".by-name.tmp"));
    }
    removed_for_good("temporary", [&](Snapshot&) { backend->remove_temporary("temporary"); });
    removed_for_good("by-path", [](Snapshot& snapshot) { EXPECT_TRUE(remove_left_snapshot("btrfs", snapshot.entry().path)); });
    // Who deleted it failed or died before that was durable: whoever looks next makes it so.
    const auto fails_first = [&](const std::function<void()>& remove) {
        test::FaultHooks hooks;
        hooks.fail_nth(1, EIO, false, "btrfs_commit");
        EXPECT_EQ(error_of(remove).error_number(), EIO);
        hooks.stop_failing();
        remove();
    };
    removed_for_good("own-again", [&](Snapshot& snapshot) { fails_first([&] { snapshot.remove(); }); });
    removed_for_good("temporary-again", [&](Snapshot&) { fails_first([&] { backend->remove_temporary("temporary-again"); }); });
    removed_for_good("by-path-again",
                     [&](Snapshot& snapshot) { fails_first([&] { remove_left_snapshot("btrfs", snapshot.entry().path); }); });
}

TEST_F(BtrfsBackendTest, LeftSnapshotOfAnUnmountedFileSystemIsOutOfReach) {
    EXPECT_FALSE(remove_left_snapshot("btrfs", "btrfs:00112233-4455-6677-8899-aabbccddeeff/.nodesnap/node-0123abcd.x.tmp"));
    EXPECT_FALSE(remove_left_snapshot("btrfs", *this / "nothing/.nodesnap/node-0123abcd.x.tmp"));
    EXPECT_FALSE(remove_left_snapshot("btrfs", "/proc/node-0123abcd.x.tmp"));
    EXPECT_TRUE(remove_left_snapshot("btrfs", *this / "node-0123abcd.x.tmp"));
    EXPECT_TRUE(remove_left_snapshot("none", ""));
}

TEST_F(BtrfsBackendTest, ListingNeedsNoPreflight) {
    subvolume(*this / "node");
    choose(*this / "node")->create("one", false)->keep();
    subvolume(*this / "node/nested");
    EXPECT_THROW(choose(*this / "node"), Error);
    BackendOptions options;
    options.preflight = false;
    EXPECT_EQ(choose_backend(*this / "node", ExcludeRules(), options)->list().size(), 1u);
}

TEST_F(BtrfsBackendTest, ListingFindsSnapshotsInsideTheNode) {
    const std::string inside = *this / ".nodesnap";
    choose(mount_->path(), {"/.nodesnap"}, inside)->create("one", false)->keep();
    for (const std::string& directory : {std::string(), inside}) {
        BackendOptions options;
        options.preflight = false;
        options.snapshot_directory = directory;
        EXPECT_EQ(choose_backend(mount_->path(), ExcludeRules(), options)->list().size(), 1u) << directory;
    }
}

TEST_F(BtrfsBackendTest, PrivateMountLeavesNothingBehind) {
    subvolume(*this / "sub");
    const std::string node = mount_->mount_again("subvol=sub");
    const auto mounts = [this] {  // of this file system: other tests run beside this one
        const auto all = list_mounts();
        return std::count_if(all.begin(), all.end(), [this](const Mount& mount) { return mount.source == mount_->device(); });
    };
    EXPECT_EQ(mounts(), 2);
    const auto snapshot = choose(node)->create("one", true);  // outlives its backend
    EXPECT_EQ(mounts(), 2);
    EXPECT_TRUE(fs::exists(*this / ".nodesnap"));
    snapshot->remove();
    EXPECT_TRUE(fs::is_empty(*this / ".nodesnap"));
}

}  // namespace
}  // namespace nodesnap
