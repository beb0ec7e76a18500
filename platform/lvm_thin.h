// Thin volumes of LVM: what their pool has left, and the states of their snapshots. As platform/lvm.h otherwise.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "platform/file_descriptor.h"
#include "platform/lvm.h"
#include "platform/thin_delta.h"

namespace nodesnap::lvm {

struct PoolFill {
    std::uint64_t used_data = 0;  // blocks
    std::uint64_t total_data = 0;
    std::uint64_t used_metadata = 0;
    std::uint64_t total_metadata = 0;
    bool works = false;  // writable, with its metadata in order
    // Where the metadata lie that are reserved for programs to read, as they were when that was done (a block of theirs); 0: none are.
    std::uint64_t reserved_metadata = 0;

    unsigned data_percent() const;  // rounded up
    unsigned metadata_percent() const;
};
// Of the kernel's line: "0 2097152 thin-pool 1 24/2048 256/16384 - rw discard_passdown queue_if_no_space - 1024".
std::optional<PoolFill> parse_pool_status(const std::string& line);
PoolFill pool_fill(const Volume& pool);

// Also one that carries the flag that keeps LVM from activating it with all others.
void activate(const Volume& volume);
void deactivate(const Volume& volume);
void set_read_only(const Volume& volume);
// It loses that flag, and is activated with all others from the next time on.
void clear_activation_skip(const Volume& volume);
// Of one that isn't active: it is read-only, has that flag, and bears the tag.
void seal(const Volume& volume, const std::string& tag);
// A snapshot of a thin volume, a snapshot say, that can be written to. Active when it returns, but not activated with all others.
void create_copy(const Volume& of, const std::string& name, const std::vector<std::string>& tags);

// The pool's metadata as they are now, for programs to read while it goes on changing. Fails if some are reserved already. They are until
// they are released, whoever ends or restarts meanwhile, and the pool keeps what it has given up since.
void reserve_metadata(const Volume& pool);
void release_metadata(const Volume& pool);
// A lock between programs of ours that do so, which ends with the descriptor; empty if another has it.
FileDescriptor lock_metadata(const Volume& pool);

bool has_thin_delta();
// Of two thin devices of the pool, by the metadata that are reserved. Error::failed as ThinDeltaParser, or with what the program said; what
// was taken until then is to be dropped.
void compare_thin(const Volume& pool, ThinDeltaParser& parser);

}  // namespace nodesnap::lvm
