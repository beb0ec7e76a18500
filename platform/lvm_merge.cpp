#include "platform/lvm_merge.h"

#include <sys/stat.h>
#include <sys/sysmacros.h>

#include <algorithm>
#include <sstream>

#include "platform/file.h"
#include "platform/host.h"
#include "platform/lvm_programs.h"

namespace nodesnap::lvm {
namespace {

constexpr std::uint64_t kSectorBytes = 512;
constexpr const char* kPollEachSecond = "activation{polling_interval=1}";

}  // namespace

void begin_merge(const Volume& snapshot) {
    change("merge the snapshot " + snapshot.full_name(),
           {"lvconvert", "--yes", "--merge", "--background", "--interval", "1", snapshot.full_name()});
}

void begin_merge_put_off(const Volume& origin) {
    change("begin what was to be merged into " + origin.full_name(),
           {"lvchange", "--refresh", "--config", kPollEachSecond, origin.full_name()});
}

void watch_merge(const Volume& origin) {
    change("look after what is merged into " + origin.full_name(),
           {"lvchange", "--poll", "y", "--config", kPollEachSecond, origin.full_name()});
}

std::optional<MergeState> parse_merge_status(const std::string& line) {
    std::istringstream words(line);
    std::string start, length, target, state, metadata;
    if (!(words >> start >> length >> target >> state) || target != "snapshot-merge") {
        return std::nullopt;
    }
    MergeState merge;
    words >> metadata;
    const std::uint64_t used = number(state);
    const std::uint64_t of_it = number(metadata);
    merge.failed = state.find('/') == std::string::npos;  // "Merge failed", "Invalid"
    merge.left_bytes = merge.failed || used < of_it ? 0 : (used - of_it) * kSectorBytes;
    return merge;
}

std::optional<MergeState> merge_state(const Volume& origin) {
    const ProgramResult result = run({"dmsetup", "status", "--uuid", "LVM-" + origin.group_uuid + origin.uuid});
    if (result.exit_code == 127) {
        fail("tell how far the merge into " + origin.full_name() + " has come", "dmsetup", result);
    }
    return result.succeeded() ? parse_merge_status(result.output) : std::nullopt;
}

std::string write_mark(const Volume& volume) {
    struct stat status {};
    if (::stat(volume.device.c_str(), &status) != 0 || !S_ISBLK(status.st_mode)) {
        return "";
    }
    const std::string device = std::to_string(major(status.st_rdev)) + ":" + std::to_string(minor(status.st_rdev));
    std::istringstream statistics(read_small_file("/sys/dev/block/" + device + "/stat").value_or(""));
    std::string reads, merged_reads, read_sectors, read_ticks, writes, merged_writes, written_sectors;
    if (!(statistics >> reads >> merged_reads >> read_sectors >> read_ticks >> writes >> merged_writes >> written_sectors)) {
        return "";
    }
    // Linux 5.15 numbers what devices there have been.
    std::string sequence = read_small_file("/sys/dev/block/" + device + "/diskseq").value_or("-");
    sequence.erase(std::min(sequence.find('\n'), sequence.size()));
    std::string mark = boot_id();
    for (const std::string& part : {device, sequence, writes, written_sectors}) {
        mark += ' ';
        mark += part;
    }
    return mark;
}

}  // namespace nodesnap::lvm
