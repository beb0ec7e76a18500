// Merging a classic snapshot into its volume: from the instant it begins the volume shows what the snapshot was, while that is copied in
// the background, and goes on being copied after a restart. The snapshot is used up. As platform/lvm.h otherwise.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "platform/lvm.h"

namespace nodesnap::lvm {

// Neither may be open: LVM would put the merge off until the volume is activated next, and there is no taking that back.
void begin_merge(const Volume& snapshot);
// Of a merge that was put off: it begins, if neither is open now. Of one that is under way: nothing.
void begin_merge_put_off(const Volume& origin);
// Has somebody look after a merge that is under way, until it has ended: LVM by itself does that only after an activation.
void watch_merge(const Volume& origin);

struct MergeState {
    std::uint64_t left_bytes = 0;  // to be copied
    bool failed = false;
};
// Of the kernel; nullopt if nothing is being merged: the merge was put off, or has ended.
std::optional<MergeState> merge_state(const Volume& origin);
// Of the kernel's line: "0 655360 snapshot-merge 123384/245760 496", "0 655360 snapshot-merge Merge failed".
std::optional<MergeState> parse_merge_status(const std::string& line);

// What changes whenever anything is written to the volume by way of its own device, or that is made anew: by a merge it isn't. Empty if
// that can't be told.
std::string write_mark(const Volume& volume);

}  // namespace nodesnap::lvm
