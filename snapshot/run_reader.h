// Reading the data of file maps, every byte verified: shared by restore, dump and verify.
//
// A run becomes pieces, one for each segment that it touches; pieces that lie close together in a pack are fetched by one read of up to 1
// MiB. Each 64 KiB block that a piece touches is compared with the checksum in the pack's footer before a byte of it is given out. What
// doesn't match, a run that names segments which aren't there, or an encoded segment that decodes to something else is an Error::damaged
// that names object, segment, file and range. Who goes past damage has zeros instead, block by block, and is told the ranges.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <unordered_map>
#include <vector>

#include "io/ring.h"
#include "io/task.h"
#include "snapshot/repository/repository.h"

namespace nodesnap {

class Error;

inline constexpr std::size_t kReadLimit = 1U << 20;  // bytes of one read; a buffer for it is this long and aligned at 4096

// A range of one segment's plaintext that belongs at an offset of some file.
struct Piece {
    std::uint32_t segment = 0;
    std::uint32_t from = 0;  // in the segment's plaintext
    std::uint32_t length = 0;
    std::uint32_t file = 0;  // the caller's number
    std::uint64_t file_offset = 0;
};

// One read from one pack and what comes out of it, in order of segments.
struct PlannedRead {
    std::shared_ptr<const PackReader> pack;  // none: what its one piece asks for is lost
    std::uint64_t offset = 0;                // in the pack; offset and length are multiples of 4096
    std::uint32_t length = 0;                // at most kReadLimit
    std::vector<Piece> pieces;
};

// Tells a file's name for messages; called only on errors.
using FileNamer = std::function<std::string(std::uint32_t file)>;

// Takes a range of a file whose data is lost: zeros stand for it.
using LossSink = std::function<void(std::uint32_t file, std::uint64_t offset, std::uint64_t length)>;
// Whether an error of this header's functions says that data is lost: damaged, missing, or on a medium that doesn't give it any more.
bool is_loss(const Error& error);

// Collects runs and turns them into few large reads, in order of packs and of offsets in them. Memory: what was added, plus the indexes of
// the packs, up to the limits: then full() says to go on with another plan.
class ReadPlan {
public:
    struct Limits {
        std::size_t index_bytes = 4U << 20;  // of the packs
        std::size_t packs = 16;              // open at once
        std::size_t pieces = 16384;
    };
    explicit ReadPlan(const Repository& repository) : ReadPlan(repository, Limits()) {}
    ReadPlan(const Repository& repository, const Limits& limits) : repository_(repository), limits_(limits) {}
    // Adds [from, from + length) of a run with data (flags == 0); `from` counts from the run's beginning. `file` comes back in its pieces,
    // and `name` tells its name for messages. Adds nothing when it throws.
    void add(const Run& run, std::uint64_t from, std::uint64_t length, std::uint32_t file, const FileNamer& name);
    void add(const Run& run, std::uint32_t file, const FileNamer& name) { add(run, 0, run.length, file, name); }
    // Asks for zeros in the place of a range that is lost: reads without a pack.
    void add_lost(std::uint64_t offset, std::uint64_t length, std::uint32_t file);
    bool full() const;  // a limit is reached
    bool empty() const { return pieces_.empty() && lost_.empty(); }
    std::uint64_t bytes() const { return bytes_; }
    std::vector<PlannedRead> finish();  // the plan is empty afterwards

private:
    struct Placed {
        std::uint32_t pack;   // in packs_
        std::uint64_t begin;  // stored range that must be read, in the pack
        std::uint64_t end;
        Piece piece;
    };
    std::uint32_t pack_number(const PackId& id);
    void add_pieces(const Run& run, std::uint64_t from, std::uint64_t length, std::uint32_t file, const FileNamer& name);

    const Repository& repository_;
    const Limits limits_;
    std::size_t index_bytes_ = 0;
    std::uint64_t bytes_ = 0;
    std::vector<std::shared_ptr<const PackReader>> packs_;
    std::unordered_map<PackId, std::uint32_t, PackIdHash> numbers_;  // in packs_
    std::vector<Placed> pieces_;
    std::vector<PlannedRead> lost_;
};

// Proves what a read has brought: `data` is the read's `length` bytes. Throws Error::damaged at the first block that isn't what was stored.
void verify_read(const PlannedRead& read, std::span<const std::byte> data, const Hasher& hasher, const FileNamer& name);

// For what a read didn't bring, or verify_read() didn't let pass: reads it again, block by block, blocking. Blocks that can't be had, or
// aren't what was stored, become zeros in `data`, and what they hold of files is told. Of encoded segments piece_data() tells it.
void salvage_read(const PlannedRead& read, std::span<std::byte> data, const Hasher& hasher, const LossSink& lost);

// The piece's verified plaintext: inside `data` where the segment isn't encoded, else decoded (and verified) into `scratch`, which must
// hold kSegmentLimit bytes then. With `lost` an encoded segment that can't be had is told and gives zeros.
std::span<const std::byte> piece_data(const PlannedRead& read, const Piece& piece, std::span<const std::byte> data,
                                      std::vector<std::byte>& scratch, const Hasher& hasher, const FileNamer& name,
                                      const LossSink& lost = {});

// Reads [offset, offset + into.size()) of a file, blocking; holes, unwritten and damaged ranges give zeros. For dump, large attributes,
// samples. Keeps its place: reading on where the last read ended is cheap. What is lost is an error, or is told to `lost`. One thread.
class MapReader {
public:
    MapReader(const Repository& repository, const Inode& inode, std::string name, LossSink lost = {});
    ~MapReader();
    void read(std::span<std::byte> into, std::uint64_t offset);

private:
    struct Impl;
    std::unique_ptr<Impl> impl_;
};

// The same for a short list of runs, such as a large attribute's value.
void read_runs(const Repository& repository, std::span<const Run> runs, std::span<std::byte> into, const std::string& name);

}  // namespace nodesnap
