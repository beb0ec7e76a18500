// One I/O after another is made to fail, once and from there on for good, through backup, verify, restore and repair of a node that makes
// several packs and a map of three levels, until a run meets no fault. Each failure is an error that is told, and nothing is lost by it.
#include "tests/snapshot/fault_loop.h"

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <set>

#include "snapshot/tree_path.h"

namespace nodesnap::test {
namespace {

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
            reset_repository_to("pristine");
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
        reset_repository_to("damaged");
    });
    expect_restorable(backup);
}

INSTANTIATE_TEST_SUITE_P(Kinds, FaultLoop, testing::Bool(),
                         [](const testing::TestParamInfo<bool>& kind) { return kind.param ? "ForGood" : "Once"; });

}  // namespace
}  // namespace nodesnap::test
