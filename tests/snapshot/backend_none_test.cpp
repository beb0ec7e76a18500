// The backend without snapshots, and how a backend is chosen.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <memory>

#include "platform/btrfs.h"
#include "platform/error.h"
#include "platform/file.h"
#include "snapshot/backend/backend.h"
#include "tests/support/holder_process.h"
#include "tests/support/loop_mount.h"

namespace nodesnap {
namespace {

namespace fs = std::filesystem;
using test::HolderProcess;

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

BackendOptions kind(const std::string& name, bool accept_inconsistent = false) {
    BackendOptions options;
    options.kind = name;
    options.accept_inconsistent = accept_inconsistent;
    return options;
}

class NoneBackendTest : public testing::Test {
protected:
    void SetUp() override {
        if (::geteuid() != 0) {
            GTEST_SKIP() << "needs root to see other users' processes";
        }
        fs::create_directories(node_);
        write_file_durably(node_ + "/file", "x");
    }
    HolderProcess hold(int flags) const {
        return HolderProcess([this, flags] { return ::open((node_ + "/file").c_str(), flags) >= 0; });
    }
    test::ScratchDirectory scratch_;
    std::string node_ = scratch_ / "node";
};

TEST_F(NoneBackendTest, ReadsTheDirectoryItself) {
    const auto backend = choose_backend(node_, ExcludeRules(), kind("none"));
    EXPECT_EQ(backend->name(), "none");
    EXPECT_EQ(backend->layout(), Layout::kFolder);
    EXPECT_FALSE(backend->file_system_uuid().empty());
    const auto snapshot = backend->create("one", true);
    EXPECT_EQ(stat_fd(snapshot->root()).stx_ino, stat_path(node_)->stx_ino);
    EXPECT_EQ(snapshot->consistency(), Consistency::kPointInTime);
    EXPECT_EQ(snapshot->proof().backend, "none");
    EXPECT_TRUE(snapshot->entry().path.empty());
    EXPECT_TRUE(backend->list().empty());
    EXPECT_THROW(backend->remove("one"), Error);
    snapshot->remove();
    EXPECT_TRUE(fs::exists(node_ + "/file"));
}

TEST_F(NoneBackendTest, DirectoryInUseIsRefusedUnlessAccepted) {
    const auto writer = hold(O_RDWR);
    const Error error = error_of([&] { choose_backend(node_, ExcludeRules(), kind("none")); });
    EXPECT_EQ(error.status(), ExitStatus::kRefused);
    EXPECT_TRUE(contains(error.message(), node_ + "/file")) << error.message();
    EXPECT_TRUE(contains(error.message(), std::to_string(writer.pid()))) << error.message();
    EXPECT_TRUE(contains(error.hint(), "stop the daemon")) << error.hint();
    const auto accepted = choose_backend(node_, ExcludeRules(), kind("none", true))->create("one", true);
    EXPECT_EQ(accepted->consistency(), Consistency::kInconsistent);
}

TEST_F(NoneBackendTest, ReadersAndExcludedFilesAreNoObstacle) {
    const auto reader = hold(O_RDONLY);
    EXPECT_EQ(choose_backend(node_, ExcludeRules(), kind("none"))->create("one", true)->consistency(), Consistency::kPointInTime);
    const auto writer = hold(O_WRONLY);
    EXPECT_EQ(choose_backend(node_, ExcludeRules({"file"}), kind("none"))->create("one", true)->consistency(), Consistency::kPointInTime);
}

TEST_F(NoneBackendTest, DaemonThatStartsMeanwhileIsNoticed) {
    const auto snapshot = choose_backend(node_, ExcludeRules(), kind("none"))->create("one", true);
    const auto accepted = choose_backend(node_, ExcludeRules(), kind("none", true))->create("two", true);
    EXPECT_EQ(accepted->consistency(), Consistency::kPointInTime);
    const auto writer = hold(O_RDWR);
    EXPECT_TRUE(contains(error_of([&] { snapshot->consistency(); }).message(), "in use"));
    EXPECT_EQ(accepted->consistency(), Consistency::kInconsistent);
}

TEST_F(NoneBackendTest, MountBelowIsRefusedUnlessExcluded) {
    fs::create_directories(node_ + "/log");
    test::run({"mount", "-t", "tmpfs", "tmpfs", node_ + "/log"});
    EXPECT_EQ(error_of([&] { choose_backend(node_, ExcludeRules(), kind("none")); }).status(), ExitStatus::kRefused);
    EXPECT_NO_THROW(choose_backend(node_, ExcludeRules({"log/"}), kind("none")));
    test::run({"umount", node_ + "/log"});
}

TEST_F(NoneBackendTest, SymlinkToTheNodeIsFollowed) {
    fs::create_directory_symlink("node", scratch_ / "link");
    const auto snapshot = choose_backend(scratch_ / "link", ExcludeRules(), kind("none"))->create("one", true);
    EXPECT_TRUE(stat_at(snapshot->root(), "file"));
}

TEST_F(NoneBackendTest, WhatIsNoDirectoryIsRefused) {
    for (const std::string& path : {scratch_ / "nothing", node_ + "/file", std::string()}) {
        EXPECT_EQ(error_of([&] { choose_backend(path, ExcludeRules(), kind("auto")); }).status(), ExitStatus::kRefused) << path;
    }
    EXPECT_EQ(error_of([&] { choose_backend(node_, ExcludeRules(), kind("zfs")); }).status(), ExitStatus::kUsage);
}

TEST(ChooseBackend, AutoTakesWhatTheFileSystemOffersAndSaysWhy) {
    NODESNAP_NEEDS_LOOP_MOUNT("btrfs");
    const test::LoopMount btrfs("btrfs");
    const test::LoopMount ext4("ext4", 64 << 20);
    fs::create_directory(btrfs / "node");
    fs::create_directory(ext4 / "node");
    const auto on_btrfs = choose_backend(btrfs / "node", ExcludeRules(), kind("auto"));
    EXPECT_EQ(on_btrfs->name(), "btrfs");
    EXPECT_TRUE(contains(on_btrfs->reason(), "btrfs"));
    const auto on_ext4 = choose_backend(ext4 / "node", ExcludeRules(), kind("auto"));
    EXPECT_EQ(on_ext4->name(), "none");
    EXPECT_TRUE(contains(on_ext4->reason(), "ext4"));
    EXPECT_EQ(choose_backend(ext4.path(), ExcludeRules(), kind("auto"))->layout(), Layout::kMountRoot);
    EXPECT_EQ(choose_backend(btrfs / "node", ExcludeRules(), kind("none"))->name(), "none");
    EXPECT_EQ(error_of([&] { choose_backend(ext4 / "node", ExcludeRules(), kind("btrfs")); }).status(), ExitStatus::kRefused);
}

TEST(ChooseBackend, LayoutsHaveNames) {
    EXPECT_EQ(to_string(Layout::kFolder), "folder");
    EXPECT_EQ(to_string(Layout::kSubvolume), "subvolume");
    EXPECT_EQ(to_string(Layout::kMountRoot), "mounted subvolume");
}

}  // namespace
}  // namespace nodesnap
