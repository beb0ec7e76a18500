// Makes a repository whose only backup holds one file with a map of any number of runs, or one in any number of packs: more than a file
// system here could be given in the time of a test.
//
//   synthetic_map REPOSITORY RUNS           REPOSITORY was made by init, and is empty
//   synthetic_map REPOSITORY PACKS packs    a run of 4096 bytes in a pack of its own, for each
//
// The file is called "mapped" and has a byte for each run; byte i is 1 + 7 * i mod 6. The map goes through the drain's own catalog, so that
// the memory of this program is that of a backup which finds as many runs.
#include <sys/resource.h>

#include <cstdio>
#include <cstdlib>
#include <exception>
#include <string>

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

void make(const std::string& place, std::uint64_t count, bool packs) {
    auto repository = Repository::open(open_directory_target(place), [](const Damage&) {});
    const char* scratch = std::getenv("TMPDIR");
    Catalog catalog(scratch == nullptr ? "/var/tmp" : scratch);
    test::MadeBackup backup;
    Inode root;
    root.type = FileType::kDirectory;
    root.mode = 0755;
    catalog.add_inode(test::MadeBackup::kRoot, root);
    Inode file;
    file.mode = 0644;
    file.size = packs ? add_packs(catalog, repository, backup, count) : add_one_pack(catalog, repository, backup, count);
    catalog.add_inode(kFile, file);
    catalog.add_dirent(test::MadeBackup::kRoot, "mapped", Dirent{kFile, FileType::kRegular});
    backup.publish(repository, [&](NodeWriter& nodes) { return catalog.build(repository, nullptr, false, nodes).tree; });
}

}  // namespace

int main(int argc, char** argv) {
    const bool packs = argc == 4 && std::string(argv[3]) == "packs";
    if (argc != 3 && !packs) {
        std::fprintf(stderr, "usage: synthetic_map REPOSITORY RUNS, or synthetic_map REPOSITORY PACKS packs\n");
        return 2;
    }
    try {
        make(argv[1], std::strtoull(argv[2], nullptr, 10), packs);
    } catch (const std::exception& error) {
        std::fprintf(stderr, "synthetic_map: %s\n", error.what());
        return 1;
    }
    return 0;
}
