// What a delta restore that compares contents would write: all that the directory holds is read.
//
// It counts as the restore does, each inode at the first of its names, and comes to the same numbers, but for three cases. Where files that
// share an inode are to be several files, or the other way round, the restore's workers may take the names in another order. On btrfs a
// file without holes that was just cloned has its unwritten space called data, which is then compared with the zeros that are to be there,
// not written. And of inodes of several names up to 200,000 are remembered of which not all names have been met; further ones count for
// each.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "snapshot/restore/delta_estimate.h"

namespace nodesnap {

// Bytes to write and changed files. `root` is a descriptor of the directory.
DeltaDifference clone_difference(const Repository& repository, const Manifest& backup, int root, const NeededData& needed = {});

// In the directory itself. The root's `gate_files` are made anew: all of them is written, and they don't count as changed here. What the
// restore doesn't remove from the root is called as one of `keep`.
DeltaDifference in_place_difference(const Repository& repository, const Manifest& backup, int root,
                                    const std::vector<std::string>& gate_files, const std::vector<std::string>& keep,
                                    const NeededData& needed = {});
// Bytes of the gate files that an earlier run in place has made in `content`, where they wait for the end.
std::uint64_t bytes_of_made_gates(const Repository& repository, const Manifest& backup, int content,
                                  const std::vector<std::string>& gate_files);
// How many of the gate files that are there change.
std::uint64_t changed_gates(const Repository& repository, const Manifest& backup, int root, const std::vector<std::string>& gate_files);

}  // namespace nodesnap
