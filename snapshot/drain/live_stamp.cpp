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

}  // namespace

LiveStatus LiveStatus::of(const Inode& inode) {
    return {inode.type, inode.mode, inode.uid, inode.gid, inode.size, inode.links, inode.modified, inode.changed, inode.born};
}

bool LiveStamp::is_suitable(const std::string& directory) {
    return std::find(kSuitable.begin(), kSuitable.end(), file_system_of(directory).type) != kSuitable.end();
}

void LiveStamp::refuse_unsuitable(const std::string& directory) {
    if (!is_suitable(directory)) {
        throw Error::refused("the node directory " + directory + " is on " + file_system_of(directory).type +
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

bool LiveStamp::is_unchanged(std::uint64_t ino, const LiveStatus& recorded, const LiveStatus& now) const {
    if (recorded.type != FileType::kRegular || recorded != now) {
        return false;
    }
    const bool direct = !direct_ || std::binary_search(direct_->begin(), direct_->end(), ino);
    return latest(recorded.changed) < (direct ? at_ns_ - kLongestDirectWriteNs : at_ns_);
}

}  // namespace nodesnap
