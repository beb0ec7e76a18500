#include "snapshot/command/snapshot_size.h"

#include "io/units.h"
#include "platform/error.h"

namespace nodesnap::command {

void declare_snapshot_size(OptionSet& options) {
    options.value(
        "snapshot-size", "SIZE",
        "of an LVM snapshot: room for what is overwritten of the volume while it is there (default: half of what its volume group "
        "has free)");
}

std::uint64_t snapshot_size(const Options& options) {
    if (!options.given("snapshot-size")) {
        return 0;
    }
    std::uint64_t bytes = 0;
    try {
        bytes = parse_size(options.text("snapshot-size"));
    } catch (const Error& error) {
        throw Error::usage("--snapshot-size: " + error.message(), error.hint());
    }
    if (bytes == 0) {
        throw Error::usage("--snapshot-size: a snapshot without any room can't be",
                           "leave it out for half of what the volume group has free");
    }
    return bytes;
}

}  // namespace nodesnap::command
