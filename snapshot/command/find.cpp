// nodesnap find: which backups hold a path.
#include "snapshot/command/file_listing.h"
#include "snapshot/command/printable.h"
#include "snapshot/command/repository_access.h"
#include "snapshot/exclude.h"
#include "snapshot/tree_path.h"

namespace nodesnap::command {
namespace {

void declare(OptionSet& options) {
    options.flag("json", "print a JSON document");
}

// Searches backup by backup and writes what it finds.
class Search {
public:
    Search(Call& call, Repository& repository, std::string pattern)
        : call_(call),
          repository_(repository),
          pattern_(std::move(pattern)),
          rules_({pattern_}),
          is_path_(pattern_.find('/') != std::string::npos && pattern_.find_first_of("*?[\\") == std::string::npos) {}

    void in(const Manifest& manifest) {
        const OwnerNames owners(repository_, manifest);
        if (is_path_) {
            if (const auto found = find_path(repository_, manifest, pattern_)) {
                write(manifest, owners, normalized_path(pattern_), found->first, found->second);
            }
            return;
        }
        TreeWalker walker(repository_, manifest, manifest.root_ino);
        TreeStep step;
        while (walker.next(step)) {
            const bool directory = step.kind == TreeStep::Kind::kEnter;
            if (step.kind == TreeStep::Kind::kLeave || (directory && step.depth == 0)) {
                continue;
            }
            const std::string path = walker.path();
            if (rules_.matches(path, directory)) {
                write(manifest, owners, path, step.entry.ino, load_inode(repository_, manifest, step.entry.ino));
            }
        }
    }
    std::uint64_t found() const { return found_; }

private:
    void write(const Manifest& manifest, const OwnerNames& owners, const std::string& path, std::uint64_t ino, const Inode& inode) {
        call_.check_output();
        ++found_;
        if (!call_.json()) {
            call_.out() << short_id(manifest.id) << "  " << utc(manifest.snapshot_time_ns) << "  " << file_line(path, inode, owners)
                        << '\n';
            return;
        }
        JsonWriter& document = call_.document();
        document.begin_object();
        document.member("backup", manifest.id.hex());
        write_file(document, path, ino, inode, owners);
        document.end();
    }

    Call& call_;
    Repository& repository_;
    std::string pattern_;
    ExcludeRules rules_;
    bool is_path_;
    std::uint64_t found_ = 0;
};

ExitStatus run(Call& call) {
    const std::string place = call.positional("REPOSITORY");
    const std::string pattern = call.positional("PATTERN");
    call.end_of_positionals();
    Repository repository = open_repository(call, place);
    Search search(call, repository, pattern);
    if (call.json()) {
        call.document().begin_array("found");
    }
    bool damaged = false;
    repository.for_each_backup([&](const BackupEntry& entry) {
        try {
            if (!entry.manifest) {
                throw Error::damaged(entry.object, entry.damage);
            }
            search.in(*entry.manifest);
        } catch (const Error& error) {
            if (error.status() != ExitStatus::kDamaged) {
                throw;
            }
            // The other backups may hold it all the same.
            damaged = true;
            call.report().warn("not searched, or not all of it: " + error.message());
        }
    });
    if (!call.json() && search.found() == 0) {
        call.streams().err << "nodesnap: no backup holds \"" << printable_name(pattern) << "\"\n";
    }
    return damaged ? ExitStatus::kDamaged : ExitStatus::kDone;
}

}  // namespace

const Command kFind = {
    "find",
    "tell which backups hold a path",
    "nodesnap find REPOSITORY PATTERN [OPTION]...\n",
    "Writes a line for each file that fits, in each backup, the oldest backup first: the backup, when its snapshot was taken, and\n"
    "the file with its size and time. A PATTERN without '/' fits a name in any directory, one with '/' a path from the node\n"
    "directory; '*' and '?' fit within a name, \"**\" across directories, as in --exclude. A plain path (data/CURRENT) is looked up\n"
    "directly; a pattern reads all names of all backups. Needs no lock and no write access.\n",
    "nodesnap find /backup/node1 data/CURRENT\n"
    "nodesnap find /backup/node1 '*.sst'\n",
    "0  done; what was found is on standard output\n"
    "1  failed\n"
    "2  wrong usage\n"
    "3  this isn't a repository\n"
    "4  done; something stored twice has lost a copy\n"
    "5  a backup is damaged and could not be searched\n",
    declare,
    run,
};

}  // namespace nodesnap::command
