// FileChanges against what random operations did: what it calls unchanged is equal, and no more is called changed than was touched.
#include <iostream>
#include <random>

#include "platform/btrfs_changes.h"
#include "platform/extent_map.h"
#include "platform/inode_flags.h"
#include "tests/platform/btrfs_tree_fixture.h"

namespace nodesnap::btrfs {
namespace {

using Kind = ChangedStretch::Kind;

constexpr std::uint64_t kBlocks = 512;
constexpr std::uint64_t kLargest = kBlocks * kBlock;
constexpr std::uint64_t kInline = 2500;  // files up to this are mostly inline, which ends at 2,048

// What may have been touched of one file since the last snapshot, as a writer would tell it.
struct Model {
    std::string name;
    std::uint64_t limit = kLargest;  // of its size
    bool cow = true;
    std::vector<bool> touched = std::vector<bool>(kBlocks);
    bool moved = false;  // data may have been written elsewhere without having been changed

    void touch(std::uint64_t from, std::uint64_t to) {
        for (std::uint64_t block = from / kBlock; block < kBlocks && block * kBlock < to; ++block) {
            touched[block] = true;
        }
    }
    // The block that the old end lies in is written again when the file grows.
    void grow(std::uint64_t old_size, std::uint64_t to) {
        if (to > old_size && old_size % kBlock != 0) {
            touch(old_size, old_size + 1);
        }
    }
    void forget() {
        touched.assign(kBlocks, false);
        moved = false;
    }
};

class RandomChangesTest : public BtrfsTreeTest, public testing::WithParamInterface<const char*> {
protected:
    RandomChangesTest() : BtrfsTreeTest("noatime", {"-O", GetParam()}) {}

    void SetUp() override {
        BtrfsTreeTest::SetUp();
        if (mount_ == nullptr) {
            return;
        }
        files_ = {{"plain"},
                  {"plain2"},
                  {"compressed"},
                  {"compressed2"},
                  {"nocow", kLargest, false},
                  {"small", kInline},
                  {"compressed-small", kInline}};
        for (const Model& file : files_) {
            const FileDescriptor made = open_file(*this / file.name);
            if (file.name.starts_with("compressed")) {
                ASSERT_TRUE(set_inode_flags(made.get(), FS_COMPR_FL));
            } else if (!file.cow) {
                ASSERT_TRUE(set_inode_flags(made.get(), FS_NOCOW_FL));
            }
        }
    }

    std::uint64_t below(std::uint64_t limit) { return random_() % limit; }
    std::uint64_t size_of(const Model& file) { return stat_path(*this / file.name).value().stx_size; }
    // Mostly small, sometimes so that a compressed extent is full.
    std::uint64_t some_length() { return 1 + below(below(4) == 0 ? 400 * kKiB : 20 * kKiB); }

    void write_something(Model& file);
    void truncate_somewhere(Model& file);
    void allocate_something(Model& file);
    void clone_something(Model& file);
    void operate();
    void move_something();

    void compare(const Snapshot& parent, const Snapshot& now, const Model& file);

    std::mt19937_64 random_;
    std::vector<Model> files_;
};

void RandomChangesTest::write_something(Model& file) {
    const std::uint64_t size = size_of(file);
    const std::uint64_t offset = below(3) == 0 ? std::min(size, file.limit - 1) : below(file.limit);
    const std::uint64_t length = std::min(some_length(), file.limit - offset);
    std::vector<std::byte> data(length);
    for (std::size_t i = 0; i < length; ++i) {
        data[i] = i % 512 == 0 ? static_cast<std::byte>(random_()) : data[i - 1];
    }
    pwrite_all(open_file(*this / file.name).get(), data, offset, file.name);
    file.touch(offset, offset + length);
    file.grow(size, offset + length);
}

void RandomChangesTest::truncate_somewhere(Model& file) {
    const std::uint64_t size = size_of(file);
    const std::uint64_t to = below(4) == 0 ? below(kInline) : below(file.limit);
    resize(*this / file.name, to);
    file.grow(size, to);
    if (to <= size) {
        file.touch(to, kLargest);  // also what was allocated beyond the end
    }
}

void RandomChangesTest::allocate_something(Model& file) {
    static constexpr int kModes[] = {0,
                                     FALLOC_FL_KEEP_SIZE,
                                     FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                                     FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                                     FALLOC_FL_ZERO_RANGE,
                                     FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE};
    const std::uint64_t size = size_of(file);
    const std::uint64_t offset = below(file.limit);
    const std::uint64_t length = std::min(some_length(), file.limit - offset);
    allocate(*this / file.name, kModes[below(std::size(kModes))], offset, length);
    file.touch(offset, offset + length);
    file.grow(size, offset + length);
}

void RandomChangesTest::clone_something(Model& file) {
    const Model& source = files_[below(files_.size())];
    const std::uint64_t source_blocks = size_of(source) / kBlock;
    if (source.cow != file.cow || source_blocks == 0 || file.limit != kLargest) {
        return;  // data with and without checksums don't go together
    }
    const std::uint64_t size = size_of(file);
    const std::uint64_t from = below(source_blocks) * kBlock;
    // Often to the same place, or next to it, where it may be another piece of the same extent.
    const std::uint64_t shift = below(3) == 0 ? 0 : 1 + below(16);
    const std::uint64_t to = below(2) == 0 ? below(kBlocks) * kBlock : std::min(from + shift * kBlock, kLargest - kBlock);
    const std::uint64_t blocks = 1 + below(below(2) == 0 ? 8 : 64);
    const std::uint64_t length = std::min({blocks * kBlock, source_blocks * kBlock - from, kLargest - to});
    if (source.name == file.name && from < to + length && to < from + length) {
        return;  // mustn't overlap
    }
    clone_range(*this / source.name, from, length, *this / file.name, to);
    file.touch(to, to + length);
    file.grow(size, to + length);
}

void RandomChangesTest::operate() {
    Model& file = files_[below(files_.size())];
    switch (below(file.limit == kLargest ? 8 : 16)) {
        case 0:
            truncate_somewhere(file);
            break;
        case 1:
        case 2:
            allocate_something(file);
            break;
        case 3:
        case 4:
            clone_something(file);
            break;
        default:
            write_something(file);
    }
    if (below(5) == 0) {
        sync_path(*this / file.name);
    }
}

void RandomChangesTest::move_something() {
    if (below(8) == 0) {
        Model& file = files_[below(files_.size())];
        test::run({"btrfs", "filesystem", "defragment", "-f", *this / file.name});
        file.moved = true;
    }
    if (below(20) == 0) {
        test::run({"btrfs", "balance", "start", below(2) == 0 ? "--full-balance" : "-d", mount_->path()});
        for (Model& file : files_) {
            file.moved = true;
        }
    }
}

std::vector<Kind> kinds_of(const std::string& path) {
    std::vector<Kind> kinds(kBlocks, Kind::kHole);
    const FileDescriptor file = open_file(path, O_RDONLY);
    ExtentReader reader(file.get(), path);
    for (Extent extent; reader.next(extent);) {
        for (std::uint64_t block = extent.logical / kBlock; block < kBlocks && block * kBlock < extent.end(); ++block) {
            kinds[block] = extent.unwritten() ? Kind::kUnwritten : Kind::kData;
        }
    }
    return kinds;
}

std::vector<std::byte> contents_of(const std::string& path) {
    std::vector<std::byte> contents(kLargest);
    pread_some(open_file(path, O_RDONLY).get(), contents, 0, path);
    return contents;
}

void RandomChangesTest::compare(const Snapshot& parent, const Snapshot& now, const Model& file) {
    const std::uint64_t size = stat_path(now / file.name).value().stx_size;
    const std::uint64_t old_size = stat_path(parent / file.name).value().stx_size;
    const std::uint64_t changed_from = size == old_size ? UINT64_MAX : std::min(size, old_size) / kBlock * kBlock;
    const std::vector<Kind> kinds = kinds_of(now / file.name);
    const std::vector<Kind> old_kinds = kinds_of(parent / file.name);
    const std::vector<std::byte> contents = contents_of(now / file.name);
    const std::vector<std::byte> old_contents = contents_of(parent / file.name);

    FileChanges changes(parent.fd.get(), now.fd.get(), ino_of(now / file.name), changed_from, kLargest, now.path);
    std::vector<bool> changed(kBlocks);
    ChangedStretch last;
    for (ChangedStretch stretch; changes.next(stretch); last = stretch) {
        ASSERT_GT(stretch.length, 0u);
        ASSERT_TRUE(stretch.offset % kBlock == 0 && stretch.length % kBlock == 0);
        ASSERT_LE(stretch.end(), kLargest);
        ASSERT_TRUE(last.length == 0 || last.end() < stretch.offset || (last.end() == stretch.offset && last.kind != stretch.kind));
        for (std::uint64_t block = stretch.offset / kBlock; block < stretch.end() / kBlock; ++block) {
            changed[block] = true;
            ASSERT_EQ(kinds[block], stretch.kind) << "block " << block;
            ASSERT_TRUE(file.touched[block] || file.moved || block * kBlock >= changed_from) << "block " << block << " wasn't touched";
        }
    }
    for (std::uint64_t block = 0; block < kBlocks; ++block) {
        if (!changed[block]) {
            ASSERT_EQ(kinds[block], old_kinds[block]) << "block " << block;
            ASSERT_EQ(std::memcmp(&contents[block * kBlock], &old_contents[block * kBlock], kBlock), 0) << "block " << block;
        }
    }
}

TEST_P(RandomChangesTest, UnchangedIsEqualAndChangedWasTouched) {
    constexpr int kRounds = 120;
    const auto seed = std::random_device{}();
    std::cout << "seed " << seed << '\n';
    random_.seed(seed);
    for (int i = 0; i < 20; ++i) {
        operate();
    }
    Snapshot parent = snapshot();
    for (int round = 0; round < kRounds; ++round) {
        for (Model& file : files_) {
            file.forget();
        }
        for (std::uint64_t left = 1 + below(10); left > 0; --left) {
            operate();
        }
        move_something();
        Snapshot now = snapshot();
        for (const Model& file : files_) {
            SCOPED_TRACE(file.name + ", round " + std::to_string(round) + ", seed " + std::to_string(seed));
            ASSERT_NO_FATAL_FAILURE(compare(parent, now, file));
        }
        delete_subvolume(open_file(mount_->path(), O_RDONLY).get(), parent.path.substr(mount_->path().size() + 1));
        parent = std::move(now);
    }
}

INSTANTIATE_TEST_SUITE_P(Formats, RandomChangesTest, testing::Values("no-holes", "^no-holes"),
                         [](const auto& format) { return format.param[0] == '^' ? "ExplicitHoles" : "NoHoles"; });

}  // namespace
}  // namespace nodesnap::btrfs
