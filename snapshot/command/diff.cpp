// nodesnap diff: what changed between two backups.
#include "snapshot/diff.h"

#include "snapshot/command/change_listing.h"
#include "snapshot/command/repository_access.h"

namespace nodesnap::command {
namespace {

void declare(OptionSet& options) {
    options.value("as-of", "TIME", "in place of A: the newest backup whose snapshot was taken at TIME or before");
    options.flag("all", "tell too what follows from other changes: all times, also of directories, numbers of links, preallocation");
    options.flag("summary", "only the totals");
    options.value("scratch-dir", "DIR", "for what doesn't fit in memory (default: $TMPDIR or /var/tmp)");
    options.flag("json", "print a JSON document");
}

ExitStatus run(Call& call) {
    const std::string place = call.positional("REPOSITORY");
    const BackupChoice before_choice(call, "A", true);
    const BackupChoice after_choice(call, "B", false);
    call.end_of_positionals();
    DiffOptions options;
    options.all = call.options().flag("all");
    options.scratch_directory = call.options().scratch_directory();
    Repository repository = open_repository(call, place);
    const auto find = [&](const BackupChoice& choice) {
        Manifest manifest = choice.find(repository);
        manifest.packs = {};  // may be many, and aren't needed
        return manifest;
    };
    const Manifest before = find(before_choice);
    const Manifest after = find(after_choice);
    return tell_changes(call, repository, before, after, options, !call.options().flag("summary"));
}

}  // namespace

const Command kDiff = {
    "diff",
    "tell what changed between two backups",
    "nodesnap diff REPOSITORY A B [OPTION]...\n"
    "nodesnap diff REPOSITORY --as-of TIME B [OPTION]...\n",
    "Writes a line for each path that differs, then the totals. A and B name backups as BACKUP does elsewhere; what is told is how to get\n"
    "from A to B:\n"
    "\n"
    "  +  added        M  contents changed: how many bytes, of how many      R  renamed or moved: old -> new\n"
    "  -  removed      a  only attributes: mode, owner, times, xattrs, flags\n"
    "\n"
    "What is in a directory that was moved isn't told again. \"replaced\" is another file under the same name, \"hard link\" a further "
    "name\n"
    "of a file that both backups hold. Contents aren't read: ranges that both backups take from the same place are equal, others where\n"
    "the stored checksums of their blocks (64 KiB) are; so what counts as changed may be a little more than what is, never less. Times of\n"
    "directories, and of files whose contents changed, are told with --all only. In names, bytes that a terminal should not get are\n"
    "written as \\xNN, and a backslash as \\\\. The exit status doesn't depend on whether there are differences. Needs no lock and no "
    "write\n"
    "access.\n",
    "nodesnap diff /backup/node1 3f2a latest\n"
    "nodesnap diff /backup/node1 --as-of \"1d ago\" latest\n",
    "0  done, whether or not there are differences\n"
    "1  failed\n"
    "2  wrong usage\n"
    "3  refused: no such backup, or this isn't a repository\n"
    "4  done; something stored twice has lost a copy\n"
    "5  a backup is damaged, and not all could be compared\n",
    declare,
    run,
};

}  // namespace nodesnap::command
