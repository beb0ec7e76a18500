// What lies before the instant of a btrfs snapshot, and how little is left of it for the instant itself.
#include <fcntl.h>
#include <gtest/gtest.h>

#include <cstdint>
#include <filesystem>
#include <memory>

#include "platform/btrfs.h"
#include "platform/error.h"
#include "platform/file.h"
#include "snapshot/backend/backend.h"
#include "tests/support/fault_hooks.h"
#include "tests/support/loop_mount.h"

namespace nodesnap {
namespace {

class PrepareTest : public testing::Test {
protected:
    void SetUp() override {
        NODESNAP_NEEDS_LOOP_MOUNT("btrfs");
        mount_ = std::make_unique<test::LoopMount>("btrfs");
        btrfs::create_subvolume(open_path(mount_->path(), O_RDONLY).get(), "node");
        write_file_durably(*mount_ / "node/file", "before");
    }
    std::unique_ptr<SnapshotBackend> choose(bool held) const {
        BackendOptions options;
        options.held = held;
        return choose_backend(*mount_ / "node", ExcludeRules(std::vector<std::string>{}), options);
    }
    std::unique_ptr<test::LoopMount> mount_;
};

TEST_F(PrepareTest, AfterItNothingIsLeftToFlush) {
    for (const bool held : {false, true}) {
        const auto backend = choose(held);
        test::FaultHooks hooks;
        backend->prepare();
        const std::uint64_t flushes = hooks.count("syncfs");
        EXPECT_GE(flushes, 2U);  // and as often as that makes them shorter
        const auto one = backend->create("one", true);
        EXPECT_EQ(hooks.count("syncfs"), flushes);
        const auto two = backend->create("two", true);
        EXPECT_GE(hooks.count("syncfs"), flushes + 2) << "what was prepared is used up";
        EXPECT_TRUE(stat_at(two->root(), "file"));
    }
}

TEST_F(PrepareTest, ItLooksAgainAtWhatThePreflightFound) {
    const auto backend = choose(true);
    btrfs::create_subvolume(open_path(*mount_ / "node", O_RDONLY).get(), "nested");
    EXPECT_THROW(backend->prepare(), Error);
    EXPECT_TRUE(backend->list().empty());
}

TEST_F(PrepareTest, WhoHoldsSaysWhatTheSnapshotIs) {
    EXPECT_TRUE(choose(true)->atomic());
    EXPECT_EQ(choose(true)->create("held", true)->consistency(), Consistency::kCrashConsistent) << "nobody uses it, but nobody has looked";
}

}  // namespace
}  // namespace nodesnap
