// Restores of what the backup hasn't got all of: data that is damaged in the repository, and data that its source didn't give. Refused, or
// by --accept-incomplete zeros in its place, each range named; never other bytes.
#include <algorithm>
#include <iostream>

#include "snapshot/restore.h"
#include "snapshot/restore/lost.h"
#include "tests/snapshot/restore_fixture.h"
#include "tests/support/fault_hooks.h"

namespace nodesnap::test {
namespace {

constexpr std::uint64_t kBlock = 64U << 10;

class RestoreIncomplete : public RestoreTest {
protected:
    void fill() {
        fs::create_directories(node() / "d" / "e");
        for (int i = 0; i < 600; ++i) {
            write_file(node() / "d" / ("f" + std::to_string(i)), random_content(random_, static_cast<std::size_t>(i) * 31 % 90'000));
        }
        write_file(node() / "d" / "e" / "large", random_content(random_, (24U << 20) + 77));
        write_file(node() / "d" / "e" / "larger", random_content(random_, 40U << 20));
        fs::create_hard_link(node() / "d" / "f7", node() / "d" / "e" / "linked");
        write_file(node() / "CURRENT", "MANIFEST-1\n");
    }
    RestoreOptions accepting() const {
        auto accepting = options();
        accepting.accept_incomplete = true;
        return accepting;
    }
    // A bit of the pack that holds the most: of data.
    std::string largest_pack() const {
        const auto packs = made_.names("packs/");
        return *std::max_element(packs.begin(), packs.end(), [&](const auto& a, const auto& b) { return made_.size(a) < made_.size(b); });
    }
    // What was restored is what was backed up, but for zeros in the ranges that were told. Returns how many bytes these have.
    std::uint64_t expect_right_bytes_or_zeros(const std::vector<LostRange>& lost) {
        std::uint64_t bytes = 0;
        std::map<std::string, std::string> wanted;
        for (const auto& entry : fs::recursive_directory_iterator(node())) {
            if (entry.is_regular_file()) {
                wanted[entry.path().lexically_relative(node()).string()] = read_file(entry.path());
            }
        }
        for (const auto& range : lost) {
            EXPECT_EQ(range.cause, LostRange::Cause::kStored);
            auto& content = wanted.at(range.path);
            EXPECT_LE(range.offset + range.length, content.size()) << range.path;
            std::fill_n(content.begin() + static_cast<std::ptrdiff_t>(range.offset), range.length, '\0');
            bytes += range.length;
        }
        const auto linked = [](const std::string& path) { return path == "d/f7" || path == "d/e/linked"; };  // one inode, told once
        for (const auto& [path, content] : wanted) {
            EXPECT_TRUE(linked(path) || read_file(place() / path) == content) << path;
        }
        return bytes;
    }
    std::string warnings() const {
        std::string all;
        for (const auto& warning : report_.warnings()) {
            all += warning + "\n";
        }
        return all;
    }
    const DumpOptions zeros{.accept_incomplete = true, .output_name = "out"};
    std::mt19937_64 random_{11};
};

TEST_F(RestoreIncomplete, DamagedDataStopsItUntilZerosAreAccepted) {
    fill();
    const auto backup = back_up();
    const auto pack = largest_pack();
    made_.flip(pack, made_.size(pack) / 2);
    for (int i = 0; i < 2; ++i) {
        EXPECT_EQ(failure_of(backup), ExitStatus::kDamaged);
        EXPECT_NE(message_.find("--accept-incomplete"), std::string::npos) << message_;
        EXPECT_FALSE(fs::exists(place()));
    }
    const auto result = restore(backup, accepting());
    EXPECT_TRUE(result.resumed);
    ASSERT_EQ(result.lost.size(), 1U) << warnings();
    EXPECT_LE(expect_right_bytes_or_zeros(result.lost), kBlock);
    EXPECT_EQ(report_.count(), 1U);
    const auto& range = result.lost.front();
    EXPECT_NE(warnings().find(range.path + " is incomplete: zeros stand for bytes " + std::to_string(range.offset) + " to "),
              std::string::npos)
        << warnings();
}

TEST_F(RestoreIncomplete, ManyKindsOfDamageCostNoMoreThanTheirBlocks) {
    fill();
    const auto backup = back_up();
    const auto seed = std::random_device{}();
    std::cout << "seed " << seed << '\n';
    std::mt19937_64 random(seed);
    const auto pack = largest_pack();
    constexpr int kHarms = 12;
    for (int i = 0; i < kHarms; ++i) {
        const auto at = random() % (made_.size(pack) * 9 / 10);
        if (i % 2 == 0) {
            made_.flip(pack, at);
        } else {
            made_.target->spoil(pack, at);  // can't be read at all
        }
    }
    auto options = accepting();
    options.workers = 3;
    const auto result = restore(backup, options);
    EXPECT_GT(result.lost.size(), 0U);
    EXPECT_LE(expect_right_bytes_or_zeros(result.lost), kHarms * kBlock);
    // Without a ring the same.
    fs::remove_all(place());
    options.force_blocking = true;
    EXPECT_EQ(restore(backup, options).lost, result.lost);
    // And file by file, without zeros where nothing is lost.
    auto repository = open();
    for (const auto& range : result.lost) {
        const FileDescriptor out(::open((base() / "out").c_str(), O_CREAT | O_TRUNC | O_WRONLY | O_CLOEXEC, 0600));
        EXPECT_THROW(dump_file(repository, backup, range.path, out.get(), {}, report_), Error);
        ASSERT_EQ(::ftruncate(out.get(), 0), 0);
        ASSERT_EQ(::lseek(out.get(), 0, SEEK_SET), 0);
        Report dumped;
        dump_file(repository, backup, range.path, out.get(), zeros, dumped);
        EXPECT_TRUE(read_file(base() / "out") == read_file(place() / range.path)) << range.path;
        EXPECT_EQ(dumped.count(), 1U);
    }
}

TEST_F(RestoreIncomplete, APackThatIsMissingOrCutShortLosesWhatItHeld) {
    fill();
    const auto backup = back_up();
    const auto pack = largest_pack();
    const auto whole = made_.target->peek(pack);
    made_.target->erase(pack);
    EXPECT_EQ(failure_of(backup), ExitStatus::kDamaged);
    EXPECT_NE(message_.find("--accept-incomplete"), std::string::npos) << message_;
    const auto result = restore(backup, accepting());
    EXPECT_GT(expect_right_bytes_or_zeros(result.lost), 20U << 20);
    EXPECT_EQ(read_file(place() / "CURRENT"), "MANIFEST-1\n");  // in the metadata
    EXPECT_NE(warnings().find("d/e/large"), std::string::npos) << warnings();
    fs::remove_all(place());
    made_.target->poke(pack, Bytes(whole.begin(), whole.begin() + static_cast<std::ptrdiff_t>(whole.size() / 2)));
    EXPECT_EQ(restore(backup, accepting()).lost, result.lost);
}

TEST_F(RestoreIncomplete, CutOffItRemembersWhatItHasPutZerosFor) {
    fill();
    const auto backup = back_up();
    const auto pack = largest_pack();
    for (const auto tenth : {1, 3, 5, 8}) {
        made_.flip(pack, made_.size(pack) / 10 * static_cast<std::size_t>(tenth));
    }
    const auto wanted = restore(backup, accepting()).lost;
    // What lies where in a pack depends on which file was read first: a byte may be padding, and two may be in neighbouring blocks.
    ASSERT_GE(wanted.size(), 2U);
    fs::remove_all(place());
    const pid_t child = ::fork();
    if (child == 0) {
        FaultHooks hooks;
        hooks.kill_at_step("restore.durable");
        restore(backup, accepting());
        ::_exit(0);
    }
    int status = 0;
    ::waitpid(child, &status, 0);
    ASSERT_TRUE(WIFSIGNALED(status));
    // Nothing of it passes for whole, also where nothing that is left to do is damaged.
    EXPECT_EQ(failure_of(backup), ExitStatus::kRefused);
    EXPECT_NE(message_.find("--accept-incomplete"), std::string::npos) << message_;
    const auto result = restore(backup, accepting());
    EXPECT_TRUE(result.resumed);
    EXPECT_EQ(result.lost, wanted);
    expect_right_bytes_or_zeros(result.lost);
}

TEST_F(RestoreIncomplete, WhatIsRestoredAnewAfterARepairIsNotLostAnyMore) {
    fill();
    const auto backup = back_up();
    const auto pack = largest_pack();
    for (const auto tenth : {2, 5, 9}) {
        made_.flip(pack, made_.size(pack) / 10 * static_cast<std::size_t>(tenth));
    }
    const auto wanted = restore(backup, accepting()).lost;
    fs::remove_all(place());
    const pid_t child = ::fork();
    if (child == 0) {
        FaultHooks hooks;
        hooks.kill_at_step("restore.durable");
        restore(backup, accepting());
        ::_exit(0);
    }
    ::waitpid(child, nullptr, 0);
    fs::remove_all(staging() / "content" / "d");  // so that all is done again
    for (const auto tenth : {2, 5, 9}) {
        made_.flip(pack, made_.size(pack) / 10 * static_cast<std::size_t>(tenth));
    }
    report_.warn("from here on");
    EXPECT_TRUE(restore(backup, accepting()).lost.empty());
    EXPECT_EQ(report_.warnings().back(), "from here on");
    EXPECT_EQ(picture_of(place()), picture_of(node()));
}

TEST_F(RestoreIncomplete, OfASourceThatCouldNotBeReadWhatIsWholeNeedsNoWord) {
    auto repository = open();
    MadeBackup made;
    const auto pack = made.data_pack(repository, 4);
    made.directory(2);
    made.name(MadeBackup::kRoot, "d", 2, FileType::kDirectory);
    made.inode(3, MadeBackup::file(pack, 0, 2));
    made.name(2, "whole", 3);
    auto holey = MadeBackup::file(pack, 2, 1);
    holey.runs.push_back({MadeBackup::kSegmentBytes, 8192, {}, 0, 0, 0, nodesnap::Run::kDamagedSource});
    holey.run_count = 2;
    holey.size += 8192;
    holey.damaged = true;
    made.inode(4, holey);
    made.name(2, "holey", 4);
    Inode unread;
    unread.type = FileType::kSymlink;
    unread.damaged = true;
    made.inode(5, unread);
    made.name(MadeBackup::kRoot, "unread", 5, FileType::kSymlink);
    auto backup = made.publish(repository);
    backup.damaged = true;

    EXPECT_EQ(failure_of(backup), ExitStatus::kRefused);
    EXPECT_NE(message_.find("incomplete"), std::string::npos) << message_;
    auto some = options();
    some.paths = {"d"};
    EXPECT_EQ(failure_of(backup, some), ExitStatus::kRefused);
    EXPECT_NE(message_.find("d/holey"), std::string::npos) << message_;
    some.paths = {"d/whole"};
    EXPECT_EQ(failure_of(backup, some), ExitStatus::kDone) << message_;
    EXPECT_EQ(report_.count(), 0U) << warnings();
    fs::remove_all(place());

    const auto result = restore(backup, accepting());
    const std::vector<LostRange> wanted{{"d/holey", MadeBackup::kSegmentBytes, 8192, LostRange::Cause::kSource},
                                        {"unread", 0, 0, LostRange::Cause::kSource}};
    EXPECT_EQ(result.lost, wanted);
    EXPECT_EQ(read_file(place() / "d" / "holey"), std::string(MadeBackup::kSegmentBytes, '\3') + std::string(8192, '\0'));
    EXPECT_FALSE(fs::is_symlink(place() / "unread"));
    EXPECT_NE(warnings().find("could not be read when the backup was made"), std::string::npos) << warnings();

    const FileDescriptor out(::open((base() / "out").c_str(), O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
    try {
        dump_file(repository, backup, "d/holey", out.get(), {}, report_);
        ADD_FAILURE() << "zeros without a word";
    } catch (const Error& error) {
        EXPECT_EQ(error.status(), ExitStatus::kRefused);
    }
    EXPECT_EQ(fs::file_size(base() / "out"), 0U);
    Report dumped;
    dump_file(repository, backup, "d/holey", out.get(), zeros, dumped);
    EXPECT_EQ(dumped.count(), 1U);
    EXPECT_EQ(read_file(base() / "out"), read_file(place() / "d" / "holey"));
}

TEST_F(RestoreIncomplete, AnAttributeThatIsDamagedIsLeftOutAndTold) {
    auto repository = open();
    MadeBackup made;
    const auto pack = made.data_pack(repository, 2);
    auto file = MadeBackup::file(pack, 0, 1);
    file.xattr_count = 1;
    made.inode(3, file);
    made.name(MadeBackup::kRoot, "a", 3);
    Xattr value;
    value.size = 3000;
    value.runs = {nodesnap::Run{0, 3000, pack, 1, 5, 1, nodesnap::Run::kNone}};
    made.put(key::xattr(3, "user.large"), encode(value));
    const auto backup = made.publish(repository);
    made_.flip(made_.data_pack(), made_.size(made_.data_pack()) / 2);  // in the second of two segments
    EXPECT_EQ(failure_of(backup), ExitStatus::kDamaged);
    EXPECT_NE(message_.find("user.large"), std::string::npos) << message_;
    const auto result = restore(backup, accepting());
    EXPECT_TRUE(result.lost.empty());
    EXPECT_NE(warnings().find("user.large"), std::string::npos) << warnings();
    EXPECT_EQ(read_file(place() / "a"), std::string(MadeBackup::kSegmentBytes, '\1'));
}

TEST_F(RestoreIncomplete, WhatNamesTheFilesIsNotPassedOver) {
    fill();
    const auto backup = back_up();
    for (const auto& nodes : made_.names("nodes/")) {
        made_.target->erase(nodes);
    }
    EXPECT_EQ(failure_of(backup, accepting()), ExitStatus::kDamaged);
    EXPECT_FALSE(fs::exists(place()));
}

TEST(RestoreLost, JoinsWhatTouchesAndForgetsWhatIsRestoredAnew) {
    RestoreLost lost(true);
    const auto stored = LostRange::Cause::kStored;
    lost.add("b", stored, 100, 50);
    lost.add("b", stored, 0, 50);
    lost.add("a", LostRange::Cause::kSource, 0, 10);
    lost.add("b", stored, 50, 50);
    lost.add("b", LostRange::Cause::kSource, 150, 50);
    const std::vector<LostRange> joined{
        {"a", 0, 10, LostRange::Cause::kSource}, {"b", 0, 150, stored}, {"b", 150, 50, LostRange::Cause::kSource}};
    EXPECT_EQ(lost.ranges(), joined);
    lost.forget([] { return std::string("b"); }, 70);
    const std::vector<LostRange> kept{{"a", 0, 10, LostRange::Cause::kSource}, {"b", 0, 70, stored}};
    EXPECT_EQ(lost.ranges(), kept);
    lost.forget([] { return std::string("b"); }, 0);
    for (std::uint64_t i = 0; i < RestoreLost::kRangesLimit + 5; ++i) {
        lost.add("c", stored, 2 * i, 1);
    }
    EXPECT_EQ(lost.ranges().size(), RestoreLost::kRangesLimit);
    EXPECT_EQ(lost.further(), 6U);
    lost.add(std::string(RestoreLost::kNamesLimit, 'x'), stored, 0, 1);
    EXPECT_EQ(lost.further(), 7U);
}

}  // namespace
}  // namespace nodesnap::test
