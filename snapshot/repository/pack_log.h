// PackLog: what one data pack of an unfinished backup holds, so that the backup can go on after an interruption. See docs/format.md,
// "Logs".
//
// Records go in as they become complete, and are compressed as they come: a log takes up to a few MiB, in memory and stored.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "io/target/target.h"
#include "snapshot/repository/ids.h"
#include "snapshot/repository/pack_codec.h"
#include "snapshot/repository/records.h"

namespace nodesnap {

inline constexpr std::uint64_t kPackLogLimit = 64ULL << 20;  // bytes of the stored object

// One thread.
class PackLog {
public:
    // A file whose content is stored as a whole: its record, after those of its attributes. Values as in the tree.
    void add(std::string_view key, std::span<const std::byte> value, Compressor& compressor);
    // Part of a file that is drained in ranges.
    void add_run(std::uint64_t ino, const Run& run, Compressor& compressor);

    std::size_t memory_bytes() const { return open_.size() + blocks_.size(); }
    // The whole object, padded with zeros to a multiple of 4096. `before`: the pack whose log has the records before these.
    Bytes encode(const Uuid& repository, const PackId& pack, const std::optional<PackId>& before, Compressor& compressor);

private:
    void close_block(Compressor& compressor);

    Bytes open_;    // records that aren't compressed yet
    Bytes blocks_;  // as they are stored
};

struct PackLogSink {
    std::function<void(std::uint64_t ino, const Inode& inode)> inode;
    std::function<void(std::uint64_t ino, std::string_view name, const Xattr& xattr)> xattr;
    std::function<void(std::uint64_t ino, const Run& run)> run;
};
struct PackLogHead {
    bool mark = false;             // the pack will never have a log
    std::optional<PackId> before;  // the pack whose log comes before
};
// Throws Error::damaged for anything that a writer could not have written; then part of it may have
// been told already.
PackLogHead read_pack_log(std::span<const std::byte> object, const std::string& object_name, const Uuid& repository, const PackId& pack,
                          const PackLogSink& sink);
// What takes the place of a log, so that it can't come late.
Bytes encode_pack_log_mark(const Uuid& repository, const PackId& pack);
inline constexpr std::uint64_t kPackLogMarkBytes = 4096;

}  // namespace nodesnap
