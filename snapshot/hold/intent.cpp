#include "snapshot/hold/intent.h"

#include <fcntl.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <span>
#include <utility>

#include "io/checksum.h"
#include "platform/clock.h"
#include "platform/entry.h"
#include "platform/error.h"
#include "platform/fault.h"
#include "platform/file.h"
#include "snapshot/repository/json_object.h"

namespace nodesnap::hold {
namespace {

constexpr const char* kKind = "hold";
constexpr std::array<Mode, 4> kModes{Mode::kNone, Mode::kFreeze, Mode::kStop, Mode::kHook};
constexpr std::array<std::pair<Phase, const char*>, 3> kPhases{
    {{Phase::kPrepared, "prepared"}, {Phase::kBegun, "begun"}, {Phase::kReleased, "released"}}};
constexpr std::size_t kLongestKey = 180;  // of a file's name
constexpr useconds_t kLockPauseUs = 20'000;

Mode mode_named(const std::string& text, const std::string& name) {
    for (const Mode mode : kModes) {
        if (text == name_of(mode)) {
            return mode;
        }
    }
    throw Error::refused(name + " is about a way to hold a daemon that this version of nodesnap doesn't know", "upgrade nodesnap");
}

const char* name_of(Phase phase) {
    return kPhases[static_cast<std::size_t>(phase)].second;
}

Phase phase_named(const std::string& text, const std::string& name) {
    for (const auto& [phase, known] : kPhases) {
        if (text == known) {
            return phase;
        }
    }
    throw Error::refused(name + " says \"" + text + "\" of a hold, which this version of nodesnap doesn't know", "upgrade nodesnap");
}

std::vector<std::string> paths(const nlohmann::ordered_json& from, const char* key, const std::string& name) {
    const auto found = from.find(key);
    if (found == from.end() || !found->is_array()) {
        throw Error::damaged(name, std::string("member \"") + key + "\" is missing or no list");
    }
    std::vector<std::string> all;
    for (const auto& item : *found) {
        all.push_back(member::path({{"item", item}}, "item", name));
    }
    return all;
}

std::string read_all(int fd, const std::string& name) {
    std::string text(kJsonObjectLimit + 1, '\0');
    text.resize(pread_some(fd, std::as_writable_bytes(std::span(text)), 0, name));
    return text;
}

// Whether the name still leads to the open file.
bool is_named(int directory, const std::string& name, int file) {
    const auto named = stat_at(directory, name);
    return named && named->stx_ino == stat_fd(file, name).stx_ino;
}

}  // namespace

const char* name_of(Mode mode) noexcept {
    switch (mode) {
        case Mode::kFreeze:
            return "freeze";
        case Mode::kStop:
            return "stop";
        case Mode::kHook:
            return "hook";
        default:
            return "none";
    }
}

std::string encode(const Intent& intent) {
    JsonObject object;
    object.kind = kKind;
    auto& out = object.members;
    out["id"] = intent.id;
    out["mode"] = name_of(intent.mode);
    out["what"] = member::from_path(intent.what);
    out["already"] = intent.already;
    out["phase"] = name_of(intent.phase);
    out["boot_id"] = intent.boot_id;
    out["pid"] = intent.pid;
    out["process_start"] = intent.process_start;
    out["created_ns"] = intent.created_ns;
    out["cgroup"] = member::from_path(intent.cgroup);
    out["cgroup_id"] = member::to_hex64(intent.cgroup_id);
    out["member_pid"] = intent.member_pid;
    out["member_start"] = intent.member_start;
    out["unit"] = member::from_path(intent.unit);
    out["active_since_us"] = intent.active_since_us;
    auto& dependents = out["dependents"] = nlohmann::ordered_json::array();
    for (const std::string& unit : intent.dependents) {
        dependents.push_back(member::from_path(unit));
    }
    out["systemctl"] = member::from_path(intent.systemctl);
    out["before_command"] = member::from_path(intent.before_command);
    out["after_command"] = member::from_path(intent.after_command);
    out["status_command"] = member::from_path(intent.status_command);
    out["max_downtime_ns"] = intent.max_downtime_ns;
    out["stop_timeout_ns"] = intent.stop_timeout_ns;
    out["command_limit_ns"] = intent.command_limit_ns;
    out["node_directory"] = member::from_path(intent.node_directory);
    out["mount_back"] = intent.mount_back;
    const Bytes bytes = encode_json_object(object);
    return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

Intent decode(const std::string& text, const std::string& name) {
    const JsonObject object = decode_json_object(std::as_bytes(std::span(text)), kKind, name);
    const auto& from = object.members;
    Intent intent;
    intent.id = member::text(from, "id", name);
    intent.mode = mode_named(member::text(from, "mode", name), name);
    intent.what = member::path(from, "what", name);
    intent.already = member::boolean(from, "already", name);
    intent.phase = phase_named(member::text(from, "phase", name), name);
    intent.boot_id = member::text(from, "boot_id", name);
    intent.pid = member::integer(from, "pid", name);
    intent.process_start = member::unsigned_integer(from, "process_start", name);
    intent.created_ns = member::integer(from, "created_ns", name);
    intent.cgroup = member::path(from, "cgroup", name);
    intent.cgroup_id = member::hex64(from, "cgroup_id", name);
    intent.member_pid = member::integer(from, "member_pid", name);
    intent.member_start = member::unsigned_integer(from, "member_start", name);
    intent.unit = member::path(from, "unit", name);
    intent.active_since_us = member::unsigned_integer(from, "active_since_us", name);
    intent.dependents = paths(from, "dependents", name);
    intent.systemctl = member::path(from, "systemctl", name);
    intent.before_command = member::path(from, "before_command", name);
    intent.after_command = member::path(from, "after_command", name);
    intent.status_command = member::path(from, "status_command", name);
    intent.max_downtime_ns = member::integer(from, "max_downtime_ns", name);
    intent.stop_timeout_ns = member::integer(from, "stop_timeout_ns", name);
    intent.command_limit_ns = member::integer(from, "command_limit_ns", name);
    intent.node_directory = member::path(from, "node_directory", name);
    intent.mount_back = from.contains("mount_back") && member::boolean(from, "mount_back", name);  // earlier versions had none
    return intent;
}

std::string intent_name(Mode mode, const std::string& key) {
    std::string escaped;
    for (const char letter : key) {
        const bool plain = std::isalnum(static_cast<unsigned char>(letter)) != 0 || std::strchr("._-@:", letter) != nullptr;
        if (plain) {
            escaped += letter;
        } else {
            constexpr const char* kDigits = "0123456789ABCDEF";
            const auto byte = static_cast<unsigned char>(letter);
            escaped += {'%', kDigits[byte >> 4], kDigits[byte & 15]};
        }
    }
    if (escaped.size() > kLongestKey) {
        const std::string hash = Hasher(0)(std::as_bytes(std::span(key))).hex();
        escaped = escaped.substr(0, kLongestKey - hash.size() - 1) + "-" + hash;
    }
    return std::string(name_of(mode)) + "-" + escaped + ".json";
}

std::string IntentFile::directory_of(const std::string& state_directory) {
    return state_directory + "/hold";
}

IntentFile::IntentFile(FileDescriptor file, FileDescriptor directory, std::string name)
    : file_(std::move(file)), directory_(std::move(directory)), name_(std::move(name)) {
    empty_ = stat_fd(file_.get(), name_).stx_size == 0;
}

IntentFile::~IntentFile() {
    try {
        if (file_ && empty_ && is_named(directory_.get(), name_, file_.get())) {
            entry::remove(directory_.get(), name_);
        }
    } catch (const Error&) {
        // An empty file says nothing.
    }
}

std::optional<IntentFile> IntentFile::lock(const std::string& state_directory, const std::string& name, std::int64_t deadline_ns) {
    make_directories(directory_of(state_directory), 0700);
    return lock(state_directory, name, deadline_ns, true);
}

std::optional<IntentFile> IntentFile::lock_existing(const std::string& state_directory, const std::string& name, std::int64_t deadline_ns) {
    return lock(state_directory, name, deadline_ns, false);
}

std::optional<IntentFile> IntentFile::lock(const std::string& state_directory, const std::string& name, std::int64_t deadline_ns,
                                           bool make) {
    const std::string path = directory_of(state_directory);
    for (;;) {
        FileDescriptor directory = open_path(path, O_RDONLY | O_DIRECTORY);
        if (!make && !stat_at(directory.get(), name)) {
            return std::nullopt;
        }
        FileDescriptor file = open_at(directory.get(), name, O_RDWR | O_CREAT | O_NOFOLLOW, 0600);
        const int error = entry::lock_exclusive(file.get());
        if (error != 0 && error != EWOULDBLOCK) {
            throw Error::system("lock", std::string(path).append("/").append(name), error);
        }
        if (error == 0) {
            // Its last holder may have removed it between the open and the lock.
            if (is_named(directory.get(), name, file.get())) {
                return IntentFile(std::move(file), std::move(directory), name);
            }
            continue;
        }
        if (monotonic_ns() >= deadline_ns) {
            return std::nullopt;
        }
        ::usleep(kLockPauseUs);
    }
}

IntentFile IntentFile::adopt(FileDescriptor file, FileDescriptor directory, std::string name) {
    return {std::move(file), std::move(directory), std::move(name)};
}

std::optional<Intent> IntentFile::read() const {
    const std::string text = read_all(file_.get(), name_);
    if (text.empty()) {
        return std::nullopt;
    }
    try {
        return decode(text, name_);
    } catch (const Error& error) {
        if (error.status() != ExitStatus::kDamaged) {
            throw;
        }
        return std::nullopt;
    }
}

void IntentFile::write(const Intent& intent) {
    const std::string text = encode(intent);
    empty_ = false;
    if (const int error = fault::inject("truncate")) {
        throw Error::system("truncate", name_, error);
    }
    if (::ftruncate(file_.get(), 0) != 0) {
        throw Error::system("truncate", name_, errno);
    }
    pwrite_all(file_.get(), std::as_bytes(std::span(text)), 0, name_);
    sync_file(file_.get(), name_);
    sync_directory(directory_.get(), name_);
}

void IntentFile::remove() {
    if (!is_named(directory_.get(), name_, file_.get())) {
        return;  // removed already; whatever has the name now is another's
    }
    const int error = entry::remove(directory_.get(), name_);
    if (error != 0 && error != ENOENT) {
        throw Error::system("remove", name_, error);
    }
    sync_directory(directory_.get(), name_);
}

std::optional<Intent> peek(const std::string& state_directory, const std::string& name) {
    try {
        const auto text = read_small_file(IntentFile::directory_of(state_directory) + "/" + name, kJsonObjectLimit);
        return text ? std::optional(decode(*text, name)) : std::nullopt;
    } catch (const Error&) {
        return std::nullopt;
    }
}

}  // namespace nodesnap::hold
