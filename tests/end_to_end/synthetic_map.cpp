// Makes a repository whose only backup holds one file with a map of any number of runs, or one in any number of packs: more than a file
// system here could be given in the time of a test. Or one of two backups, the second incremental, between which much has changed.
//
//   synthetic_map REPOSITORY RUNS                  REPOSITORY was made by init, and is empty
//   synthetic_map REPOSITORY PACKS packs           a run of 4096 bytes in a pack of its own, for each
//   synthetic_map REPOSITORY RUNS changed EVERY    runs in many packs; the second backup has each EVERY-th (an even number) elsewhere
//   synthetic_map REPOSITORY FILES renamed         a directory of that many files, all of which were renamed and changed places
//
// The file is called "mapped" and has a byte for each run; byte i is 1 + 7 * i mod 6, but not with "changed", where groups of them lie at
// multiples of 1 MiB. The map goes through the drain's own catalog, so that the memory of this program is that of a backup which finds as
// many runs.
#include <array>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "io/target/directory.h"
#include "snapshot/drain/catalog.h"
#include "tests/snapshot/made_repository.h"

namespace {

using namespace nodesnap;

constexpr std::uint64_t kFile = 2;
constexpr std::uint32_t kSegments = 6;

std::uint32_t segment_of(std::uint64_t number) {
    return static_cast<std::uint32_t>(7 * number % kSegments);
}

// Runs that follow each other lie in different segments, so that no two can be merged.
void add_runs(Catalog& catalog, const PackId& pack, std::uint64_t runs) {
    for (std::uint64_t number = 0; number < runs; ++number) {
        Run run;
        run.offset = number;
        run.length = 1;
        run.pack = pack;
        run.first = segment_of(number);
        run.skip = static_cast<std::uint32_t>(number * 4099 % test::MadeBackup::kSegmentBytes);
        run.count = 1;
        catalog.add_run(kFile, run);
    }
}

constexpr std::uint32_t kPage = 4096;

// Each with a pack. Returns the file's size.
std::uint64_t add_packs(Catalog& catalog, Repository& repository, test::MadeBackup& backup, std::uint64_t packs) {
    for (std::uint64_t number = 0; number < packs; ++number) {
        Run run;
        run.offset = number * kPage;
        run.length = kPage;
        run.pack = backup.data_pack(repository, 1, kPage);
        run.count = 1;
        catalog.add_run(kFile, run);
    }
    return packs * kPage;
}

std::uint64_t add_one_pack(Catalog& catalog, Repository& repository, test::MadeBackup& backup, std::uint64_t runs) {
    add_runs(catalog, backup.data_pack(repository, kSegments), runs);
    return runs;
}

std::string scratch_directory() {
    const char* scratch = std::getenv("TMPDIR");
    return scratch == nullptr ? "/var/tmp" : scratch;
}

Inode file_of(std::uint64_t size) {
    Inode file;
    file.mode = 0644;
    file.size = size;
    return file;
}

void add_directory(Catalog& catalog, std::uint64_t ino) {
    Inode directory;
    directory.type = FileType::kDirectory;
    directory.mode = 0755;
    catalog.add_inode(ino, directory);
}

// What the only or first backup holds besides the file's runs.
void add_names(Catalog& catalog, std::uint64_t size) {
    add_directory(catalog, test::MadeBackup::kRoot);
    catalog.add_inode(kFile, file_of(size));
    catalog.add_dirent(test::MadeBackup::kRoot, "mapped", Dirent{kFile, FileType::kRegular});
}

void make(const std::string& place, std::uint64_t count, bool packs) {
    auto repository = Repository::open(open_directory_target(place), [](const Damage&) {});
    Catalog catalog(scratch_directory());
    test::MadeBackup backup;
    add_names(catalog, packs ? add_packs(catalog, repository, backup, count) : add_one_pack(catalog, repository, backup, count));
    backup.publish(repository, [&](NodeWriter& nodes) { return catalog.build(repository, nullptr, false, nodes).tree; });
}

constexpr std::uint64_t kGroup = 256;  // runs that follow each other
constexpr std::uint64_t kPacks = 64;   // of one backup
constexpr std::uint32_t kPackSegments = 100;

std::uint64_t offset_of(std::uint64_t number) {
    return number / kGroup * kSegmentLimit + number % kGroup;
}

std::vector<PackId> many_packs(Repository& repository, test::MadeBackup& backup) {
    std::vector<PackId> packs;
    while (packs.size() < kPacks) {
        packs.push_back(backup.data_pack(repository, kPackSegments, kPage));
    }
    return packs;
}

// Every `step`-th run from `first` on, in segments with a number that `turn` is added to. Runs with even numbers use segments with even
// numbers, so that where all odd runs have been replaced half of each pack isn't in use.
void add_spread_runs(Catalog& catalog, const std::vector<PackId>& packs, std::uint64_t first, std::uint64_t step, std::uint64_t runs,
                     std::uint64_t turn) {
    for (std::uint64_t number = first; number < runs; number += step) {
        Run run;
        run.offset = offset_of(number);
        run.length = 1;
        run.pack = packs[number / 2 * 7919 % kPacks];
        run.first = static_cast<std::uint32_t>((number * 4099 + turn) % kPackSegments);
        run.skip = static_cast<std::uint32_t>(number * 31 % kPage);
        run.count = 1;
        catalog.add_run(kFile, run);
    }
}

void make_changed(const std::string& place, std::uint64_t runs, std::uint64_t every) {
    auto repository = Repository::open(open_directory_target(place), [](const Damage&) {});
    const std::uint64_t size = runs == 0 ? 0 : offset_of(runs - 1) + 1;
    std::optional<Manifest> first;
    {
        Catalog catalog(scratch_directory());
        test::MadeBackup backup;
        add_names(catalog, size);
        add_spread_runs(catalog, many_packs(repository, backup), 0, 1, runs, 0);
        first = backup.publish(repository, [&](NodeWriter& nodes) { return catalog.build(repository, nullptr, false, nodes).tree; });
    }
    Catalog catalog(scratch_directory());
    test::MadeBackup backup;
    catalog.edit_inode(kFile, file_of(size));
    add_spread_runs(catalog, many_packs(repository, backup), 1, every, runs, kPackSegments / 2);
    backup.publish(repository, [&](NodeWriter& nodes) { return catalog.build(repository, &*first, true, nodes).tree; });
}

// Another order of 0 to count - 1, in which neighbours lie far apart; for a count that has no factor in common with the stride.
std::uint64_t turned(std::uint64_t number, std::uint64_t count) {
    constexpr std::uint64_t kStride = 618'033'983;
    return number * kStride % count;
}

std::string numbered(const char* format, std::uint64_t number) {
    std::array<char, 64> name{};
    std::snprintf(name.data(), name.size(), format, static_cast<unsigned long long>(number));
    return name.data();
}

void add_file(Catalog& catalog, std::uint64_t ino, std::int64_t changed) {
    constexpr std::string_view kContent = "small";
    Inode file = file_of(kContent.size());
    const auto content = std::as_bytes(std::span(kContent));
    file.content.assign(content.begin(), content.end());
    file.changed.seconds = changed;
    catalog.add_inode(ino, file);
}

void make_renamed(const std::string& place, std::uint64_t files) {
    constexpr std::uint64_t kDirectory = 3;
    constexpr std::uint64_t kFirst = 4;
    auto repository = Repository::open(open_directory_target(place), [](const Damage&) {});
    const auto old_name = [](std::uint64_t number) { return numbered("a file with a name of some length %08llu", number); };
    std::optional<Manifest> first;
    {
        Catalog catalog(scratch_directory());
        add_directory(catalog, test::MadeBackup::kRoot);
        add_directory(catalog, kDirectory);
        catalog.add_dirent(test::MadeBackup::kRoot, "directory", Dirent{kDirectory, FileType::kDirectory});
        for (std::uint64_t number = 0; number < files; ++number) {
            add_file(catalog, kFirst + number, 1);
            catalog.add_dirent(kDirectory, old_name(number), Dirent{kFirst + number, FileType::kRegular});
        }
        first = test::MadeBackup().publish(repository,
                                           [&](NodeWriter& nodes) { return catalog.build(repository, nullptr, false, nodes).tree; });
    }
    Catalog catalog(scratch_directory());
    for (std::uint64_t number = 0; number < files; ++number) {
        add_file(catalog, kFirst + number, 2);
        catalog.drop_dirent(kDirectory, old_name(number));
        catalog.add_dirent(kDirectory, numbered("renamed, in another order %08llu", turned(number, files)),
                           Dirent{kFirst + number, FileType::kRegular});
    }
    test::MadeBackup().publish(repository, [&](NodeWriter& nodes) { return catalog.build(repository, &*first, true, nodes).tree; });
}

}  // namespace

int main(int argc, char** argv) {
    const std::string kind = argc > 3 ? argv[3] : "";
    const bool changed = kind == "changed";
    if (argc != (kind.empty() ? 3 : changed ? 5 : 4)) {
        std::fprintf(stderr, "usage: synthetic_map REPOSITORY COUNT [packs | changed EVERY | renamed]\n");
        return 2;
    }
    try {
        const std::uint64_t count = std::strtoull(argv[2], nullptr, 10);
        if (changed) {
            make_changed(argv[1], count, std::strtoull(argv[4], nullptr, 10));
        } else if (kind == "renamed") {
            make_renamed(argv[1], count);
        } else {
            make(argv[1], count, kind == "packs");
        }
    } catch (const std::exception& error) {
        std::fprintf(stderr, "synthetic_map: %s\n", error.what());
        return 1;
    }
    return 0;
}
