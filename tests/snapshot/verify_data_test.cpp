// How run_verify() reads data: that it comes to an end, whatever the packs are like.
#include <gtest/gtest.h>

#include "io/target/directory.h"
#include "snapshot/verify.h"
#include "tests/snapshot/made_repository.h"
#include "tests/support/loop_mount.h"

namespace nodesnap {
namespace {

using test::MadeBackup;

// A few such fill the memory that the indexes of packs may have. One segment holds data, the others have been dropped.
PackId pack_with_a_large_index(Repository& repository, const SessionId& session, std::uint32_t counter) {
    const PackId id = PackId::of(session, counter);
    PackIndex index(layout::PackKind::kData, id, 0);
    const Bytes plain(kPackAlignment, std::byte{7});
    const Checksum sum = repository.hasher()(plain);
    std::uint64_t offset = kPackAlignment;
    index.add({offset, 0, kPackAlignment, kPackAlignment, Codec::kNone}, std::span(&sum, 1));
    while (index.size() < kSegmentsPerPackLimit) {
        offset += kPackAlignment;
        index.drop(index.reserve({offset, 0, 1, 1, Codec::kNone}));
    }
    Bytes object = pack_head(repository.info().uuid, layout::PackKind::kData, id, 0);
    object.insert(object.end(), plain.begin(), plain.end());
    const Bytes tail = pack_tail(repository.info().uuid, index, object.size());
    object.insert(object.end(), tail.begin(), tail.end());
    EXPECT_TRUE(repository.target().create(layout::pack({layout::PackKind::kData, id, 0}), object));
    return id;
}

TEST(VerifyData, WorkersDoNotWaitForPacksThatWaitForThem) {
    const test::ScratchDirectory scratch;
    const auto target = open_directory_target(scratch.path());
    Repository::create(*target, "node1");
    Repository repository = Repository::open(target, [](const Damage&) {});
    const SessionId session = SessionId::random();
    MadeBackup backup;
    constexpr std::uint32_t kPacks = 40;
    for (std::uint32_t number = 0; number < kPacks; ++number) {
        Inode file;
        file.mode = 0644;
        file.size = kPackAlignment;
        file.runs = {nodesnap::Run{0, file.size, pack_with_a_large_index(repository, session, number), 0, 0, 1, nodesnap::Run::kNone}};
        file.run_count = 1;
        backup.refers_to(file.runs[0].pack);
        backup.inode(10 + number, file);
        backup.name(MadeBackup::kRoot, "file" + std::to_string(number), 10 + number);
    }
    backup.publish(repository);
    for (const bool force_blocking : {false, true}) {
        VerifyOptions options;
        options.data = true;
        options.workers = VerifyOptions::kWorkersLimit;
        options.force_blocking = force_blocking;
        Progress progress;
        const VerifyResult result = run_verify(repository, options, progress);
        EXPECT_FALSE(result.needs_repair());
        EXPECT_EQ(result.coverage.now.packs, kPacks);
    }
}

}  // namespace
}  // namespace nodesnap
