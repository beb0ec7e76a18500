// What the loops of faults share: a node and its repository in directories, and attempts in processes of their own in each of which another
// I/O fails.
#pragma once

#include <sys/mman.h>
#include <sys/wait.h>

#include <atomic>
#include <cerrno>
#include <functional>
#include <iostream>
#include <new>

#include "io/target/directory.h"
#include "snapshot/verify.h"
#include "tests/snapshot/restore_fixture.h"
#include "tests/support/fault_hooks.h"

namespace nodesnap::test {

class FaultLoop : public testing::TestWithParam<bool> {
protected:
    static constexpr std::size_t kPages = 80;  // of one file, with holes between them
    static constexpr std::size_t kPage = 4096;
    static constexpr std::uint64_t kMostOperations = 20000;  // far more than any attempt makes

    void SetUp() override {
        interrupt::clear();
        std::mt19937_64 random(20);
        fs::create_directories(node() / "sub");
        for (std::size_t i = 0; i < 3; ++i) {
            write_file(node() / "sub" / ("table" + std::to_string(i)), random_content(random, 1'000'000));
            write_file(node() / ("small" + std::to_string(i)), random_content(random, 700 * i));
        }
        write_file(node() / "CURRENT", "MANIFEST-1\n");
        const int fd = ::open((node() / "pages").c_str(), O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
        for (std::size_t i = 0; i < kPages; ++i) {
            const std::string page = random_content(random, kPage);
            ASSERT_EQ(::pwrite(fd, page.data(), page.size(), static_cast<off_t>(2 * i * kPage)), static_cast<ssize_t>(kPage));
        }
        ASSERT_EQ(::fsync(fd), 0);  // unwritten until then, for FIEMAP
        ::close(fd);
        Repository::create(*open_directory_target((base() / "repository").string(), true), "node1");
        wanted_ = picture_of(node());
    }

    fs::path base() const { return scratch_.path(); }
    virtual fs::path node() const { return base() / "node"; }
    fs::path place() const { return base() / "place"; }
    bool for_good() const { return GetParam(); }

    // Damage that is told is as good as an error.
    Repository open() {
        return Repository::open(open_directory_target((base() / "repository").string()), [this](const Damage&) { ++told_; });
    }
    virtual BackupOptions backup_options() const {
        BackupOptions options = plain_backup_of(base());
        options.workers = 2;
        options.sizes.data_pack_bytes = kSegmentLimit;
        options.sizes.entries_per_node = 8;
        return options;
    }
    Manifest back_up() {
        auto repository = open();
        const BackupOptions options = backup_options();
        Progress progress;
        Report report;
        return run_backup(repository, options, progress, report).manifest;
    }
    VerifyResult verify() {
        auto repository = open();
        VerifyOptions options;
        options.data = true;
        options.scratch_directory = base().string();
        Progress progress;
        return run_verify(repository, options, progress);
    }
    std::uint64_t restore(const Manifest& backup) {
        auto repository = open();
        RestoreOptions options;
        options.destination = place().string();
        Progress progress;
        Report report;
        run_restore(repository, backup, options, progress, report);
        return report.count();
    }
    std::size_t visible() {
        std::size_t count = 0;
        open().for_each_backup([&](const BackupEntry& entry) { count += entry.manifest ? 1 : 0; });
        return count;
    }
    void expect_restorable(const Manifest& backup) {
        fs::remove_all(place());
        fs::remove_all(base() / ".place.nodesnap-restore");
        restore(backup);
        ASSERT_EQ(picture_of(place()), wanted_);
        fs::remove_all(place());
    }

    void reset_repository_to(const std::string& copy) {
        fs::remove_all(base() / "repository");
        fs::copy(base() / copy, base() / "repository", fs::copy_options::recursive);
    }

    // What came of one attempt, told by the process that made it.
    struct Outcome {
        bool ended = false;  // it neither crashed nor threw something that isn't an Error
        bool thrown = false;
        std::uint64_t injected = 0;
        std::uint64_t told = 0;  // damages and warnings
        char message[512] = {};
    };
    // In a process of its own, as the program would be: a lock that couldn't be released is that of a dead process then.
    Outcome run(std::uint64_t nth, int error_number, const std::function<std::uint64_t()>& attempt) {
        auto* shared = static_cast<Outcome*>(::mmap(nullptr, sizeof(Outcome), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
        new (shared) Outcome;
        const pid_t child = ::fork();
        if (child == 0) {
            FaultHooks hooks;
            hooks.fail_nth(nth, error_number, for_good());
            try {
                shared->told = attempt();
            } catch (const Error& error) {
                shared->thrown = true;
                error.message().copy(shared->message, sizeof(shared->message) - 1);
            }
            shared->told += told_;
            shared->injected = hooks.injected();
            shared->ended = true;
            ::_exit(0);
        }
        ::waitpid(child, nullptr, 0);
        const Outcome outcome = *shared;
        ::munmap(shared, sizeof(Outcome));
        return outcome;
    }

    // Runs `attempt`, which returns how many damages and warnings it told, with the Nth operation failing, for N = 1, 2, 3 ..., and `check`
    // after each, until a run meets no fault. `sparse`: of many operations only some here and there, others each time.
    void loop(const std::string& what, const std::function<std::uint64_t()>& attempt, const std::function<void(const Outcome&)>& check,
              int error_number = EIO, bool sparse = false) {
        std::random_device random;
        std::uint64_t points = 0;
        for (std::uint64_t nth = 1;; nth += sparse ? 1 + random() % (8 + nth / 4) : 1) {
            ASSERT_LT(nth, kMostOperations) << what << " never came to its end";
            const Outcome outcome = run(nth, error_number, attempt);
            ASSERT_TRUE(outcome.ended) << "at operation " << nth << " of " << what;
            if (outcome.injected == 0) {
                ASSERT_FALSE(outcome.thrown) << outcome.message;
                ASSERT_EQ(outcome.told, 0U);
                break;
            }
            ++points;
            ASSERT_TRUE(!outcome.thrown || outcome.message[0] != 0);
            ASSERT_NO_FATAL_FAILURE(check(outcome)) << "at operation " << nth << " of " << what << ": " << outcome.message;
        }
        std::cout << what << ": " << points << " points, each failed " << (for_good() ? "from there on for good" : "once") << '\n';
        EXPECT_GT(points, sparse ? 15U : 50U) << what;
    }

    ScratchInMemory in_memory_;
    ScratchDirectory scratch_{"nodesnap-fault-loop"};
    std::map<std::string, std::string> wanted_;
    std::atomic<std::uint64_t> told_{0};
};

}  // namespace nodesnap::test
