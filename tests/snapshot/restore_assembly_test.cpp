// Files that lie in very many small pieces, of many packs: put together in memory, and written in large pieces.
#include <algorithm>
#include <fstream>
#include <iostream>

#include "platform/extent_map.h"
#include "platform/file.h"
#include "snapshot/restore/assembly.h"
#include "tests/snapshot/restore_fixture.h"

namespace nodesnap::test {
namespace {

constexpr std::uint64_t kPage = 4096;
constexpr std::uint32_t kPacks = 150;
constexpr std::uint64_t kFile = 3;
constexpr std::uint64_t kTornBytes = 100;  // that the last page lacks

nodesnap::Run data(std::uint64_t offset, std::uint64_t length) {
    nodesnap::Run run;
    run.offset = offset;
    run.length = length;
    return run;
}

RestoreWindow window_of(const std::vector<nodesnap::Run>& runs) {
    RestoreWindow window;
    for (const auto& run : runs) {
        window.parts.push_back({run, 0, run.length});
    }
    return window;
}

std::vector<nodesnap::Run> pages(std::uint64_t count, std::uint64_t distance, std::uint64_t begin = 0) {
    std::vector<nodesnap::Run> runs;
    for (std::uint64_t i = 0; i < count; ++i) {
        runs.push_back(data(begin + i * distance, kPage));
    }
    return runs;
}

TEST(RestoreAssemblyLayout, StretchesBeginWhereTheyDoInABlock) {
    auto runs = pages(20, kPage, 4 * kPage);
    runs.push_back(data(24 * kPage, 100));
    auto hole = data(25 * kPage, kPage);
    hole.flags = nodesnap::Run::kUnwritten;
    runs.push_back(hole);
    const auto further = pages(20, kPage, 30 * kPage + 5);
    runs.insert(runs.end(), further.begin(), further.end());
    auto assembly = RestoreAssembly::of(window_of(runs));
    ASSERT_TRUE(assembly);
    ASSERT_EQ(assembly->stretches().size(), 2U);
    EXPECT_EQ(assembly->stretches()[0].length, 20 * kPage + 100);
    EXPECT_EQ(assembly->stretches()[1].at, 21 * kPage + 5);
    AssemblyRoom room(assembly->memory_bytes());
    assembly->use(room.span());
    for (auto part = runs.rbegin(); part != runs.rend(); ++part) {
        if (part->flags == nodesnap::Run::kNone) {
            assembly->put(part->offset, Bytes(part->length, static_cast<std::byte>(part->offset / kPage)));
        }
    }
    for (const auto& stretch : assembly->stretches()) {
        for (std::uint64_t i = 0; i < stretch.length; ++i) {
            const std::uint64_t page = (stretch.offset + i) / kPage - (i % kPage + stretch.offset % kPage >= kPage ? 1 : 0);
            ASSERT_EQ(assembly->bytes(stretch)[i], static_cast<std::byte>(page)) << stretch.offset + i;
        }
    }
    const Bytes one(1);
    EXPECT_THROW(assembly->put(3 * kPage, one), Error);
    EXPECT_THROW(assembly->put(25 * kPage, one), Error);
    EXPECT_THROW(assembly->put(24 * kPage + 99, Bytes(2)), Error);
}

TEST(RestoreAssemblyLayout, OnlyWhereItGains) {
    EXPECT_TRUE(RestoreAssembly::of(window_of(pages(64, kPage))));
    EXPECT_FALSE(RestoreAssembly::of(window_of(pages(64, 2 * kPage))));  // apart from each other
    constexpr std::uint64_t kLarge = 1U << 20;
    std::vector<nodesnap::Run> large;
    for (std::uint64_t i = 0; i < 8; ++i) {
        large.push_back(data(i * kLarge, kLarge));
    }
    EXPECT_FALSE(RestoreAssembly::of(window_of(large)));
    EXPECT_FALSE(RestoreAssembly::of(window_of({})));
}

class RestoreAssembled : public RestoreTest {
protected:
    RestoreAssembled() : seed_(std::random_device{}()), random_(seed_) { std::cout << "seed " << seed_ << '\n'; }

    // Of every sixteen pages one is a hole and one unwritten; the others come from anywhere.
    Manifest make(std::uint64_t count) {
        Repository repository = made_.open();
        MadeBackup backup;
        std::vector<PackId> packs;
        for (std::uint32_t i = 0; i < kPacks; ++i) {
            packs.push_back(backup.data_pack(repository, 40 + i % 7, kPage));
        }
        content_.assign(count * kPage - kTornBytes, '\0');
        return backup.publish(repository, [&](NodeWriter& nodes) {
            MapBuilder map(nodes);
            for (std::uint64_t number = 0; number < count; ++number) {
                nodesnap::Run run = data(number * kPage, kPage - (number + 1 == count ? kTornBytes : 0));
                if (number % 64 == 20) {
                    continue;
                }
                if (number % 64 == 40) {
                    run.flags = nodesnap::Run::kUnwritten;
                } else {
                    run.pack = packs[random_() % kPacks];
                    run.first = static_cast<std::uint32_t>(random_() % 40);
                    run.count = 1;
                    last_ = run;
                    std::fill_n(content_.begin() + static_cast<std::ptrdiff_t>(run.offset), run.length, static_cast<char>(run.first + 1));
                }
                map.add(run);
            }
            const auto built = map.finish();
            Inode inode;
            inode.mode = 0644;
            inode.size = content_.size();
            inode.runs = built.inline_runs;
            inode.map = built.root;
            inode.run_count = built.run_count;
            Inode root;
            root.type = FileType::kDirectory;
            root.mode = 0755;
            TreeBuilder tree(nodes);
            tree.add(key::inode(MadeBackup::kRoot), encode(root));
            tree.add(key::dirent(MadeBackup::kRoot, "file"), encode(Dirent{kFile, FileType::kRegular}));
            tree.add(key::inode(kFile), encode(inode));
            return tree.finish();
        });
    }

    const std::uint32_t seed_;
    std::mt19937 random_;
    std::string content_;
    nodesnap::Run last_;
};

TEST_F(RestoreAssembled, FileOfManyPacksIsWhatItWas) {
    const auto backup = make(3 * 4096 + 1000);  // several windows
    for (const unsigned workers : {1U, 3U, 16U}) {
        auto options = this->options();
        options.workers = workers;
        restore(backup, options);
        EXPECT_TRUE(read_file(place() / "file") == content_) << workers;
        fs::remove_all(place());
    }
    auto blocking = options();
    blocking.force_blocking = true;
    restore(backup, blocking);
    EXPECT_TRUE(read_file(place() / "file") == content_);
}

// Most of it stays as it is: put together in memory, it would be gaps.
TEST_F(RestoreAssembled, AFileThatIsComparedIsNotAssembled) {
    const auto backup = make(2048);
    restore(backup);
    {
        std::fstream file(place() / "file", std::ios::in | std::ios::out | std::ios::binary);
        for (std::uint64_t page = 0; page < 2048; page += 50) {
            file.seekp(static_cast<std::streamoff>(page * kPage));
            file << std::string(1000, '!');
        }
    }
    auto delta = options();
    delta.delta = delta.in_place = true;
    EXPECT_LT(restore(backup, delta).bytes, content_.size() / 4);
    EXPECT_TRUE(read_file(place() / "file") == content_);
}

TEST_F(RestoreAssembled, HolesStay) {
    const auto backup = make(2048);
    restore(backup);
    const FileDescriptor file = open_path((place() / "file").string(), O_RDONLY);
    const auto data = next_data(file.get(), 0, content_.size(), "file");
    EXPECT_EQ(data.begin, 0U);
    EXPECT_EQ(data.end, 20 * kPage);
}

TEST_F(RestoreAssembled, LostPagesBecomeZerosAndAreTold) {
    const auto backup = make(4096);
    made_.flip(layout::pack({layout::PackKind::kData, last_.pack, 0}), kPackAlignment + last_.first * kPage + 7);
    EXPECT_EQ(failure_of(backup), ExitStatus::kDamaged);
    auto accepting = options();
    accepting.accept_incomplete = true;
    const auto result = restore(backup, accepting);
    EXPECT_FALSE(result.lost.empty());
    for (const auto& range : result.lost) {
        ASSERT_LE(range.offset + range.length, content_.size());
        EXPECT_TRUE(std::all_of(content_.begin() + static_cast<std::ptrdiff_t>(range.offset),
                                content_.begin() + static_cast<std::ptrdiff_t>(range.offset + range.length),
                                [this](char c) { return c == static_cast<char>(last_.first + 1); }));
        std::fill_n(content_.begin() + static_cast<std::ptrdiff_t>(range.offset), range.length, '\0');
    }
    EXPECT_TRUE(read_file(place() / "file") == content_);
}

}  // namespace
}  // namespace nodesnap::test
