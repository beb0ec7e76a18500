// EarlierDrain: what a drain of the same snapshot had stored before it was cut off, from the logs of its packs. See docs/design.md, "Going
// on after an interruption".
//
// Memory: while it is made a sorter's 4 MiB; then a block of an unnamed file in the scratch directory, and an index of its blocks.
#pragma once

#include <cstdint>
#include <functional>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "platform/file_descriptor.h"
#include "snapshot/drain/catalog.h"
#include "snapshot/repository/repository.h"

namespace nodesnap {

class EarlierDrain {
public:
    // Reads all logs of the session, and adds what they say to the catalog. `whole_file` is told each inode that is complete. Throws
    // Error::damaged if a log or its pack is missing or damaged.
    EarlierDrain(const Repository& repository, const SessionRecord& session, const std::string& scratch_directory, Catalog& catalog,
                 const std::function<void(const Inode&)>& whole_file);

    // A file that is stored as a whole. Any thread.
    bool holds(std::uint64_t ino) const;
    // The first stored range of a file that ends behind `from`. Any thread.
    struct Range {
        std::uint64_t offset = 0;
        std::uint64_t end = 0;
    };
    std::optional<Range> next_range(std::uint64_t ino, std::uint64_t from) const;

    const std::vector<PackId>& packs() const { return packs_; }
    std::uint64_t new_bytes() const { return new_bytes_; }        // of file data
    std::uint64_t stored_bytes() const { return stored_bytes_; }  // of packs

private:
    struct Place {
        std::uint64_t ino = 0;
        std::uint64_t offset = 0;
        std::uint64_t end = 0;
    };
    class Filler;
    const std::vector<Place>& block(std::size_t number) const;

    std::string directory_;
    FileDescriptor file_;
    std::vector<Place> index_;  // the first place of each block
    std::uint64_t places_ = 0;
    mutable std::mutex mutex_;
    mutable std::vector<Place> block_;
    mutable std::optional<std::size_t> block_number_;
    std::vector<PackId> packs_;
    std::uint64_t new_bytes_ = 0;
    std::uint64_t stored_bytes_ = 0;
};

// Why nobody can go on from the logs of a session: one of them, its pack, or the log before it is missing or damaged. Empty if all are
// whole.
std::string flaw_of_logs(const Repository& repository, const SessionRecord& session);

}  // namespace nodesnap
