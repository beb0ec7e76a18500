// dump_file: one file of a backup to a descriptor.
#include <algorithm>
#include <vector>

#include "platform/error.h"
#include "platform/file.h"
#include "platform/interrupt.h"
#include "snapshot/restore.h"
#include "snapshot/run_reader.h"
#include "snapshot/tree_path.h"

namespace nodesnap {
namespace {

constexpr std::size_t kChunk = 1U << 20;

}  // namespace

void dump_file(Repository& repository, const Manifest& backup, const std::string& path, int out) {
    const auto found = find_path(repository, backup, normalized_path(path));
    if (!found) {
        throw Error::refused("backup " + backup.id.hex() + " holds no " + path, "`nodesnap show` tells what is in a backup");
    }
    const auto& inode = found->second;
    if (inode.type == FileType::kSymlink) {
        write_all(out, inode.content, "the output");
        return;
    }
    if (inode.type != FileType::kRegular) {
        throw Error::refused(path + " isn't a file",
                             inode.type == FileType::kDirectory ? "`nodesnap restore --path` restores directories" : "");
    }
    MapReader reader(repository, inode, path);
    std::vector<std::byte> chunk(std::min<std::uint64_t>(kChunk, inode.size));
    for (std::uint64_t at = 0; at < inode.size;) {
        throw_if_interrupted();
        const auto part = std::span(chunk).first(std::min<std::uint64_t>(chunk.size(), inode.size - at));
        reader.read(part, at);
        write_all(out, part, "the output");
        at += part.size();
    }
}

}  // namespace nodesnap
