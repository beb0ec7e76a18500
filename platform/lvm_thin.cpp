#include "platform/lvm_thin.h"

#include <algorithm>
#include <sstream>
#include <tuple>
#include <utility>

#include "platform/lvm_programs.h"

namespace nodesnap::lvm {
namespace {

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

void set_read_only(const Volume& volume) {
    change("make the snapshot " + volume.full_name() + " read-only", {"lvchange", "--permission", "r", volume.full_name()});
}

}  // namespace nodesnap::lvm
