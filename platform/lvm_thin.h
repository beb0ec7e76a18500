// Thin volumes of LVM: what their pool has left, and the states of their snapshots. As platform/lvm.h otherwise.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "platform/lvm.h"

namespace nodesnap::lvm {

struct PoolFill {
    std::uint64_t used_data = 0;  // blocks
    std::uint64_t total_data = 0;
    std::uint64_t used_metadata = 0;
    std::uint64_t total_metadata = 0;
    bool works = false;  // writable, with its metadata in order

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

}  // namespace nodesnap::lvm
