// Restores that are cut off: killed at each step, interrupted, failing at each operation. None is mistaken for a finished one, and the next
// run goes on.
#include <iostream>

#include "snapshot/restore.h"
#include "tests/snapshot/restore_fixture.h"
#include "tests/support/fault_hooks.h"

namespace nodesnap::test {
namespace {

class RestoreResume : public RestoreTest {
protected:
    // Several batches, large files in several windows, hard links between batches.
    void fill(int files = 600, std::size_t large = 24U << 20) {
        fs::create_directories(node() / "d" / "e");
        write_file(node() / "d" / "first", random_content(random_, 6U << 20));
        for (int i = 0; i < files; ++i) {
            const auto path = node() / (i % 2 == 0 ? "d" : "d/e") / ("f" + std::to_string(i));
            if (i % 3 == 0) {
                fs::create_hard_link(node() / "d" / "first", path);
            } else {
                write_file(path, random_content(random_, static_cast<std::size_t>(i) * 31 % 9000));
            }
        }
        write_file(node() / "large1", random_content(random_, large));
        write_file(node() / "large2", random_content(random_, large / 3));
        write_file(node() / "CURRENT", "MANIFEST-1\n");
    }
    RestoreOptions eager() const {
        auto eager = options();
        eager.checkpoint_interval = std::chrono::milliseconds(1);
        return eager;
    }
    // Runs a restore in a process of its own, which the hooks may kill.
    template <typename Arm>
    int status_in_child(const Manifest& backup, Arm arm) {
        const pid_t child = ::fork();
        if (child == 0) {
            FaultHooks hooks;
            arm(hooks);
            try {
                restore(backup, eager());
            } catch (const Error&) {
                ::_exit(1);
            }
            ::_exit(0);
        }
        int status = 0;
        ::waitpid(child, &status, 0);
        return status;
    }
    std::mt19937_64 random_{2};
};

TEST_F(RestoreResume, KilledAtAnyStepItIsNoRestoreUntilTheNextRunEndsIt) {
    fill();
    // What is made in a directory with a default ACL inherits it, unless that comes last, also when the restore is gone on with.
    const unsigned char acl[] = {2, 0,    0,    0,    1,    0,    7,  0, 0xff, 0xff, 0xff, 0xff, 2,    0,   7,
                                 0, 0xd2, 4,    0,    0,    4,    0,  5, 0,    0xff, 0xff, 0xff, 0xff, 16,  0,
                                 7, 0,    0xff, 0xff, 0xff, 0xff, 32, 0, 0,    0,    0xff, 0xff, 0xff, 0xff};
    ASSERT_EQ(::setxattr((node() / "d").c_str(), "system.posix_acl_default", acl, sizeof acl, 0), 0);
    const auto backup = back_up();
    const auto wanted = picture_of(node());
    std::map<std::string, std::uint64_t> steps;
    {
        FaultHooks hooks;
        hooks.on_each_step([&](const std::string& step) { ++steps[step]; });
        restore(backup, eager());
        ASSERT_EQ(picture_of(place()), wanted);
        fs::remove_all(place());
    }
    for (const auto* step : {"restore.staged", "restore.checkpoint", "restore.durable", "restore.placed"}) {
        ASSERT_TRUE(steps.contains(step)) << step;
    }
    for (const auto& [step, times] : steps) {
        for (const std::uint64_t nth : std::set<std::uint64_t>{1, (times + 1) / 2, times}) {
            const int status = status_in_child(backup, [&step = step, nth](FaultHooks& hooks) { hooks.kill_at_step(step, nth); });
            if (fs::exists(place())) {
                EXPECT_EQ(picture_of(place()), wanted) << step << ' ' << nth;
            }
            const bool killed = WIFSIGNALED(status);
            if (killed || !fs::exists(place())) {
                EXPECT_TRUE(restore(backup, eager()).resumed || step == "file.synced") << step << ' ' << nth;
            }
            EXPECT_EQ(picture_of(place()), wanted) << step << ' ' << nth;
            EXPECT_FALSE(fs::exists(staging())) << step << ' ' << nth;
            fs::remove_all(place());
        }
    }
}

TEST_F(RestoreResume, KilledAgainAndAgainItComesToAnEnd) {
    fill(700);
    const auto backup = back_up();
    int runs = 0;
    for (std::uint64_t nth = 2; !fs::exists(place()); ++runs, nth += 5) {
        ASSERT_LT(runs, 100);
        status_in_child(backup, [nth](FaultHooks& hooks) { hooks.kill_at_step("restore.checkpoint", nth); });
    }
    if (fs::exists(staging())) {
        restore(backup, eager());
    }
    EXPECT_EQ(picture_of(place()), picture_of(node()));
    std::cout << "took " << runs << " runs\n";
}

TEST_F(RestoreResume, GoesOnBehindTheLastCheckpoint) {
    fill();
    const auto backup = back_up();
    // Interrupted by the operator after some checkpoints.
    {
        FaultHooks hooks;
        std::uint64_t seen = 0;
        hooks.on_each_step([&](const std::string& step) {
            if (step == "restore.checkpoint" && ++seen == 4) {
                interrupt::request();
            }
        });
        if (failure_of(backup, eager()) == ExitStatus::kDone) {
            GTEST_SKIP() << "the restore was over before its fourth checkpoint";
        }
        EXPECT_NE(message_.find(staging().string()), std::string::npos) << message_;
    }
    interrupt::clear();
    EXPECT_FALSE(fs::exists(place()));
    ASSERT_TRUE(fs::exists(staging() / "content"));
    const auto state = read_file(staging() / "state");
    EXPECT_NE(state.find("\"run\":0"), std::string::npos) << state;
    const auto result = restore(backup, eager());
    EXPECT_TRUE(result.resumed);
    EXPECT_EQ(picture_of(place()), picture_of(node()));
}

TEST_F(RestoreResume, DoesNotMixTwoRestores) {
    fill(20);
    const auto first = back_up();
    write_file(node() / "CURRENT", "MANIFEST-2\n");
    const auto second = back_up();
    status_in_child(first, [](FaultHooks& hooks) { hooks.kill_at_step("restore.staged"); });
    ASSERT_TRUE(fs::exists(staging()));
    EXPECT_EQ(failure_of(second), ExitStatus::kRefused);
    EXPECT_NE(message_.find(staging().string()), std::string::npos) << message_;
    auto other = options();
    other.owners.numeric_ids = true;
    EXPECT_EQ(failure_of(first, other), ExitStatus::kRefused);
    fs::remove_all(staging());
    restore(second);
    EXPECT_EQ(read_file(place() / "CURRENT"), "MANIFEST-2\n");
}

TEST_F(RestoreResume, AfterAnyFailureNothingIsThereUntilItIsRunAgain) {
    fill(9, 5U << 20);
    const auto backup = back_up();
    const auto wanted = picture_of(node());
    for (const bool for_good : {false, true}) {
        std::uint64_t nth = 1;
        std::uint64_t failed = 0;
        std::uint64_t warnings = report_.count();
        for (bool clean = false; !clean; nth += for_good ? 7 : 1) {
            FaultHooks hooks;
            hooks.fail_nth(nth, EIO, for_good);
            ExitStatus status = ExitStatus::kDone;
            try {
                status = failure_of(backup);
            } catch (const std::exception& other) {
                ADD_FAILURE() << "operation " << nth << ": " << other.what();
            }
            clean = hooks.injected() == 0;
            hooks.stop_failing();
            if (status != ExitStatus::kDone) {
                ++failed;
                if (fs::exists(place())) {
                    ASSERT_EQ(picture_of(place()), wanted) << "operation " << nth << ": " << message_;
                }
                ASSERT_EQ(failure_of(backup), ExitStatus::kDone) << "after operation " << nth << ": " << message_;
            }
            if (report_.count() == warnings) {
                ASSERT_EQ(picture_of(place()), wanted) << "operation " << nth;
            }
            warnings = report_.count();
            ASSERT_TRUE(!fs::exists(staging()) || fs::exists(place())) << "operation " << nth;
            fs::remove_all(staging());
            fs::remove_all(place());
        }
        EXPECT_GT(failed, 20U);
        std::cout << (for_good ? "for good: " : "once: ") << nth << " points, " << failed << " failures\n";
    }
}

}  // namespace
}  // namespace nodesnap::test
