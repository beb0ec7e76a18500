#include "platform/lvm.h"

#include <sys/sysmacros.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <sstream>
#include <utility>

#include "platform/error.h"
#include "platform/file.h"
#include "platform/lvm_programs.h"

namespace nodesnap::lvm {
namespace {

constexpr std::size_t kUuidLength = 32;
constexpr std::uint64_t kSectorBytes = 512;
constexpr std::int64_t kSecondNs = 1'000'000'000;
constexpr const char* kFields =
    "vg_name,lv_name,vg_uuid,lv_uuid,origin,pool_lv,lv_attr,lv_dm_path,lv_tags,lv_size,lv_time,vg_extent_size,vg_free_count,thin_id,"
    "transaction_id,chunk_size";
constexpr std::string_view kUuidPrefix = "LVM-";

std::string without_dashes(std::string uuid) {
    std::erase(uuid, '-');
    return uuid;
}

std::vector<std::string> split(const std::string& text, char separator) {
    std::vector<std::string> parts;
    std::istringstream stream(text);
    for (std::string part; std::getline(stream, part, separator);) {
        parts.push_back(part);
    }
    return parts;
}

// Without the warnings on lines of their own.
std::string_view report_in(std::string_view text) {
    std::size_t begin = std::string_view::npos;
    std::size_t end = 0;
    for (std::size_t at = 0; at < text.size();) {
        const std::size_t next = std::min(text.find('\n', at), text.size());
        std::string_view line = text.substr(at, next - at);
        while (line.starts_with(' ')) {
            line.remove_prefix(1);
        }
        if (line == "{" && begin == std::string_view::npos) {
            begin = at;
        } else if (line == "}") {
            end = next;
        }
        at = next + 1;
    }
    return begin < end ? text.substr(begin, end - begin) : std::string_view();
}

Volume volume_of(const nlohmann::json& row) {
    const auto text = [&row](const char* name) { return row.at(name).get<std::string>(); };
    Volume volume;
    volume.group = text("vg_name");
    volume.name = text("lv_name");
    volume.group_uuid = without_dashes(text("vg_uuid"));
    volume.uuid = without_dashes(text("lv_uuid"));
    volume.origin = text("origin");
    volume.pool = text("pool_lv");
    volume.attributes = text("lv_attr");
    volume.device = text("lv_dm_path");
    volume.tags = split(text("lv_tags"), ',');
    volume.bytes = number(text("lv_size"));
    volume.created_ns = static_cast<std::int64_t>(number(text("lv_time"))) * kSecondNs;
    volume.extent_bytes = number(text("vg_extent_size"));
    volume.free_extents = number(text("vg_free_count"));
    volume.thin_id = number(text("thin_id"));
    volume.transaction = number(text("transaction_id"));
    if (volume.is_classic_snapshot()) {
        volume.snapshot_bytes = volume.bytes;  // what lvs calls its size; the device has the origin's
        volume.chunk_bytes = number(text("chunk_size"));
    }
    return volume;
}

}  // namespace

bool Volume::has_tag(const std::string& tag) const {
    return std::find(tags.begin(), tags.end(), tag) != tags.end();
}

bool Volume::is_thin() const {
    return attributes.starts_with('V');
}

bool Volume::is_classic_snapshot() const {
    return attributes.starts_with('s') || attributes.starts_with('S');
}

bool Volume::is_merging() const {
    return attributes.starts_with('O');
}

bool Volume::is_open() const {
    constexpr std::size_t kOpen = 5;
    return attributes.size() > kOpen && attributes[kOpen] == 'o';
}

bool Volume::is_read_only() const {
    return attributes.size() > 1 && attributes[1] == 'r';  // 'R': for now only
}

bool Volume::skips_activation() const {
    constexpr std::size_t kSkip = 9;
    return attributes.size() > kSkip && attributes[kSkip] == 'k';
}

bool Volume::is_active() const {
    constexpr std::size_t kState = 4;
    return attributes.size() > kState && attributes[kState] == 'a';
}

std::optional<VolumeId> volume_of_device(std::uint64_t device) {
    const std::string number_text = std::to_string(major(device)) + ":" + std::to_string(minor(device));
    std::string uuid = read_small_file("/sys/dev/block/" + number_text + "/dm/uuid").value_or("");
    uuid.erase(std::min(uuid.find('\n'), uuid.size()));
    // Behind these of a volume that is a part of another there is "-real" and the like.
    if (!uuid.starts_with(kUuidPrefix) || uuid.size() != kUuidPrefix.size() + 2 * kUuidLength) {
        return std::nullopt;
    }
    return VolumeId{uuid.substr(kUuidPrefix.size(), kUuidLength), uuid.substr(kUuidPrefix.size() + kUuidLength)};
}

std::vector<Volume> parse_volumes(const std::string& text) {
    try {
        std::vector<Volume> volumes;
        const nlohmann::json document = nlohmann::json::parse(report_in(text));
        for (const nlohmann::json& report : document.at("report")) {
            for (const nlohmann::json& row : report.at("lv")) {
                Volume volume = volume_of(row);
                // A row comes for each of a volume's segments.
                if (volumes.empty() || volumes.back().uuid != volume.uuid) {
                    volumes.push_back(std::move(volume));
                }
            }
        }
        return volumes;
    } catch (const nlohmann::json::exception& error) {
        throw Error::failed(std::string("cannot list the logical volumes: lvs gave what can't be understood: ") + error.what(),
                            "lvm2 must be of version 2.02.158 or later; see what `lvs --reportformat json` prints");
    }
}

std::vector<Volume> list_volumes(const std::string& group) {
    std::vector<std::string> arguments = {"lvs", "--reportformat", "json", "--units", "b", "--nosuffix"};
    arguments.insert(arguments.end(), {"--config", R"(report{time_format="%s"})", "-o", kFields});
    if (!group.empty()) {
        arguments.insert(arguments.end(), {"--select", "vg_name=\"" + group + "\""});  // of one that isn't there: none
    }
    const ProgramResult result = run(std::move(arguments));
    if (!result.succeeded()) {
        fail("list the logical volumes", "lvs", result);
    }
    return parse_volumes(result.output);
}

void create_snapshot(const Volume& origin, const SnapshotRequest& request) {
    std::vector<std::string> arguments = {"lvcreate", "--yes", "--snapshot", "--name", request.name};
    for (const std::string& tag : request.tags) {
        arguments.insert(arguments.end(), {"--addtag", tag});
    }
    if (request.extents != 0) {
        arguments.insert(arguments.end(), {"--extents", std::to_string(request.extents)});
    }
    if (request.chunk_bytes != 0) {
        arguments.insert(arguments.end(), {"--chunksize", std::to_string(request.chunk_bytes) + "b"});
    }
    arguments.push_back(origin.full_name());
    change("take the snapshot " + origin.group + "/" + request.name + " of " + origin.full_name(), std::move(arguments));
}

void rename_volume(const std::string& group, const std::string& from, const std::string& to) {
    change("rename the logical volume " + group + "/" + from, {"lvrename", group, from, to});
}

void remove_volume(const std::string& full_name) {
    change("remove the snapshot " + full_name, {"lvremove", "--yes", full_name});
}

void change_tags(const Volume& volume, const std::string& added, const std::string& removed) {
    change_tags(std::vector<Volume>{volume}, added, removed);
}

void change_tags(const std::vector<Volume>& volumes, const std::string& added, const std::string& removed) {
    if (volumes.empty()) {
        return;
    }
    std::vector<std::string> arguments = {"lvchange"};
    for (const auto& [option, tag] : {std::pair("--addtag", &added), std::pair("--deltag", &removed)}) {
        if (!tag->empty()) {
            arguments.insert(arguments.end(), {option, *tag});
        }
    }
    std::string shown;
    for (const Volume& volume : volumes) {
        arguments.push_back(volume.full_name());
        shown += (shown.empty() ? "" : ", ") + volume.full_name();
    }
    change("change the tags of " + shown, std::move(arguments));
}

std::optional<SnapshotFill> parse_snapshot_status(const std::string& line) {
    std::istringstream words(line);
    std::string start;
    std::string length;
    std::string target;
    std::string state;
    if (!(words >> start >> length >> target >> state) || target != "snapshot") {
        return std::nullopt;
    }
    SnapshotFill fill;
    const std::size_t slash = state.find('/');
    if (slash == std::string::npos) {
        fill.invalid = true;  // "Invalid", "Overflow", "Merge failed", "Unknown"
        return fill;
    }
    fill.used_bytes = number(std::string_view(state).substr(0, slash)) * kSectorBytes;
    fill.total_bytes = number(std::string_view(state).substr(slash + 1)) * kSectorBytes;
    std::string metadata;
    words >> metadata;
    fill.metadata_bytes = number(metadata) * kSectorBytes;
    return fill;
}

std::optional<SnapshotFill> snapshot_fill(const Volume& snapshot) {
    const ProgramResult result = run({"dmsetup", "status", "--uuid", std::string(kUuidPrefix) + snapshot.group_uuid + snapshot.uuid});
    if (result.exit_code == 127) {
        fail("tell how full the snapshot " + snapshot.full_name() + " is", "dmsetup", result);
    }
    return result.succeeded() ? parse_snapshot_status(result.output) : std::nullopt;
}

}  // namespace nodesnap::lvm
