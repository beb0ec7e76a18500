#include "platform/lvm_thin.h"

#include <fcntl.h>
#include <sys/file.h>

#include <algorithm>
#include <cerrno>
#include <sstream>
#include <tuple>
#include <utility>

#include "platform/error.h"
#include "platform/file.h"
#include "platform/interrupt.h"
#include "platform/lvm_programs.h"

namespace nodesnap::lvm {
namespace {

constexpr const char* kThinDelta = "thin_delta";

unsigned percent(std::uint64_t used, std::uint64_t total) {
    return total == 0 ? 100 : static_cast<unsigned>((used * 100 + total - 1) / total);
}

std::string dm_name_of(const Volume& pool) {
    std::string name;
    for (const std::string& part : {pool.group, pool.name}) {
        name += name.empty() ? "" : "-";
        for (const char c : part) {
            name += c == '-' ? std::string("--") : std::string(1, c);
        }
    }
    return name;
}

std::string metadata_device(const Volume& pool) {
    return "/dev/mapper/" + dm_name_of(pool) + "_tmeta";
}

void send(const Volume& pool, const std::string& message, const std::string& what) {
    change(what + pool.full_name(), {"dmsetup", "message", dm_name_of(pool) + "-tpool", "0", message});
}

}  // namespace

unsigned PoolFill::data_percent() const {
    return percent(used_data, total_data);
}

unsigned PoolFill::metadata_percent() const {
    return percent(used_metadata, total_metadata);
}

std::optional<PoolFill> parse_pool_status(const std::string& line) {
    std::istringstream words(line);
    std::string start;
    std::string length;
    std::string target;
    std::string transaction;
    std::string metadata;
    std::string data;
    std::string held_root;
    std::string mode;
    if (!(words >> start >> length >> target >> transaction) || target != "thin-pool") {
        return std::nullopt;
    }
    PoolFill fill;
    if (!(words >> metadata >> data >> held_root >> mode)) {
        return fill;  // "Fail"
    }
    const auto parts = [](const std::string& text) {
        const std::size_t slash = std::min(text.find('/'), text.size());
        return std::pair(number(text), slash == text.size() ? 0 : number(std::string_view(text).substr(slash + 1)));
    };
    std::tie(fill.used_metadata, fill.total_metadata) = parts(metadata);
    std::tie(fill.used_data, fill.total_data) = parts(data);
    fill.reserved_metadata = number(held_root);  // "-": none
    fill.works = mode == "rw" && line.find("needs_check") == std::string::npos;
    return fill;
}

PoolFill pool_fill(const Volume& pool) {
    const ProgramResult result = run({"dmsetup", "status", dm_name_of(pool) + "-tpool"});
    const auto fill = result.succeeded() ? parse_pool_status(result.output) : std::nullopt;
    if (!fill) {
        fail("tell how full the thin pool " + pool.full_name() + " is", "dmsetup", result);
    }
    return *fill;
}

void activate(const Volume& volume) {
    change("activate the snapshot " + volume.full_name(), {"lvchange", "--activate", "y", "--ignoreactivationskip", volume.full_name()});
}

void deactivate(const Volume& volume) {
    change("deactivate the snapshot " + volume.full_name(), {"lvchange", "--activate", "n", volume.full_name()});
}

void reserve_metadata(const Volume& pool) {
    send(pool, "reserve_metadata_snap", "reserve the metadata of the thin pool ");
}

void release_metadata(const Volume& pool) {
    send(pool, "release_metadata_snap", "release the reserved metadata of the thin pool ");
}

FileDescriptor lock_metadata(const Volume& pool) {
    const std::string path = metadata_device(pool);
    FileDescriptor device = open_path(path, O_RDONLY | O_NONBLOCK);
    if (::flock(device.get(), LOCK_EX | LOCK_NB) == 0) {
        return device;
    }
    if (errno != EWOULDBLOCK) {
        throw Error::system("lock", path, errno);
    }
    return {};
}

bool has_thin_delta() {
    return is_installed(kThinDelta);
}

void compare_thin(const Volume& pool, ThinDeltaParser& parser) {
    const ProgramResult result = run_reading({kThinDelta, "--metadata-snap", "--thin1", std::to_string(parser.left()), "--thin2",
                                              std::to_string(parser.right()), metadata_device(pool)},
                                             [&parser](std::string_view text) { parser.add(text); });
    interrupt::throw_if_interrupted();
    if (!result.succeeded()) {
        throw Error::failed("cannot compare thin volumes of " + pool.full_name() + ": thin_delta: " + result.explanation(),
                            "thin_check tells whether the pool's metadata are in order");
    }
    parser.finish();
}

void set_read_only(const Volume& volume) {
    change("make the snapshot " + volume.full_name() + " read-only", {"lvchange", "--permission", "r", volume.full_name()});
}

void clear_activation_skip(const Volume& volume) {
    change("have " + volume.full_name() + " activated with all others", {"lvchange", "--setactivationskip", "n", volume.full_name()});
}

void seal(const Volume& volume, const std::string& tag) {
    change("make " + volume.full_name() + " a read-only snapshot",
           {"lvchange", "--permission", "r", "--setactivationskip", "y", "--addtag", tag, volume.full_name()});
}

void create_copy(const Volume& of, const std::string& name, const std::vector<std::string>& tags) {
    std::vector<std::string> arguments = {"lvcreate", "--yes", "--snapshot", "--name", name};
    for (const std::string& tag : tags) {
        arguments.insert(arguments.end(), {"--addtag", tag});
    }
    arguments.insert(arguments.end(), {"--setactivationskip", "y", "--activate", "y", "--ignoreactivationskip", of.full_name()});
    change("make a copy of the thin volume " + of.full_name(), std::move(arguments));
}

}  // namespace nodesnap::lvm
