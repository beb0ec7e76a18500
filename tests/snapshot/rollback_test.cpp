// Rolling back on real file systems: what is refused for what the system's files say, and what any failing operation leaves. The rest is
// tested end to end.
#include "snapshot/rollback.h"

#include <fcntl.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "platform/btrfs.h"
#include "platform/error.h"
#include "platform/file.h"
#include "platform/mount.h"
#include "platform/mount_exchange.h"
#include "snapshot/backend/backend.h"
#include "snapshot/backend/btrfs_rollback.h"
#include "snapshot/backend/snapshot_name.h"
#include "tests/support/fault_hooks.h"
#include "tests/support/holder_process.h"
#include "tests/support/loop_mount.h"

namespace nodesnap {
namespace {

namespace fs = std::filesystem;

constexpr std::int64_t kSecondNs = 1'000'000'000;

TEST(RollbackName, HoldsTheTime) {
    const std::int64_t time = std::int64_t{1'717'165'805} * kSecondNs;  // 2024-05-31 14:30:05
    EXPECT_EQ(before_rollback_name(time), "before-rollback-20240531T143005Z");
    EXPECT_EQ(rolled_back_at("before-rollback-20240531T143005Z"), time);
    EXPECT_EQ(rolled_back_at("before-rollback-20240531T143005Z-2"), time);
    for (const char* other : {"", "before-rollback-", "before-rollback-20240531T143005", "before-rollback-2024053100143005Z",
                              "before-rollback-20240231T143005Z", "20240531T143005Z", "before-upgrade"}) {
        EXPECT_FALSE(rolled_back_at(other)) << other;
    }
    const SnapshotNaming naming("/data/node");
    EXPECT_FALSE(naming.parse(naming.rollback_directory()));
    EXPECT_NE(naming.rollback_directory(), SnapshotNaming("/other/node").rollback_directory());
}

class RollbackTest : public testing::TestWithParam<bool> {
protected:
    void SetUp() override {
        NODESNAP_NEEDS_LOOP_MOUNT("btrfs");
        mount_ = std::make_unique<test::LoopMount>("btrfs");
        btrfs::create_subvolume(open_path(mount_->path(), O_RDONLY).get(), "node");
        node_ = GetParam() ? mount_->mount_again("subvol=node,noatime,nosuid") : *mount_ / "node";
        write("before");
        BackendOptions options;
        choose_backend(node_, ExcludeRules(), options)->create("first", false)->keep();
        write("after");
    }

    void write(const std::string& text) { write_file_durably(node_ + "/file", text); }
    std::string read() { return read_small_file(node_ + "/file").value_or("nothing"); }
    RollbackOptions options() const {
        RollbackOptions options;
        options.node_directory = node_;
        options.snapshot = "first";
        return options;
    }
    std::vector<SnapshotEntry> list() {
        BackendOptions options;
        options.preflight = false;
        return choose_backend(node_, ExcludeRules(), options)->list();
    }
    void expect_refused(const RollbackOptions& refused, const std::string& part) {
        try {
            run_rollback(refused, progress_, report_);
            ADD_FAILURE() << "not refused";
        } catch (const Error& error) {
            EXPECT_EQ(error.status(), ExitStatus::kRefused);
            EXPECT_NE(error.message().find(part), std::string::npos) << error.message();
            EXPECT_NE(error.hint(), "");
        }
        EXPECT_EQ(read(), "after");
        EXPECT_EQ(list().size(), 1U);
    }

    std::unique_ptr<test::LoopMount> mount_;
    std::string node_;
    Progress progress_;
    Report report_;
};

TEST_P(RollbackTest, WhatWasThereIsKept) {
    const RollbackResult result = run_rollback(options(), progress_, report_);
    EXPECT_EQ(report_.count(), 0U);
    EXPECT_EQ(read(), "before");
    EXPECT_NE(result.subvolume, result.replaced_subvolume);
    const auto entries = list();
    ASSERT_EQ(entries.size(), 2U);
    const auto kept = std::find_if(entries.begin(), entries.end(), [](const SnapshotEntry& entry) { return rolled_back_at(entry.name); });
    ASSERT_NE(kept, entries.end());
    EXPECT_EQ(kept->name, result.kept_as);
    EXPECT_EQ(kept->path, result.kept_path);
    EXPECT_EQ(read_small_file(*mount_ / (".nodesnap/" + fs::path(result.kept_path).filename().string() + "/file")), "after");
    write("new");
    EXPECT_EQ(read_small_file(*mount_ / "node/file"), "new") << "the mount and the name show different subvolumes";
}

TEST_P(RollbackTest, AMountByNumberIsRefused) {
    RollbackOptions by_number = options();
    by_number.fstab = *mount_ / "fstab";
    write_file_durably(by_number.fstab, "# a comment\n/dev/sdx " + node_ + " btrfs noatime,subvolid=256 0 0\n");
    expect_refused(by_number, "subvolid");
    write_file_durably(by_number.fstab, "/dev/sdx /elsewhere btrfs subvolid=256 0 0\n/dev/sdx " + node_ + " btrfs subvol=node 0 0\n");
    run_rollback(by_number, progress_, report_);
    EXPECT_EQ(read(), "before");
}

TEST_P(RollbackTest, WhoComesAtTheLastMomentIsNoticed) {
    std::unique_ptr<test::HolderProcess> late;
    test::FaultHooks hooks;
    hooks.on_each_step([&](const std::string& step) {
        if (step == "rollback.cloned") {
            late = std::make_unique<test::HolderProcess>([&] { return ::open((node_ + "/file").c_str(), O_RDONLY) >= 0; });
        }
    });
    EXPECT_THROW(run_rollback(options(), progress_, report_), Error);
    EXPECT_EQ(read(), "after");
    EXPECT_EQ(list().size(), 1U);
    EXPECT_FALSE(fs::exists(*mount_ / (".nodesnap/" + SnapshotNaming(node_).rollback_directory())));
}

// Whatever fails, once: the directory is the one or the other, whole, and what is left is cleared up by the next.
TEST_P(RollbackTest, FailureAtAnyPointLeavesTheOneOrTheOther) {
    bool fired = true;
    int failed = 0;
    for (std::uint64_t nth = 1; fired; ++nth) {
        write("after");
        const std::size_t kept_before = list().size();
        bool thrown = false;
        {
            test::FaultHooks hooks;
            hooks.fail_nth(nth);
            try {
                Report report;
                run_rollback(options(), progress_, report);
            } catch (const Error&) {
                thrown = true;
                ++failed;
            }
            fired = hooks.injected() != 0;
        }
        Report report;
        finish_rollback(node_, "", report);
        const std::string content = read();
        EXPECT_TRUE(content == "before" || (thrown && content == "after")) << nth << ": " << content;
        EXPECT_EQ(is_mount_root(node_), GetParam()) << nth;
        const auto entries = list();
        EXPECT_EQ(entries.size(), kept_before + (content == "before" ? 1 : 0)) << nth;
        EXPECT_FALSE(fs::exists(*mount_ / (".nodesnap/" + SnapshotNaming(node_).rollback_directory()))) << nth;
        for (const SnapshotEntry& entry : entries) {
            if (rolled_back_at(entry.name)) {
                BackendOptions options;
                options.preflight = false;
                choose_backend(node_, ExcludeRules(), options)->remove(entry.name);
            }
        }
    }
    EXPECT_GT(failed, 20);
}

INSTANTIATE_TEST_SUITE_P(Layouts, RollbackTest, testing::Bool(),
                         [](const auto& mounted) { return std::string(mounted.param ? "MountedSubvolume" : "Subvolume"); });

TEST(MountExchange, AttributesAreThoseOfTheMount) {
    NODESNAP_NEEDS_LOOP_MOUNT("btrfs");
    test::LoopMount mount("btrfs");
    btrfs::create_subvolume(open_path(mount.path(), O_RDONLY).get(), "a");
    btrfs::create_subvolume(open_path(mount.path(), O_RDONLY).get(), "b");
    const std::uint64_t b = btrfs::subvolume_info(open_path(mount / "b", O_RDONLY).get()).id;
    for (const char* options : {"noatime,nosuid,nodev,noexec", "relatime", "strictatime,nodiratime", "ro,nosymfollow"}) {
        const std::string point = mount.mount_again(std::string("subvol=a,") + options);
        const Mount before = mount_of(point);
        EXPECT_FALSE(mount_in_use(point));
        EXPECT_FALSE(mount_in_use(point)) << "it isn't unmounted by that";
        {
            const FileDescriptor open = open_path(point, O_RDONLY);
            EXPECT_TRUE(mount_in_use(point));
        }
        exchange_mount(btrfs::open_mount(point, b, mount_attributes(before)).get(), point);
        const Mount after = mount_of(point);
        EXPECT_EQ(before.root, "/a");
        EXPECT_EQ(after.root, "/b");
        EXPECT_EQ(after.options, before.options);
        EXPECT_NE(after.id, before.id);
        test::run({"umount", point});
        EXPECT_FALSE(is_mount_root(point)) << "something was left beneath";
    }
}

}  // namespace
}  // namespace nodesnap
