// One I/O after another fails while prune merges, removes and compacts.
#include "snapshot/prune.h"
#include "snapshot/repository/layout.h"
#include "tests/snapshot/fault_loop.h"

namespace nodesnap::test {
namespace {

class PruneFaultLoop : public FaultLoop {
protected:
    static constexpr std::uint64_t kFragments = 256 * 2;

    // A forgotten backup's pack that nobody needs, another of which little is in use, and a file of one page a run: something for each
    // part.
    void SetUp() override {
        FaultLoop::SetUp();
        Repository repository = open();
        MadeBackup older;
        const PackId shared = older.data_pack(repository, 6);
        const PackId unused = older.data_pack(repository, 3);
        older.inode(3, MadeBackup::file(shared, 0, 6));
        older.name(MadeBackup::kRoot, "table", 3);
        older.inode(4, MadeBackup::file(unused, 0, 3));
        older.name(MadeBackup::kRoot, "unused", 4);
        const Manifest forgotten = older.publish(repository);
        MadeBackup newest;
        newest.refers_to(shared);
        const PackId pages = newest.data_pack(repository, 6);
        newest.publish(repository, [&](NodeWriter& nodes) { return tree_of(nodes, shared, pages); });
        fs::remove(base() / "repository" / layout::manifest(forgotten.name));
        restore(open().find_backup("latest"));
        wanted_ = picture_of(place());
        fs::remove_all(place());
        fs::copy(base() / "repository", base() / "pristine", fs::copy_options::recursive);
    }

    static TreeRoot tree_of(NodeWriter& nodes, const PackId& shared, const PackId& pages) {
        MapBuilder map(nodes);
        for (std::uint64_t number = 0; number < kFragments; ++number) {
            nodesnap::Run run;
            run.offset = number * kPage;
            run.length = kPage;
            run.pack = pages;
            run.first = static_cast<std::uint32_t>(number % 6);
            run.skip = static_cast<std::uint32_t>(number * 97 % (MadeBackup::kSegmentBytes - kPage));
            run.count = 1;
            map.add(run);
        }
        const auto built = map.finish();
        Inode fragmented;
        fragmented.mode = 0644;
        fragmented.size = kFragments * kPage;
        fragmented.runs = built.inline_runs;
        fragmented.map = built.root;
        fragmented.run_count = built.run_count;
        Inode root;
        root.type = FileType::kDirectory;
        root.mode = 0755;
        TreeBuilder tree(nodes);
        tree.add(key::inode(MadeBackup::kRoot), encode(root));
        tree.add(key::dirent(MadeBackup::kRoot, "fragmented"), encode(Dirent{4, FileType::kRegular}));
        tree.add(key::dirent(MadeBackup::kRoot, "table"), encode(Dirent{3, FileType::kRegular}));
        tree.add(key::inode(3), encode(MadeBackup::file(shared, 4, 2)));
        tree.add(key::inode(4), encode(fragmented));
        return tree.finish();
    }

    PruneResult prune(Report& report) {
        Repository repository = open();
        LeaseOptions lease_options;
        lease_options.command = "prune";
        Lease lease = Lease::acquire(repository.target(), repository.info().uuid, lease_options);
        PruneOptions options;
        options.merge = MergeWhen::kAlways;
        options.scratch_directory = base().string();
        Progress progress;
        const PruneResult result = run_prune(repository, lease, options, report, progress);
        lease.release();
        return result;
    }
    void expect_whole() {
        ASSERT_EQ(verify().damage_count, 0U);
        ASSERT_NO_FATAL_FAILURE(expect_restorable(open().find_backup("latest")));
    }
};

TEST_P(PruneFaultLoop, LosesNothing) {
    Report report;
    const PruneResult done = prune(report);
    EXPECT_EQ(done.merged_files, 1U);
    EXPECT_EQ(done.removed_packs, 2U);  // its metadata too
    EXPECT_EQ(done.rewritten_packs, 1U);
    std::uint64_t checked = 0;
    for (const int error_number : {EIO, ENOSPC}) {
        reset_repository_to("pristine");
        loop(
            "prune",
            [this] {
                Report told;
                prune(told);
                return told.count();
            },
            [&](const Outcome& outcome) {
                ASSERT_TRUE(!for_good() || outcome.thrown || outcome.told != 0);
                ASSERT_EQ(verify().damage_count, 0U);
                if (checked++ % 3 == 0) {
                    Report healthy;
                    prune(healthy);
                    prune(healthy);  // what only the revision before the merge used
                    ASSERT_EQ(healthy.count(), 0U);
                    ASSERT_NO_FATAL_FAILURE(expect_whole());
                }
                reset_repository_to("pristine");
            },
            error_number);
        expect_whole();
    }
}

INSTANTIATE_TEST_SUITE_P(Kinds, PruneFaultLoop, testing::Bool(),
                         [](const testing::TestParamInfo<bool>& kind) { return kind.param ? "ForGood" : "Once"; });

}  // namespace
}  // namespace nodesnap::test
