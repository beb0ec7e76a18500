// One I/O after another is made to fail, once and from there on for good, through backup, verify, restore and repair of a node that makes
// several packs and a map of three levels, until a run meets no fault. Each failure is an error that is told, and nothing is lost by it.
#include <sys/mman.h>

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <fstream>
#include <functional>
#include <iostream>
#include <new>
#include <set>

#include "io/target/directory.h"
#include "snapshot/tree_path.h"
#include "snapshot/verify.h"
#include "tests/snapshot/restore_fixture.h"
#include "tests/support/fault_hooks.h"

namespace nodesnap::test {
namespace {

class FaultLoop : public testing::TestWithParam<bool> {
protected:
    static constexpr std::size_t kPages = 80;  // of one file, with holes between them
    static constexpr std::size_t kPage = 4096;
    static constexpr std::uint64_t kMostOperations = 5000;  // far more than any attempt makes

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
    fs::path node() const { return base() / "node"; }
    fs::path place() const { return base() / "place"; }
    bool for_good() const { return GetParam(); }

    // Damage that is told is as good as an error.
    Repository open() {
        return Repository::open(open_directory_target((base() / "repository").string()), [this](const Damage&) { ++told_; });
    }
    Manifest back_up() {
        auto repository = open();
        BackupOptions options = plain_backup_of(base());
        options.workers = 2;
        options.sizes.data_pack_bytes = kSegmentLimit;
        options.sizes.entries_per_node = 8;
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

    // What came of one attempt, told by the process that made it.
    struct Outcome {
        bool ended = false;  // it neither crashed nor threw something that isn't an Error
        bool thrown = false;
        std::uint64_t injected = 0;
        std::uint64_t told = 0;  // damages and warnings
        char message[512] = {};
    };
    // In a process of its own, as the program would be: a lock that couldn't be released is that of a dead process then.
    Outcome run(std::uint64_t nth, const std::function<std::uint64_t()>& attempt) {
        auto* shared = static_cast<Outcome*>(::mmap(nullptr, sizeof(Outcome), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
        new (shared) Outcome;
        const pid_t child = ::fork();
        if (child == 0) {
            FaultHooks hooks;
            hooks.fail_nth(nth, EIO, for_good());
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
    // after each, until a run meets no fault.
    void loop(const std::string& what, const std::function<std::uint64_t()>& attempt, const std::function<void(const Outcome&)>& check) {
        std::uint64_t points = 0;
        for (std::uint64_t nth = 1;; ++nth) {
            ASSERT_LT(nth, kMostOperations) << what << " never came to its end";
            const Outcome outcome = run(nth, attempt);
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
        EXPECT_GT(points, 50U) << what;
    }

    ScratchInMemory in_memory_;
    ScratchDirectory scratch_{"nodesnap-fault-loop"};
    std::map<std::string, std::string> wanted_;
    std::atomic<std::uint64_t> told_{0};
};

TEST_P(FaultLoop, BackupLosesNothing) {
    const Manifest first = back_up();
    const auto repository = open();
    EXPECT_GE(std::count_if(first.packs.begin(), first.packs.end(),
                            [&](const PackId& id) {
                                return repository.target().open(layout::pack({layout::PackKind::kData, id, 0})) != nullptr;
                            }),
              3);
    const auto pages = find_path(repository, first, "pages");
    ASSERT_TRUE(pages);
    ASSERT_TRUE(pages->second.map);
    EXPECT_GE(pages->second.map->height, 2) << "the map has fewer than three levels";

    // Each attempt begins with the same repository: what earlier ones published would make the next one longer.
    fs::copy(base() / "repository", base() / "pristine", fs::copy_options::recursive);
    const std::size_t before = visible();
    std::uint64_t failures = 0;
    loop(
        "backup",
        [this] {
            back_up();
            return 0;
        },
        [&](const Outcome& outcome) {
            // The manifest may have become visible and its durability not have been confirmed: that is told, and the backup stays.
            const std::size_t now = visible();
            ASSERT_LE(now, before + 1);
            ASSERT_TRUE(outcome.thrown || now == before + 1);
            if (outcome.thrown && failures++ % 8 == 0) {
                const Manifest healthy = back_up();
                ASSERT_TRUE(open().sessions().empty());
                ASSERT_NO_FATAL_FAILURE(expect_restorable(healthy));
            }
            fs::remove_all(base() / "repository");
            fs::copy(base() / "pristine", base() / "repository", fs::copy_options::recursive);
        });
    EXPECT_GT(failures, 50U);
    EXPECT_EQ(verify().damage_count, 0U);
    expect_restorable(first);
}

TEST_P(FaultLoop, VerifyNeverCallsWholeWhatItCouldNotRead) {
    back_up();
    const VerifyResult whole = verify();
    loop(
        "verify",
        [&] {
            const auto result = verify();
            const auto told = result.damage_count + result.information.size() + (result.coverage.not_remembered.empty() ? 0 : 1);
            if (told == 0 && (result.objects != whole.objects || result.nodes != whole.nodes || result.segments != whole.segments)) {
                std::abort();  // nothing was told, and not everything was looked at
            }
            return told;
        },
        [&](const Outcome& outcome) {
            // What fails once may be repeated, or the other copy serve; what fails for good is told.
            ASSERT_TRUE(!for_good() || outcome.thrown || outcome.told != 0);
        });
    EXPECT_EQ(verify().damage_count, 0U);
}

TEST_P(FaultLoop, RestoreIsWholeOrNotThere) {
    const Manifest backup = back_up();
    loop(
        "restore", [&] { return restore(backup); },
        [&](const Outcome& outcome) {
            if (outcome.thrown && !fs::exists(place())) {
                restore(backup);  // goes on, without anybody's help
            }
            ASSERT_TRUE(outcome.told != 0 || picture_of(place()) == wanted_);
            fs::remove_all(place());
            fs::remove_all(base() / ".place.nodesnap-restore");
        });
    expect_restorable(backup);
}

TEST_P(FaultLoop, RepairLosesNothing) {
    const Manifest backup = back_up();
    // A trailer of a pack of each kind, and a copy of all else that has two.
    std::set<std::string> kinds;
    for (const auto& entry : fs::recursive_directory_iterator(base() / "repository")) {
        const std::string folder = entry.path().parent_path().filename().string();
        const bool pack =
            entry.path().extension() == ".pack" && kinds.insert(entry.path().parent_path().parent_path().filename().string()).second;
        if (pack || folder == "backups" || entry.path().filename() == "repository.json") {
            std::fstream file(entry.path(), std::ios::in | std::ios::out | std::ios::binary);
            file.seekg(pack ? -4000 : 30, pack ? std::ios::end : std::ios::beg);
            const auto at = file.tellg();
            const int byte = file.get();
            file.seekp(at);
            file.put(static_cast<char>(byte ^ 8));
        }
    }
    fs::copy(base() / "repository", base() / "damaged", fs::copy_options::recursive);
    const auto repair = [this]() -> std::uint64_t {
        auto repository = Repository::open(open_directory_target((base() / "repository").string()), {});
        LeaseOptions options;
        options.command = "repair";
        Lease lease = Lease::acquire(repository.target(), repository.info().uuid, options);
        Progress progress;
        const RepairResult result = run_repair(repository, lease, progress);
        lease.release();
        return result.lost_count;
    };
    std::uint64_t checked = 0;
    loop("repair", repair, [&](const Outcome&) {
        if (checked++ % 4 == 0) {
            ASSERT_EQ(verify().lost_count, 0U);
            ASSERT_EQ(repair(), 0U);
            ASSERT_EQ(verify().damage_count, 0U);
            told_ = 0;
        }
        fs::remove_all(base() / "repository");
        fs::copy(base() / "damaged", base() / "repository", fs::copy_options::recursive);
    });
    expect_restorable(backup);
}

INSTANTIATE_TEST_SUITE_P(Kinds, FaultLoop, testing::Bool(),
                         [](const testing::TestParamInfo<bool>& kind) { return kind.param ? "ForGood" : "Once"; });

}  // namespace
}  // namespace nodesnap::test
