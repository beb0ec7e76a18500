#include "snapshot/diff.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <set>

#include "snapshot/tree_path.h"
#include "tests/repository/sample.h"
#include "tests/snapshot/made_repository.h"
#include "tests/support/loop_mount.h"

namespace nodesnap::test {
namespace {

using FileRun = nodesnap::Run;
using Kind = PathChange::Kind;

constexpr std::uint64_t kRoot = MadeBackup::kRoot;

Inode small_file(const std::string& content) {
    Inode inode;
    inode.mode = 0644;
    inode.size = content.size();
    inode.content = to_bytes(content);
    inode.generation = 1;
    return inode;
}

class Diff : public testing::Test {
protected:
    Diff() : repository_(made_.open()) {}

    // A backup of: a, b (in data/), data/deep/c; the same each time.
    MadeBackup usual() {
        MadeBackup backup;
        backup.directory(2);
        backup.name(kRoot, "data", 2, FileType::kDirectory);
        backup.directory(3);
        backup.name(2, "deep", 3, FileType::kDirectory);
        backup.inode(10, small_file("aaaa"));
        backup.name(kRoot, "a", 10);
        backup.inode(11, small_file("bbbbbb"));
        backup.name(2, "b", 11);
        backup.inode(12, small_file("cc"));
        backup.name(3, "c", 12);
        return backup;
    }

    DiffTotals diff(const Manifest& before, const Manifest& after, bool all = false) {
        changes_.clear();
        DiffOptions options;
        options.all = all;
        options.scratch_directory = scratch_.path();
        return run_diff(repository_, before, after, options, [this](const PathChange& change) { changes_.push_back(change); });
    }
    // The changes as "+ path", "R old -> new".
    std::vector<std::string> lines() const {
        std::vector<std::string> lines;
        for (const PathChange& change : changes_) {
            const std::string old_path = change.kind == Kind::kRenamed ? change.old_path + " -> " : "";
            lines.push_back(std::string(1, "+-MaR"[static_cast<int>(change.kind)]) + " " + old_path + change.path);
        }
        return lines;
    }
    using Lines = std::vector<std::string>;

    // Publishes the usual backup, and it again as `edit` leaves it; compares them.
    DiffTotals after_edit(const std::function<void(MadeBackup&)>& edit, bool all = false) {
        MadeBackup before = usual();
        MadeBackup after = usual();
        edit(after);
        const Manifest a = before.publish(repository_);
        const Manifest b = after.publish(repository_);
        return diff(a, b, all);
    }

    MadeRepository made_;
    Repository repository_;
    ScratchDirectory scratch_;
    std::vector<PathChange> changes_;
};

TEST_F(Diff, EqualBackupsDoNotDiffer) {
    EXPECT_FALSE(after_edit([](MadeBackup&) {}).any());
    EXPECT_EQ(lines(), Lines{});
    EXPECT_FALSE(after_edit([](MadeBackup&) {}, true).any());
}

TEST_F(Diff, TellsAddedAndRemovedNamesInOrderOfPaths) {
    const DiffTotals totals = after_edit([](MadeBackup& backup) {
        backup.erase(key::dirent(2, "b"));
        backup.erase(key::inode(11));
        backup.directory(20);
        backup.name(kRoot, "data.new", 20, FileType::kDirectory);
        backup.inode(21, small_file("12345"));
        backup.name(20, "x", 21);
        backup.inode(22, small_file("1"));
        backup.name(3, "d", 22);
    });
    // What is in data comes before data.new, though '/' follows '.'.
    EXPECT_EQ(lines(), (Lines{"- data/b", "+ data/deep/d", "+ data.new", "+ data.new/x"}));
    EXPECT_EQ(totals.added, 3U);
    EXPECT_EQ(totals.added_bytes, 6U);
    EXPECT_EQ(totals.removed, 1U);
    EXPECT_EQ(totals.removed_bytes, 6U);
    EXPECT_EQ(changes_[0].files.before.size, 6U);
}

TEST_F(Diff, AMovedFileAndAMovedDirectoryAreOneChangeEach) {
    after_edit([](MadeBackup& backup) {
        backup.erase(key::dirent(2, "b"));
        backup.name(kRoot, "0", 11);
        backup.erase(key::dirent(2, "deep"));
        backup.name(kRoot, "shallow", 3, FileType::kDirectory);
        backup.inode(12, small_file("changed"));
    });
    EXPECT_EQ(lines(), (Lines{"R data/b -> 0", "R data/deep -> shallow", "M shallow/c"}));
    EXPECT_FALSE(changes_[0].change.any());
}

TEST_F(Diff, RecordsAreComparedWhateverTheirSize) {
    for (const std::size_t size : {1U, 400U, 600U, 2000U}) {
        const std::string content(size, 'x');
        MadeBackup before = usual();
        before.inode(10, small_file(content));
        before.inode(11, small_file(content));
        before.inode(12, small_file(content));
        MadeBackup after = usual();
        after.inode(10, small_file(content + "y"));
        after.erase(key::dirent(2, "b"));
        after.name(kRoot, "moved", 11);
        after.inode(11, small_file(content));
        after.erase(key::dirent(3, "c"));
        after.erase(key::inode(12));
        after.inode(13, small_file(content));
        after.name(kRoot, "new", 13);
        const Manifest a = before.publish(repository_);
        const Manifest b = after.publish(repository_);
        const DiffTotals totals = diff(a, b);
        EXPECT_EQ(lines(), (Lines{"M a", "- data/deep/c", "R data/b -> moved", "+ new"})) << size;
        EXPECT_EQ(totals.changed_bytes, size + 1);
        EXPECT_EQ(totals.removed_bytes, size);
        EXPECT_EQ(totals.added_bytes, size);
        EXPECT_EQ(changes_.at(0).files.before.content, to_bytes(content));
        EXPECT_EQ(changes_.at(2).files.after.content, to_bytes(content));
    }
}

TEST_F(Diff, AnotherFileOfTheSameNumberIsNoRename) {
    after_edit([](MadeBackup& backup) {
        backup.erase(key::dirent(2, "b"));
        Inode other = small_file("bbbbbb");
        other.generation = 2;
        backup.inode(11, other);
        backup.name(kRoot, "z", 11);
    });
    EXPECT_EQ(lines(), (Lines{"- data/b", "+ z"}));
}

TEST_F(Diff, AnotherDirectoryOfTheSameNumberHasOtherNames) {
    // The number of data/deep was given to a new directory, whose entry has the old name and the old file's number.
    after_edit([](MadeBackup& backup) {
        backup.erase(key::dirent(2, "deep"));
        Inode directory;
        directory.type = FileType::kDirectory;
        directory.generation = 9;
        backup.inode(3, directory);
        backup.name(kRoot, "new", 3, FileType::kDirectory);
        Inode file = small_file("cc");
        file.generation = 9;
        backup.inode(12, file);
    });
    EXPECT_EQ(lines(), (Lines{"- data/deep", "- data/deep/c", "+ new", "+ new/c"}));
}

TEST_F(Diff, AFileThatTookANameIsComparedWithTheOneThatHadIt) {
    after_edit([](MadeBackup& backup) {
        backup.erase(key::inode(10));
        backup.inode(20, small_file("aaab"));
        backup.name(kRoot, "a", 20);
        backup.erase(key::inode(11));
        backup.inode(21, small_file("bbbbbb"));
        backup.name(2, "b", 21);
    });
    EXPECT_EQ(lines(), (Lines{"M a"}));
    EXPECT_TRUE(changes_[0].replaced);
    EXPECT_EQ(changes_[0].files.ino_before, 10U);
    EXPECT_EQ(changes_[0].files.ino_after, 20U);
}

TEST_F(Diff, AFileThatWasRotatedIsRenamedAndItsSuccessorAdded) {
    after_edit([](MadeBackup& backup) {
        backup.name(kRoot, "a.1", 10);
        backup.inode(20, small_file("new"));
        backup.name(kRoot, "a", 20);
    });
    EXPECT_EQ(lines(), (Lines{"+ a", "R a -> a.1"}));
}

TEST_F(Diff, ANameOfAnotherTypeIsRemovedAndAdded) {
    after_edit([](MadeBackup& backup) {
        backup.erase(key::inode(10));
        backup.directory(20);
        backup.name(kRoot, "a", 20, FileType::kDirectory);
        // The same number too.
        Inode link = small_file("to");
        link.type = FileType::kSymlink;
        backup.inode(11, link);
        backup.name(2, "b", 11, FileType::kSymlink);
    });
    EXPECT_EQ(lines(), (Lines{"- a", "+ a", "- data/b", "+ data/b"}));
}

TEST_F(Diff, HardLinksAreToldAndTheirBytesCountedOnce) {
    MadeBackup before = usual();
    MadeBackup after = usual();
    Inode linked = small_file("bbbbbb");
    linked.links = 2;
    after.inode(11, linked);
    after.name(kRoot, "link", 11);
    linked.content = to_bytes("twice");
    linked.size = 5;
    after.inode(20, linked);
    after.name(kRoot, "one", 20);
    after.name(kRoot, "two", 20);
    const Manifest a = before.publish(repository_);
    const Manifest b = after.publish(repository_);
    DiffTotals totals = diff(a, b);
    EXPECT_EQ(lines(), (Lines{"+ link", "+ one", "+ two"}));
    EXPECT_TRUE(changes_[0].hard_link);
    EXPECT_FALSE(changes_[1].hard_link);
    EXPECT_EQ(totals.added_bytes, 5U);
    totals = diff(b, a);
    EXPECT_EQ(lines(), (Lines{"- link", "- one", "- two"}));
    EXPECT_TRUE(changes_[0].hard_link);
    EXPECT_EQ(totals.removed_bytes, 5U);
    diff(a, b, true);
    EXPECT_EQ(lines(), (Lines{"a data/b", "+ link", "+ one", "+ two"}));
    EXPECT_EQ(changes_[0].change.attributes, kLinksAttribute);
}

TEST_F(Diff, SeveralNamesOfOneFileMayMove) {
    MadeBackup before = usual();
    MadeBackup after = usual();
    before.name(kRoot, "l1", 11);
    before.name(kRoot, "l2", 11);
    after.name(kRoot, "l3", 11);
    const Manifest a = before.publish(repository_);
    const Manifest b = after.publish(repository_);
    EXPECT_EQ(diff(a, b).renamed, 1U);
    ASSERT_EQ(changes_.size(), 2U);
    EXPECT_EQ(diff(b, a).renamed, 1U);
    ASSERT_EQ(changes_.size(), 2U);
}

TEST_F(Diff, TellsWhichAttributesDiffer) {
    const auto attributes_after = [&](const std::function<void(Inode&)>& edit, bool all = false) {
        after_edit(
            [&](MadeBackup& backup) {
                Inode inode = small_file("aaaa");
                edit(inode);
                backup.inode(10, inode);
            },
            all);
        return changes_.empty() ? 0U : changes_[0].change.attributes;
    };
    EXPECT_EQ(attributes_after([](Inode& inode) { inode.mode = 0600; }), kModeAttribute);
    EXPECT_EQ(lines(), (Lines{"a a"}));
    EXPECT_EQ(attributes_after([](Inode& inode) { inode.uid = 5; }), kOwnerAttribute);
    EXPECT_EQ(attributes_after([](Inode& inode) { inode.gid = 5; }), kOwnerAttribute);
    EXPECT_EQ(attributes_after([](Inode& inode) { inode.flags = 16; }), kFlagsAttribute);
    EXPECT_EQ(attributes_after([](Inode& inode) { inode.modified = {5, 5}; }), kTimesAttribute);
    EXPECT_EQ(attributes_after([](Inode& inode) { inode.accessed = inode.changed = {5, 5}; }), 0U);
    EXPECT_EQ(attributes_after([](Inode& inode) { inode.accessed = {5, 5}; }, true), kTimesAttribute);
}

TEST_F(Diff, AttributesOfFilesAndDirectoriesAreCompared) {
    const auto with_xattr = [](const std::string& name, const std::string& value) {
        return [=](MadeBackup& backup) {
            Inode inode = small_file("aaaa");
            inode.xattr_count = 1;
            backup.inode(10, inode);
            Xattr attribute;
            attribute.value = to_bytes(value);
            attribute.size = value.size();
            backup.put(key::xattr(10, name), encode(attribute));
        };
    };
    MadeBackup one = usual(), other_value = usual(), other_name = usual(), none = usual();
    with_xattr("user.a", "1")(one);
    with_xattr("user.a", "2")(other_value);
    with_xattr("user.b", "1")(other_name);
    Inode directory;
    directory.type = FileType::kDirectory;
    directory.mode = 0700;
    none.inode(2, directory);
    const Manifest a = one.publish(repository_);
    for (MadeBackup* changed : {&other_value, &other_name}) {
        diff(a, changed->publish(repository_));
        EXPECT_EQ(lines(), (Lines{"a a"}));
        EXPECT_EQ(changes_.at(0).change.attributes, kXattrsAttribute);
    }
    diff(a, none.publish(repository_));
    EXPECT_EQ(lines(), (Lines{"a a", "a data"}));
}

TEST_F(Diff, TimesThatFollowFromOtherChangesAreLeftOut) {
    const auto edit = [](MadeBackup& backup) {
        Inode directory;
        directory.type = FileType::kDirectory;
        directory.mode = 0755;
        directory.modified = {7, 7};
        backup.inode(2, directory);
        Inode file = small_file("AAAA");
        file.modified = {7, 7};
        backup.inode(10, file);
    };
    after_edit(edit);
    EXPECT_EQ(lines(), (Lines{"M a"}));
    EXPECT_EQ(changes_[0].change.attributes, 0U);
    after_edit(edit, true);
    EXPECT_EQ(lines(), (Lines{"M a", "a data"}));
    EXPECT_EQ(changes_[0].change.attributes, kTimesAttribute);
}

TEST_F(Diff, BackupsOfDifferentFileSystemsAreComparedByPath) {
    MadeBackup before = usual();
    MadeBackup after;
    // The same files under other numbers, some of which the first backup has for others.
    after.directory(11);
    after.name(kRoot, "data", 11, FileType::kDirectory);
    after.inode(2, small_file("aaaa"));
    after.name(kRoot, "a", 2);
    after.inode(12, small_file("bbbBbb"));
    after.name(11, "b", 12);
    after.inode(10, small_file("cc"));
    after.name(kRoot, "c", 10);
    const Manifest a = before.publish(repository_);
    Manifest b = after.publish(repository_);
    b.node.file_system_uuid = "another";
    const DiffTotals totals = diff(a, b);
    EXPECT_TRUE(totals.by_path);
    EXPECT_EQ(lines(), (Lines{"+ c", "M data/b", "- data/deep", "- data/deep/c"}));
    EXPECT_FALSE(changes_[1].replaced);
}

TEST_F(Diff, FilesThatMovedIntoADirectoryOfTheOldNameKeepTheirPaths) {
    after_edit([](MadeBackup& backup) {
        backup.erase(key::inode(2));
        backup.erase(key::dirent(2, "b"));
        backup.erase(key::dirent(2, "deep"));
        backup.directory(30);
        backup.name(kRoot, "data", 30, FileType::kDirectory);
        backup.name(30, "b", 11);
        backup.name(30, "deep", 3, FileType::kDirectory);
        backup.inode(11, small_file("changed"));
    });
    EXPECT_EQ(lines(), (Lines{"M data/b"}));
    EXPECT_FALSE(changes_[0].replaced);
}

TEST_F(Diff, ANodeDirectoryThatWasReplacedIsComparedByItsNames) {
    MadeBackup before = usual();
    MadeBackup after;
    after.erase(key::inode(kRoot));
    after.directory(30);
    after.inode(10, small_file("aaaa"));
    after.name(30, "a", 10);
    const Manifest a = before.publish(repository_);
    Manifest b = after.publish(repository_);
    b.root_ino = 30;
    diff(a, b);
    EXPECT_EQ(lines(), (Lines{"- data", "- data/b", "- data/deep", "- data/deep/c"}));
}

// A tree as names and inodes, each with one name and contents of its own; numbers aren't used twice.
struct Model {
    std::map<std::pair<std::uint64_t, std::string>, std::uint64_t> names;
    std::map<std::uint64_t, std::string> files;  // contents
    std::set<std::uint64_t> directories = {kRoot};

    bool is_below(std::uint64_t ino, std::uint64_t top) const {
        while (ino != top && ino != kRoot) {
            ino = std::find_if(names.begin(), names.end(), [&](const auto& name) { return name.second == ino; })->first.first;
        }
        return ino == top;
    }
    void remove(std::map<std::pair<std::uint64_t, std::string>, std::uint64_t>::iterator name) {
        const std::uint64_t ino = name->second;
        names.erase(name);
        files.erase(ino);
        directories.erase(ino);
        for (auto inside = names.lower_bound({ino, ""}); inside != names.end() && inside->first.first == ino;
             inside = names.lower_bound({ino, ""})) {
            remove(inside);
        }
    }
    std::map<std::uint64_t, std::string> paths() const {
        std::map<std::uint64_t, std::string> paths = {{kRoot, ""}};
        for (std::size_t found = 0; found != paths.size();) {
            found = paths.size();
            for (const auto& [name, ino] : names) {
                if (const auto directory = paths.find(name.first); directory != paths.end()) {
                    paths[ino] = directory->second + (directory->second.empty() ? "" : "/") + name.second;
                }
            }
        }
        return paths;
    }
    void change(Random& random, std::uint64_t& next) {
        const auto some = [&](auto& set) { return std::next(set.begin(), static_cast<std::ptrdiff_t>(random.below(set.size()))); };
        const std::pair<std::uint64_t, std::string> place(*some(directories), std::string(1, static_cast<char>('a' + random.below(8))));
        const auto there = names.find(place);
        switch (random.below(5)) {
            case 0:
            case 1:  // a new file or directory, instead of what is there
                if (there != names.end()) {
                    remove(there);
                }
                names[place] = next;
                random.chance(3) ? void(directories.insert(next)) : void(files[next] = std::to_string(next));
                ++next;
                break;
            case 2:
                if (there != names.end()) {
                    remove(there);
                }
                break;
            case 3:
                if (!files.empty()) {
                    some(files)->second += "!";
                }
                break;
            default:  // a move
                if (!names.empty() && there == names.end()) {
                    const auto moved = some(names);
                    if (!is_below(place.first, moved->second)) {
                        names[place] = moved->second;
                        names.erase(moved);
                    }
                }
        }
    }
    MadeBackup backup() const {
        MadeBackup backup;
        for (const std::uint64_t ino : directories) {
            backup.directory(ino);
        }
        for (const auto& [ino, content] : files) {
            backup.inode(ino, small_file(content));
        }
        for (const auto& [name, ino] : names) {
            backup.name(name.first, name.second, ino, directories.contains(ino) ? FileType::kDirectory : FileType::kRegular);
        }
        return backup;
    }
};

std::multiset<std::string> expected_lines(const Model& before, const Model& after) {
    const auto paths_before = before.paths();
    const auto paths_after = after.paths();
    std::multiset<std::string> lines;
    std::map<std::string, std::uint64_t> removed, added;
    for (const auto& [name, ino] : before.names) {
        if (const auto found = after.names.find(name); found == after.names.end() || found->second != ino) {
            removed[paths_before.at(ino)] = ino;
        }
    }
    for (const auto& [name, ino] : after.names) {
        const auto found = before.names.find(name);
        if (found != before.names.end() && found->second == ino) {
            if (after.files.contains(ino) && after.files.at(ino) != before.files.at(ino)) {
                lines.insert("M " + paths_after.at(ino));
            }
        } else if (paths_before.contains(ino) && paths_before.at(ino) == paths_after.at(ino)) {
            removed.erase(paths_before.at(ino));
            if (after.files.contains(ino) && after.files.at(ino) != before.files.at(ino)) {
                lines.insert("M " + paths_after.at(ino));
            }
        } else if (paths_before.contains(ino)) {
            lines.insert("R " + paths_before.at(ino) + " -> " + paths_after.at(ino));
            removed.erase(paths_before.at(ino));
        } else {
            added[paths_after.at(ino)] = ino;
        }
    }
    for (const auto& [path, ino] : removed) {
        const auto taken = added.find(path);
        if (taken != added.end() && before.files.contains(ino) == after.files.contains(taken->second)) {
            if (before.files.contains(ino)) {
                lines.insert("M " + path);
            }
            added.erase(taken);
        } else {
            lines.insert("- " + path);
        }
    }
    for (const auto& [path, ino] : added) {
        lines.insert("+ " + path);
    }
    return lines;
}

TEST_F(Diff, TellsWhatWasDoneToRandomTrees) {
    Random random;
    for (int round = 0; round < 150; ++round) {
        Model before;
        std::uint64_t next = 2;
        for (std::uint64_t i = random.below(60); i != 0; --i) {
            before.change(random, next);
        }
        Model after = before;
        for (std::uint64_t i = random.below(20); i != 0; --i) {
            after.change(random, next);
        }
        const Manifest a = before.backup().publish(repository_);
        const Manifest b = after.backup().publish(repository_);
        diff(a, b);
        const auto told = lines();
        ASSERT_EQ(std::multiset<std::string>(told.begin(), told.end()), expected_lines(before, after)) << "round " << round;
        std::string last;
        for (const PathChange& change : changes_) {
            std::string path = change.path;
            std::replace(path.begin(), path.end(), '/', '\0');
            ASSERT_LE(last, path);
            last = path;
        }
        made_ = MadeRepository();
        repository_ = made_.open();
    }
}

// ---- Contents

class DiffOfContents : public Diff {
protected:
    // One file "f" in each of two backups, of data packs of that many segments; tells the bytes that changed.
    ContentChange compare(const std::function<Inode(const PackId&)>& before, const std::function<Inode(const PackId&)>& after,
                          std::uint32_t segments = 6) {
        std::vector<Manifest> manifests;
        for (const auto& make : {before, after}) {
            MadeBackup backup;
            const PackId pack = backup.data_pack(repository_, segments);
            backup.inode(10, make(pack));
            backup.name(kRoot, "f", 10);
            manifests.push_back(backup.publish(repository_));
        }
        diff(manifests[0], manifests[1]);
        return changes_.empty() ? ContentChange{} : changes_[0].change.content;
    }
    static Inode file(std::vector<FileRun> runs, std::uint64_t size = 0) {
        Inode inode;
        inode.mode = 0644;
        inode.size = size != 0 ? size : runs.back().end();
        inode.run_count = runs.size();
        inode.runs = std::move(runs);
        return inode;
    }
    static constexpr std::uint64_t kSegment = MadeBackup::kSegmentBytes;
};

TEST_F(DiffOfContents, EqualBlocksInOtherPacksAreEqual) {
    const auto whole = [](const PackId& pack) { return MadeBackup::file(pack, 0, 3); };
    EXPECT_FALSE(compare(whole, whole).changed);
    EXPECT_TRUE(changes_.empty());
}

TEST_F(DiffOfContents, OnlyBlocksThatDifferCount) {
    // The same segments, but the second is another one's.
    const auto content = compare([](const PackId& pack) { return MadeBackup::file(pack, 0, 3); },
                                 [](const PackId& pack) {
                                     return file({{0, kSegment, pack, 0, 0, 1, FileRun::kNone},
                                                  {kSegment, kSegment, pack, 4, 0, 1, FileRun::kNone},
                                                  {2 * kSegment, kSegment, pack, 2, 0, 1, FileRun::kNone}});
                                 });
    EXPECT_TRUE(content.changed);
    EXPECT_EQ(content.bytes, kSegment);
    EXPECT_EQ(lines(), (Lines{"M f"}));
}

TEST_F(DiffOfContents, BlocksThatAreCutDifferentlyAreNotProvedEqual) {
    // All bytes of a segment are the same here, so the contents are equal; nothing says so.
    const auto content = compare(
        [](const PackId& pack) {
            return file({{0, 50'000, pack, 1, 0, 1, FileRun::kNone}});
        },
        [](const PackId& pack) {
            return file({{0, 50'000, pack, 1, 8, 1, FileRun::kNone}});
        });
    EXPECT_EQ(content.bytes, 50'000U);
    // A piece of a block, at the same place in it, is equal where the block is.
    EXPECT_FALSE(compare(
                     [](const PackId& pack) {
                         return file({{0, 50'000, pack, 1, 8, 1, FileRun::kNone}});
                     },
                     [](const PackId& pack) {
                         return file({{0, 20'000, pack, 1, 8, 1, FileRun::kNone}, {20'000, 30'000, pack, 1, 20'008, 1, FileRun::kNone}});
                     })
                     .changed);
}

TEST_F(DiffOfContents, HolesAndPreallocatedRangesAreNoBytes) {
    const auto data = [](const PackId& pack) { return FileRun{0, kSegment, pack, 0, 0, 1, FileRun::kNone}; };
    const FileRun unwritten{1 << 20, 4096, {}, 0, 0, 0, FileRun::kUnwritten};
    const FileRun damaged{1 << 20, 4096, {}, 0, 0, 0, FileRun::kDamagedSource};
    const auto plain = [&](const PackId& pack) { return file({data(pack)}, 2 << 20); };
    EXPECT_FALSE(compare(plain, [&](const PackId& pack) { return file({data(pack), unwritten}, 2 << 20); }).changed);
    const auto content = compare(plain, [&](const PackId& pack) { return file({data(pack), damaged}, 2 << 20); });
    EXPECT_EQ(content.bytes, 4096U);
    EXPECT_TRUE(content.incomplete);
    // Punched.
    EXPECT_EQ(compare(plain, [&](const PackId&) { return file({}, 2 << 20); }).bytes, kSegment);
    // Made longer by a hole.
    const auto longer = compare(plain, [&](const PackId& pack) { return file({data(pack)}, 3 << 20); });
    EXPECT_TRUE(longer.changed);
    EXPECT_EQ(longer.bytes, 0U);
}

TEST_F(DiffOfContents, AFileThatGrewOutOfItsRecordHasChanged) {
    const auto content = compare([](const PackId&) { return small_file("small"); },
                                 [](const PackId& pack) {
                                     return file({{0, 5000, pack, 0, 0, 1, FileRun::kNone}});
                                 });
    EXPECT_EQ(content.bytes, 5000U);
}

TEST_F(DiffOfContents, AFileWhosePackIsDamagedIsToldAndTheOthersCompared) {
    std::vector<Manifest> manifests;
    for (int i = 0; i < 2; ++i) {
        MadeBackup backup;
        backup.inode(10, MadeBackup::file(backup.data_pack(repository_, 3), 0, 3));
        backup.name(kRoot, "f", 10);
        backup.inode(11, MadeBackup::file(backup.data_pack(repository_, 3), 0, 3));
        backup.name(kRoot, "g", 11);
        backup.inode(12, small_file(std::to_string(i)));
        backup.name(kRoot, "h", 12);
        manifests.push_back(backup.publish(repository_));
    }
    const Inode f = load_inode(repository_, manifests[1], 10);
    const std::string object = layout::pack({layout::PackKind::kData, f.runs.at(0).pack, 0});
    Bytes bytes = made_.target->peek(object);
    std::fill(bytes.end() - 32'768, bytes.end(), std::byte{0});
    made_.target->poke(object, bytes);
    repository_ = made_.open();
    const DiffTotals totals = diff(manifests[0], manifests[1]);
    EXPECT_EQ(lines(), (Lines{"M f", "M h"}));
    EXPECT_NE(changes_[0].damage, "");
    EXPECT_EQ(totals.damaged, 1U);
}

}  // namespace
}  // namespace nodesnap::test
