// nodesnap dump: writes one file of a backup to standard output or to a new file.
#include <fcntl.h>

#include <algorithm>

#include "platform/file.h"
#include "snapshot/command/printable.h"
#include "snapshot/command/repository_access.h"
#include "snapshot/restore.h"

namespace nodesnap::command {
namespace {

void declare(OptionSet& options) {
    declare_as_of(options);
    options.flag("accept-incomplete", "zeros for what the backup hasn't got: not read when it was made, or damaged since");
    options.value("output", "FILE", "write to this new file; \"-\" is standard output, even if that is a terminal");
}

// A file that must not have existed; removed again unless the dump is complete.
class NewFile {
public:
    explicit NewFile(std::string path) : path_(std::move(path)), file_(open_path(path_, O_WRONLY | O_CREAT | O_EXCL, 0600)) {}
    NewFile(const NewFile&) = delete;
    NewFile& operator=(const NewFile&) = delete;
    ~NewFile() {
        if (!complete_) {
            try {
                remove_file(path_);
            } catch (const Error&) {
                // What made the dump fail is what the operator must hear of.
            }
        }
    }
    int fd() const { return file_.get(); }
    void finish() {
        sync_file(fd(), path_);
        complete_ = true;
    }

private:
    std::string path_;
    FileDescriptor file_;
    bool complete_ = false;
};

const CapturedFile* find_captured(const Manifest& manifest, const std::string& path) {
    const auto found =
        std::find_if(manifest.captured.begin(), manifest.captured.end(), [&](const CapturedFile& file) { return file.path == path; });
    return found == manifest.captured.end() ? nullptr : &*found;
}

ExitStatus run(Call& call) {
    const std::string place = call.positional("REPOSITORY");
    const BackupChoice choice(call);
    const std::string path = call.positional("PATH");
    call.end_of_positionals();
    const std::string output = call.options().text("output");
    if (output.empty() && call.streams().out_is_terminal) {
        throw Error::refused("standard output is a terminal, and files may hold anything",
                             "redirect it, name a file with --output FILE, or say --output -");
    }
    Repository repository = open_repository(call, place);
    const Manifest manifest = choice.find(repository);
    DumpOptions options;
    options.accept_incomplete = call.options().flag("accept-incomplete");
    const CapturedFile* const captured = find_captured(manifest, path);
    const auto write = [&](int fd) {
        if (captured != nullptr) {
            write_all(fd, std::as_bytes(std::span(captured->content)), options.output_name);
        } else {
            dump_file(repository, manifest, path, fd, options, call.report());
        }
    };
    if (output.empty() || output == "-") {
        write(call.streams().out_fd);
    } else {
        NewFile file(output);
        options.output_name = output;
        write(file.fd());
        file.finish();
    }
    return ExitStatus::kDone;
}

}  // namespace

const Command kDump = {
    "dump",
    "write one file of a backup to standard output",
    "nodesnap dump REPOSITORY BACKUP PATH [OPTION]...\n"
    "nodesnap dump REPOSITORY --as-of TIME PATH [OPTION]...\n",
    "Writes the content of a regular file, or the target of a symlink; PATH is relative to the node directory, or the\n"
    "whole path of a file that was captured from elsewhere (backup --capture). Holes come out as zeros. Every block is verified\n"
    "before it is written; at damage the output ends, with exit status 5, or goes on with zeros if --accept-incomplete says so.\n"
    "Needs no lock and no write access.\n",
    "nodesnap dump /backup/node1 latest data/CURRENT\n"
    "nodesnap dump /backup/node1 --as-of \"2h ago\" etc/qdbd.conf --output qdbd.conf.old\n",
    "0  all of the file was written\n"
    "1  failed: the output can't be written\n"
    "2  wrong usage\n"
    "3  refused: no such file in the backup, not all of it could be read when the backup was made, not a repository, or standard\n"
    "   output is a terminal\n"
    "4  done, with warnings: zeros stand for what is lost (--accept-incomplete), something stored twice has lost a copy, or a newer\n"
    "   backup's manifest can't be read\n"
    "5  the file, or what leads to it, is damaged\n",
    declare,
    run,
};

}  // namespace nodesnap::command
