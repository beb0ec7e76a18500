#include "platform/path_below.h"

#include <gtest/gtest.h>

#include <filesystem>

#include "platform/btrfs.h"
#include "platform/error.h"
#include "platform/file.h"
#include "tests/support/loop_mount.h"

namespace nodesnap {
namespace {

namespace fs = std::filesystem;
using Found = std::optional<std::string>;

TEST(PathBelow, TellsTheWayDown) {
    const test::ScratchDirectory scratch;
    fs::create_directories(scratch / "a/b/c");
    fs::create_directories(scratch / "ab");
    fs::create_directory_symlink(scratch / "a/b", scratch / "link");
    EXPECT_EQ(path_below(scratch / "a/b/c", scratch / "a"), Found("b/c"));
    EXPECT_EQ(path_below(scratch / "a/b/../b/", scratch / "a/b"), Found(""));
    EXPECT_EQ(path_below(scratch / "link/c", scratch / "a"), Found("b/c"));
    EXPECT_EQ(path_below(scratch / "a/b/c", scratch / "link"), Found("c"));
    EXPECT_EQ(path_below(scratch / "ab", scratch / "a"), Found());
    EXPECT_EQ(path_below(scratch / "a", scratch / "a/b"), Found());
    EXPECT_EQ(path_below(scratch / "a", "/"), Found((scratch / "a").substr(1)));
    EXPECT_EQ(path_below("/", "/"), Found(""));
    EXPECT_EQ(path_below("/", scratch / "a"), Found());
    EXPECT_THROW(path_below(scratch / "nothing", scratch / "a"), Error);
}

// Each bind mount shows what lies elsewhere; the device mounted a second time, too.
TEST(PathBelow, SeesThroughMounts) {
    NODESNAP_NEEDS_LOOP_MOUNT("btrfs");
    test::LoopMount mount("btrfs");
    btrfs::create_subvolume(open_path(mount.path(), O_RDONLY).get(), "sub");
    fs::create_directories(mount / "sub/node/deep/repository");
    const test::ScratchDirectory elsewhere;
    fs::create_directories(elsewhere / "node");
    fs::create_directories(elsewhere / "repository");
    test::run({"mount", "--bind", mount / "sub/node", elsewhere / "node"});
    test::run({"mount", "--bind", mount / "sub/node/deep/repository", elsewhere / "repository"});
    const std::string again = mount.mount_again("subvol=sub");
    for (const std::string& node : {mount / "sub/node", elsewhere / "node", again + "/node"}) {
        for (const std::string& inner : {mount / "sub/node/deep/repository", elsewhere / "node/deep/repository", elsewhere / "repository",
                                         again + "/node/deep/repository"}) {
            EXPECT_EQ(path_below(inner, node), Found("deep/repository")) << inner << " in " << node;
            EXPECT_EQ(path_below(node, inner), Found()) << node << " in " << inner;
        }
    }
    EXPECT_EQ(path_below(elsewhere / "repository", elsewhere.path()), Found("repository"));
    EXPECT_EQ(path_below(elsewhere / "repository", mount.path()), Found("sub/node/deep/repository"));
    test::run({"umount", elsewhere / "node"});
    test::run({"umount", elsewhere / "repository"});
}

}  // namespace
}  // namespace nodesnap
