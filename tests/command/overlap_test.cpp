// Node directories, repositories and destinations inside each other.
#include "platform/btrfs.h"
#include "platform/file.h"
#include "tests/command/program_fixture.h"

namespace nodesnap {
namespace {

namespace fs = std::filesystem;
using test::Outcome;

bool has(const std::string& text, const std::string& part) {
    return text.find(part) != std::string::npos;
}

class Overlap : public test::ProgramTest {
protected:
    Outcome backup_of(const std::string& node, const std::string& repository, const std::vector<std::string>& more = {}) {
        std::vector<std::string> arguments = {
            "backup",        node,           repository, "--snapshot", "none", "--accept-inconsistent", "--state-dir", scratch_ / "state",
            "--scratch-dir", scratch_.path()};
        arguments.insert(arguments.end(), more.begin(), more.end());
        return run(arguments);
    }
    std::string node() const { return scratch_ / "node"; }
};

TEST_F(Overlap, ARepositoryInsideItsNodeIsRefusedUnlessExcluded) {
    const std::string inside = node() + "/data/my repo";
    ASSERT_EQ(run({"init", inside, "--node", "n"}).status, 0);
    const Outcome refused = backup_of(node(), inside);
    EXPECT_EQ(refused.status, 3);
    EXPECT_TRUE(has(refused.err, "lies inside the node directory")) << refused.err;
    EXPECT_TRUE(has(refused.err, "--exclude '/data/my repo'")) << refused.err;
    EXPECT_FALSE(fs::exists(inside + "/locks/exclusive")) << "nothing is touched";
    for (const std::string pattern : {"/data/my repo", "data/"}) {
        const Outcome done = backup_of(node(), inside, {"--exclude", pattern, "--json"});
        EXPECT_EQ(done.status, 0) << done.err;
        EXPECT_LE(done.json()["backup"]["files"], 3);
    }
}

TEST_F(Overlap, ANodeInsideTheRepositoryIsRefused) {
    ASSERT_EQ(init().status, 0);
    fs::create_directories(repository() + "/sub/node");
    for (const std::string& node : {repository() + "/sub/node", repository()}) {
        const Outcome refused = backup_of(node, repository());
        EXPECT_EQ(refused.status, 3) << node;
        EXPECT_TRUE(has(refused.err, "repository")) << refused.err;
        EXPECT_FALSE(fs::exists(repository() + "/locks/exclusive"));
    }
}

TEST_F(Overlap, ABindMountHidesNothing) {
    NODESNAP_NEEDS_LOOP_MOUNT("ext4");
    ASSERT_EQ(run({"init", node() + "/repository", "--node", "n"}).status, 0);
    fs::create_directory(scratch_ / "elsewhere");
    test::run({"mount", "--bind", node() + "/repository", scratch_ / "elsewhere"});
    const Outcome refused = backup_of(node(), scratch_ / "elsewhere");
    test::run({"umount", scratch_ / "elsewhere"});
    EXPECT_EQ(refused.status, 3);
    EXPECT_TRUE(has(refused.err, "--exclude /repository")) << refused.err;
}

TEST_F(Overlap, ARepositoryInsideAnotherIsNotMade) {
    ASSERT_EQ(init().status, 0);
    fs::create_directory(repository() + "/deep");
    for (const std::string& inside : {repository() + "/sub", repository() + "/deep/sub"}) {
        const Outcome refused = run({"init", inside, "--node", "n"});
        EXPECT_EQ(refused.status, 3);
        EXPECT_TRUE(has(refused.err, "inside the repository")) << refused.err;
        EXPECT_FALSE(fs::exists(inside));
    }
    // Another program's file isn't one.
    fs::create_directory(scratch_ / "other");
    write("other/repository.json", "{\"name\": \"some package\"}\n");
    EXPECT_EQ(run({"init", scratch_ / "other/sub", "--node", "n"}).status, 0);
}

TEST_F(Overlap, ARestoreIntoTheRepositoryIsRefused) {
    init();
    ASSERT_EQ(backup().status, 0);
    fs::create_directory(repository() + "/empty");
    for (const std::string name : {"/new", "/packs/new", "/empty"}) {
        const Outcome refused = run({"restore", repository(), "latest", repository() + name});
        EXPECT_EQ(refused.status, 3) << name;
        EXPECT_TRUE(has(refused.err, "inside the repository")) << refused.err;
    }
    EXPECT_FALSE(fs::exists(repository() + "/new"));
}

TEST_F(Overlap, ARestoreIntoTheNodeDirectoryIsDoneWithAWarning) {
    init();
    ASSERT_EQ(backup().status, 0);
    const Outcome done = run({"restore", repository(), "latest", node() + "/data/old"});
    EXPECT_EQ(done.status, 4);
    EXPECT_TRUE(has(done.err, "--exclude /data/old")) << done.err;
    EXPECT_TRUE(fs::exists(node() + "/data/old/conf"));
    EXPECT_EQ(run({"restore", repository(), "latest", scratch_ / "beside"}).status, 0);
}

TEST_F(Overlap, ASubvolumeThatARestoreMakesInTheNodeIsAnnounced) {
    NODESNAP_NEEDS_LOOP_MOUNT("btrfs");
    const test::LoopMount mount("btrfs");
    btrfs::create_subvolume(open_path(mount.path(), O_RDONLY).get(), "node");
    std::ofstream(mount / "node/file") << "x";
    init();
    ASSERT_EQ(backup_of(mount / "node", repository()).status, 0);
    const Outcome done = run({"restore", repository(), "latest", mount / "node/old"});
    EXPECT_EQ(done.status, 4);
    EXPECT_TRUE(has(done.err, "nested subvolume")) << done.err;
    EXPECT_EQ(backup_of(mount / "node", repository()).status, 3);
    EXPECT_EQ(backup_of(mount / "node", repository(), {"--exclude", "/old"}).status, 0) << "the remedy works";
}

}  // namespace
}  // namespace nodesnap
