#include "snapshot/drain/live_stamp.h"

#include <algorithm>
#include <array>

#include "platform/clock.h"
#include "platform/error.h"
#include "platform/fault.h"
#include "platform/file.h"
#include "platform/file_system.h"
#include "platform/processes.h"

namespace nodesnap {
namespace {

constexpr std::int64_t kSecondNs = 1'000'000'000;
constexpr std::int64_t kLongestDirectWriteNs = 30 * kSecondNs;  // what the block layer waits for a device
constexpr std::array<const char*, 3> kSuitable = {"ext4", "xfs", "btrfs"};

// The latest instant that the change time may be of: some file systems keep whole seconds.
std::int64_t latest(const Time& changed) {
    const std::int64_t at = changed.seconds * kSecondNs + changed.nanoseconds;
    return changed.nanoseconds == 0 ? at + kSecondNs - 1 : at;
}

// All that a change of a file's content or attributes, or another file of its number, makes different, or later.
bool has_same_status(const Inode& before, const Inode& now) {
    return before.type == now.type && before.mode == now.mode && before.uid == now.uid && before.gid == now.gid &&
           before.size == now.size && before.links == now.links && before.modified == now.modified && before.changed == now.changed &&
           before.born == now.born;
}

}  // namespace

void LiveStamp::refuse_unsuitable(const std::string& directory) {
    const std::string type = file_system_of(directory).type;
    if (std::find(kSuitable.begin(), kSuitable.end(), type) == kSuitable.end()) {
        throw Error::refused("the node directory " + directory + " is on " + type +
                                 ", of which it isn't known that every write shows in a change time: with --hold it would have to be held "
                                 "until all is read",
                             "stop the daemon yourself before the backup, start it afterwards, and leave --hold out; or move the node to "
                             "ext4, XFS or btrfs");
    }
}

LiveStamp LiveStamp::take(int root, const std::string& directory) {
    LiveStamp stamp;
    stamp.at_ns_ = next_stamp_ns();
    const std::int64_t utc_ns = utc_now_ns();
    stamp.clock_ahead_ns_ = utc_ns - boot_time_ns();
    fault::step("stamp.taken");
    stamp.direct_ = written_directly(directory);
    sync_file_system(root, directory);
    fault::step("stamp.synced");
    return stamp;
}

bool LiveStamp::counts() const {
    const std::int64_t boot_ns = boot_time_ns();
    return utc_now_ns() - boot_ns >= clock_ahead_ns_;
}

bool LiveStamp::is_unchanged(std::uint64_t ino, const Inode& recorded, const Inode& now) const {
    if (recorded.type != FileType::kRegular || recorded.damaged || !has_same_status(recorded, now)) {
        return false;
    }
    const bool direct = !direct_ || std::binary_search(direct_->begin(), direct_->end(), ino);
    return latest(recorded.changed) < (direct ? at_ns_ - kLongestDirectWriteNs : at_ns_);
}

}  // namespace nodesnap
