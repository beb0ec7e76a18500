// How much of two files' contents differs, told from what is stored of them: maps, and the checksums of blocks in the packs' footers. No
// data is read.
//
// Ranges that both files take from the same bytes of the same pack are equal. Others are equal where whole blocks of 64 KiB of both carry
// the same checksum; so two backups that share nothing are compared too, as far as their segments are cut alike. What isn't proved equal
// counts as changed: never too little, but blocks that are cut differently, and ranges that are zeros in one and a hole in the other, may
// be too much.
#pragma once

#include <cstdint>
#include <span>

#include "snapshot/repository/map_diff.h"
#include "snapshot/repository/repository.h"

namespace nodesnap {

struct ContentChange {
    bool changed = false;     // the size, or a byte
    std::uint64_t bytes = 0;  // that aren't proved equal, in ranges that either file stores
    bool allocation = false;  // ranges that are a hole in one and preallocated in the other
    bool incomplete = false;  // one of them could not be read wholly when its backup was made
};

// One thread. Memory: one node per level of each map, the layouts of a few packs.
class ContentDiff {
public:
    explicit ContentDiff(const Repository& repository) : repository_(repository), places_(repository.packs()) {}
    // Regular files, symlinks (by their targets) and devices (by their numbers); of other types none has contents.
    ContentChange compare(const Inode& before, const Inode& after);
    bool equal(const Xattr& before, const Xattr& after);

private:
    ContentChange compare_maps(const Inode& before, const Inode& after);
    std::uint64_t differing_bytes(const MapChange& change, std::uint64_t end);
    std::uint64_t differing_blocks(const RunPlace& before, const RunPlace& after, std::uint32_t length) const;
    std::uint64_t stored_bytes(const Inode& inode);

    const Repository& repository_;
    RunPlaces places_;
};

}  // namespace nodesnap
