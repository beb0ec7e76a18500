// A backup that was cut off is gone on with, and one I/O after another fails meanwhile: on a btrfs of its own, since only a snapshot is
// gone on with.
#include <csignal>
#include <memory>

#include "tests/snapshot/fault_loop.h"

namespace nodesnap::test {
namespace {

class ResumeFaultLoop : public FaultLoop {
protected:
    void SetUp() override {
        NODESNAP_NEEDS_LOOP_MOUNT("btrfs");
        mount_ = std::make_unique<LoopMount>("btrfs");
        test::run({"btrfs", "subvolume", "create", node().string()});
        FaultLoop::SetUp();
    }

    fs::path node() const override { return *mount_ / "node"; }
    BackupOptions backup_options() const override {
        BackupOptions options = FaultLoop::backup_options();
        options.node_directory = node().string();
        options.backend = {};
        options.drop_snapshot = true;
        return options;
    }
    // What a backup leaves that dies when it has stored about half.
    void die_halfway() {
        const pid_t child = ::fork();
        if (child == 0) {
            FaultHooks hooks;
            hooks.kill_at_step("drain.pack-logged", 2);
            try {
                back_up();
            } catch (...) {  // it isn't this process that clears up after the test
            }
            ::_exit(0);
        }
        int status = 0;
        ::waitpid(child, &status, 0);
        ASSERT_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
    }
    std::size_t snapshots() const {
        const fs::path folder = *mount_ / ".nodesnap";
        return fs::exists(folder) ? static_cast<std::size_t>(std::distance(fs::directory_iterator(folder), {})) : 0;
    }

    std::unique_ptr<LoopMount> mount_;
};

TEST_P(ResumeFaultLoop, LosesNothing) {
    fs::copy(base() / "repository", base() / "pristine", fs::copy_options::recursive);
    for (const int error_number : {EIO, ENOSPC}) {
        ASSERT_NO_FATAL_FAILURE(die_halfway());
        loop(
            "resuming",
            [this] {
                auto repository = open();
                Progress progress;
                Report report;
                const BackupResult result = run_backup(repository, backup_options(), progress, report);
                return std::uint64_t{result.resumed ? 0U : 1U};
            },
            [&](const Outcome& outcome) {
                const std::size_t now = visible();
                ASSERT_LE(now, 1U);
                ASSERT_TRUE(outcome.thrown || now == 1);
                ASSERT_EQ(verify().damage_count, 0U);
                const Manifest healthy = back_up();
                ASSERT_TRUE(open().sessions().empty());
                ASSERT_EQ(snapshots(), 0U);
                ASSERT_EQ(verify().damage_count, 0U);
                ASSERT_NO_FATAL_FAILURE(expect_restorable(healthy));
                reset_repository_to("pristine");
                ASSERT_NO_FATAL_FAILURE(die_halfway());
            },
            error_number, true);
        back_up();
        reset_repository_to("pristine");
    }
}

INSTANTIATE_TEST_SUITE_P(Kinds, ResumeFaultLoop, testing::Bool(),
                         [](const testing::TestParamInfo<bool>& kind) { return kind.param ? "ForGood" : "Once"; });

}  // namespace
}  // namespace nodesnap::test
