// What an interrupted restore left is trusted only as far as it is still what the state tells of.
#include <fstream>

#include "snapshot/restore.h"
#include "tests/snapshot/restore_fixture.h"
#include "tests/support/fault_hooks.h"

namespace nodesnap::test {
namespace {

class RestoreLeft : public RestoreTest {
protected:
    void fill() {
        fs::create_directories(node() / "d" / "e");
        for (int i = 0; i < 600; ++i) {
            write_file(node() / "d" / ("f" + std::to_string(i)), random_content(random_, static_cast<std::size_t>(i) * 31 % 9000 + 1));
        }
        write_file(node() / "d" / "e" / "large", random_content(random_, 24U << 20));
        fs::create_hard_link(node() / "d" / "f7", node() / "d" / "e" / "linked");
        fs::create_symlink("f1", node() / "d" / "symlink");
        write_file(node() / "CURRENT", "MANIFEST-1\n");
    }
    // Runs a restore in a process of its own that is killed at the step.
    void killed_at(const std::string& step, const Manifest& backup, RestoreOptions options) {
        options.checkpoint_interval = std::chrono::milliseconds(1);
        const pid_t child = ::fork();
        if (child == 0) {
            FaultHooks hooks;
            hooks.kill_at_step(step);
            try {
                restore(backup, options);
            } catch (const Error&) {
                ::_exit(1);
            }
            ::_exit(0);
        }
        int status = 0;
        ::waitpid(child, &status, 0);
        ASSERT_TRUE(WIFSIGNALED(status)) << step;
    }
    void killed_at(const std::string& step, const Manifest& backup) { killed_at(step, backup, options()); }
    // Ends the restore and compares.
    void goes_on_to_the_same(const Manifest& backup, const std::string& what) {
        EXPECT_EQ(failure_of(backup), ExitStatus::kDone) << what << ": " << message_;
        EXPECT_EQ(picture_of(place()), picture_of(node())) << what;
        EXPECT_FALSE(fs::exists(staging())) << what;
        fs::remove_all(place());
    }
    fs::path content() const { return staging() / "content"; }
    std::mt19937_64 random_{5};
};

TEST_F(RestoreLeft, FinishedFilesThatHaveGoneOrChangedAreRestoredAgain) {
    fill();
    const auto backup = back_up();
    const std::map<std::string, std::function<void()>> harms{
        {"removed", [&] { fs::remove(content() / "d" / "f300"); }},
        {"cut short", [&] { fs::resize_file(content() / "d" / "f300", 3); }},
        {"rewritten", [&] { write_file(content() / "d" / "f300", random_content(random_, fs::file_size(node() / "d" / "f300"))); }},
        {"large removed", [&] { fs::remove(content() / "d" / "e" / "large"); }},
        {"large rewritten", [&] { write_file(content() / "d" / "e" / "large", std::string(24U << 20, 'x')); }},
        {"linked removed", [&] { fs::remove(content() / "d" / "f7"); }},
        {"linked rewritten", [&] { write_file(content() / "d" / "e" / "linked", "other"); }},
        {"directory removed", [&] { fs::remove_all(content() / "d"); }},
        {"symlink replaced",
         [&] {
             fs::remove(content() / "d" / "symlink");
             write_file(content() / "d" / "symlink", "f1");
         }},
    };
    for (const auto& [what, harm] : harms) {
        killed_at("restore.durable", backup);
        harm();
        goes_on_to_the_same(backup, what);
    }
    killed_at("restore.durable", backup);
    EXPECT_TRUE(restore(backup).resumed);
    EXPECT_EQ(picture_of(place()), picture_of(node()));
}

TEST_F(RestoreLeft, ALargeFileThatWasHalfDoneAndHasGoneIsBegunAnew) {
    write_file(node() / "large", random_content(random_, 60U << 20));
    const auto backup = back_up();
    auto eager = options();
    eager.checkpoint_interval = std::chrono::milliseconds(1);
    eager.limit_bytes_per_second = 100U << 20;
    for (const bool replaced : {false, true}) {
        {
            FaultHooks hooks;
            hooks.on_each_step([&](const std::string& step) {
                if (step == "restore.checkpoint" && read_file(staging() / "state").find("\"large\":[[") != std::string::npos) {
                    interrupt::request();
                }
            });
            ASSERT_EQ(failure_of(backup, eager), ExitStatus::kFailed);
        }
        interrupt::clear();
        ASSERT_NE(read_file(staging() / "state").find("\"large\":[["), std::string::npos);
        fs::rename(content() / "large", base() / "other");
        if (replaced) {
            write_file(content() / "large", std::string(60U << 20, 'x'));
        }
        goes_on_to_the_same(backup, replaced ? "replaced" : "removed");
        fs::remove(base() / "other");
    }
}

TEST_F(RestoreLeft, AStateThatWasCopiedIsRefused) {
    fill();
    const auto backup = back_up();
    killed_at("restore.durable", backup);
    run({"cp", "-a", staging().string(), (base() / ".other.nodesnap-restore").string()});
    auto other = options();
    other.destination = (base() / "other").string();
    EXPECT_EQ(failure_of(backup, other), ExitStatus::kRefused);
    EXPECT_NE(message_.find("remove " + (base() / ".other.nodesnap-restore").string()), std::string::npos) << message_;
    EXPECT_FALSE(fs::exists(base() / "other"));
    goes_on_to_the_same(backup, "the original");
}

TEST_F(RestoreLeft, ContentThatWasReplacedIsRefusedAndContentThatHasGoneIsMadeAnew) {
    fill();
    const auto backup = back_up();
    for (const auto* step : {"restore.checkpoint", "restore.durable"}) {
        killed_at(step, backup);
        fs::rename(content(), base() / "aside");
        run({"cp", "-a", (base() / "aside").string(), content().string()});
        EXPECT_EQ(failure_of(backup), ExitStatus::kRefused) << step;
        EXPECT_FALSE(fs::exists(place()));
        fs::remove_all(content());
        goes_on_to_the_same(backup, step);
        fs::remove_all(base() / "aside");
    }
}

TEST_F(RestoreLeft, AnotherDirectoryAtTheDestinationIsNotTakenForTheResult) {
    fill();
    const auto backup = back_up();
    killed_at("restore.placed", backup);
    fs::rename(place(), base() / "aside");
    fs::create_directory(place());
    write_file(place() / "other", "other");
    EXPECT_EQ(failure_of(backup), ExitStatus::kRefused) << message_;
    fs::remove_all(place());
    goes_on_to_the_same(backup, "once that has gone");
    // What was renamed and then changed isn't called a restore either.
    killed_at("restore.placed", backup);
    fs::remove(place() / "d" / "f300");
    EXPECT_EQ(failure_of(backup), ExitStatus::kFailed);
    EXPECT_NE(message_.find("d/f300"), std::string::npos) << message_;
    EXPECT_NE(message_.find(staging().string()), std::string::npos) << message_;
}

TEST_F(RestoreLeft, OwnersThatMatchedBeforeItWasCutOffAreNotMissed) {
    if (::geteuid() != 0) {
        GTEST_SKIP() << "needs root, to give files to others";
    }
    fill();
    ASSERT_EQ(::chown((node() / "d" / "f3").c_str(), 3'000'001, 3'000'002), 0);
    const auto backup = back_up();
    auto mapped = options();
    mapped.owners.users = {{"3000001", "4000001"}, {"nobody has this name", "4000003"}};
    mapped.owners.groups = {{"3000002", "4000002"}};
    for (const auto* step : {"restore.staged", "restore.durable", "restore.placed"}) {
        const auto before = report_.count();
        killed_at(step, backup, mapped);
        EXPECT_TRUE(restore(backup, mapped).resumed);
        const auto warnings = report_.warnings();
        ASSERT_EQ(report_.count(), before + 1) << step << ": " << warnings.back();
        EXPECT_NE(warnings.back().find("user nobody has this name"), std::string::npos) << warnings.back();
        struct stat status {};
        ASSERT_EQ(::stat((place() / "d" / "f3").c_str(), &status), 0);
        EXPECT_EQ(status.st_uid, 4'000'001U);
        EXPECT_EQ(status.st_gid, 4'000'002U);
        fs::remove_all(place());
    }
}

TEST_F(RestoreLeft, OtherGateFilesAreAnotherRestore) {
    fill();
    const auto backup = back_up();
    killed_at("restore.durable", backup);
    auto other = options();
    other.gate_files = {"MANIFEST"};
    EXPECT_EQ(failure_of(backup, other), ExitStatus::kRefused);
}

TEST_F(RestoreLeft, EntriesOfAMountThatHaveGoneAreMissed) {
    NODESNAP_NEEDS_LOOP_MOUNT("ext4");
    fill();
    const auto backup = back_up();
    for (const auto* step : {"restore.before-gates", "restore.placed"}) {
        const LoopMount mount("ext4");
        auto into = options();
        into.destination = mount.path();
        killed_at(step, backup, into);
        fs::remove(mount / "d/f300");
        EXPECT_EQ(failure_of(backup, into), ExitStatus::kFailed) << step;
        EXPECT_NE(message_.find("d/f300"), std::string::npos) << message_;
    }
}

}  // namespace
}  // namespace nodesnap::test
