// dump_file: one file of a backup to a descriptor.
#include <algorithm>
#include <vector>

#include "platform/error.h"
#include "platform/file.h"
#include "platform/interrupt.h"
#include "snapshot/restore.h"
#include "snapshot/restore/lost.h"
#include "snapshot/run_reader.h"
#include "snapshot/tree_path.h"

namespace nodesnap {
namespace {

constexpr std::size_t kChunk = 1U << 20;
constexpr const char* kRemedy = "take it from another backup, or put zeros for what is lost with --accept-incomplete";

// What could not be read when the backup was made.
void add_unread(const Repository& repository, const Inode& inode, const std::string& path, RestoreLost& lost) {
    MapCursor cursor(repository.nodes(), inode);
    bool any = false;
    for (Run run; cursor.next(run);) {
        if (run.flags == Run::kDamagedSource) {
            any = true;
            lost.add(path, LostRange::Cause::kSource, run.offset, run.length);
        }
    }
    if (!any) {
        lost.add(path, LostRange::Cause::kSource, 0, 0);
    }
}

void write_content(const Repository& repository, const Inode& inode, const std::string& path, int out, const std::string& output_name,
                   RestoreLost& lost) {
    const LossSink sink = [&](std::uint32_t, std::uint64_t offset, std::uint64_t length) {
        lost.add(path, LostRange::Cause::kStored, offset, length);
    };
    MapReader reader(repository, inode, path, lost.accepted() ? sink : LossSink());
    std::vector<std::byte> chunk(std::min<std::uint64_t>(kChunk, inode.size));
    for (std::uint64_t at = 0; at < inode.size;) {
        throw_if_interrupted();
        const auto part = std::span(chunk).first(std::min<std::uint64_t>(chunk.size(), inode.size - at));
        try {
            reader.read(part, at);
        } catch (const Error& error) {
            if (!is_loss(error)) {
                throw;
            }
            throw Error(error.status(), error.message(), (error.hint().empty() ? "" : error.hint() + "; ") + kRemedy, error.error_number());
        }
        write_all(out, part, output_name);
        at += part.size();
    }
}

}  // namespace

void dump_file(Repository& repository, const Manifest& backup, const std::string& path, int out, const DumpOptions& options,
               Report& report) {
    const auto found = find_path(repository, backup, normalized_path(path));
    if (!found) {
        throw Error::refused("backup " + backup.id.hex() + " holds no " + path, "`nodesnap show` tells what is in a backup");
    }
    const auto& inode = found->second;
    if (inode.damaged && !options.accept_incomplete) {
        throw Error::refused(path + " is incomplete: parts of it could not be read when backup " + backup.id.hex() + " was made", kRemedy);
    }
    RestoreLost lost(options.accept_incomplete);
    if (inode.damaged) {
        add_unread(repository, inode, path, lost);
    }
    if (inode.type == FileType::kSymlink) {
        write_all(out, inode.content, options.output_name);
        lost.tell(report);
        return;
    }
    if (inode.type != FileType::kRegular) {
        throw Error::refused(path + " isn't a file",
                             inode.type == FileType::kDirectory ? "`nodesnap restore --path` restores directories" : "");
    }
    write_content(repository, inode, path, out, options.output_name, lost);
    lost.tell(report);
}

}  // namespace nodesnap
