#include "platform/host.h"

#include <grp.h>
#include <pwd.h>
#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <map>
#include <mutex>
#include <utility>
#include <vector>

#include "platform/error.h"
#include "platform/file.h"

namespace nodesnap {
namespace {

std::string first_line(const std::string& path) {
    std::string text;
    try {
        text = read_small_file(path, 4096).value_or("");
    } catch (const Error&) {
        // Unreadable is as good as missing: there is another way to name this host.
    }
    return text.substr(0, text.find('\n'));
}

bool is_machine_id(const std::string& text) {
    return text.size() == 32 && text.find_first_not_of("0123456789abcdef") == std::string::npos;
}

// FNV-1a: only to shorten a name.
std::string hash_of(const std::string& text) {
    std::uint64_t hash = 0xcbf29ce484222325;
    for (const char c : text) {
        hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3;
    }
    std::array<char, 17> hex{};
    std::snprintf(hex.data(), hex.size(), "%016llx", static_cast<unsigned long long>(hash));
    return hex.data();
}

// Remembers answers, at most kMost of them; then it forgets all and begins anew.
template <typename Key, typename Value>
class Cache {
public:
    template <typename Find>
    std::optional<Value> get(const Key& key, Find find) {
        const std::scoped_lock lock(mutex_);
        if (const auto known = answers_.find(key); known != answers_.end()) {
            return known->second;
        }
        if (answers_.size() >= kMost) {
            answers_.clear();
        }
        return answers_[key] = find();
    }

private:
    static constexpr std::size_t kMost = 4096;
    std::mutex mutex_;
    std::map<Key, std::optional<Value>> answers_;
};

// Calls one of the get..._r functions with room that grows as it asks.
template <typename Record, typename Call, typename Take>
auto look_up(Call call, Take take) -> std::optional<decltype(take(std::declval<const Record&>()))> {
    for (std::size_t room = 1024; room <= (std::size_t{1} << 20); room *= 4) {
        std::vector<char> buffer(room);
        Record record{};
        Record* found = nullptr;
        int error = 0;
        do {
            error = call(&record, buffer.data(), buffer.size(), &found);
        } while (error == EINTR);
        if (error != ERANGE) {
            return found == nullptr ? std::nullopt : std::optional(take(record));
        }
    }
    return std::nullopt;
}

}  // namespace

std::string host_name() {
    std::array<char, 256> name{};
    if (::gethostname(name.data(), name.size() - 1) != 0 || name[0] == '\0') {
        return "localhost";
    }
    return name.data();
}

std::string machine_id() {
    for (const char* path : {"/etc/machine-id", "/var/lib/dbus/machine-id"}) {
        if (std::string id = first_line(path); is_machine_id(id)) {
            return id;
        }
    }
    return "host-" + hash_of(host_name());
}

std::string boot_id() {
    return first_line("/proc/sys/kernel/random/boot_id");
}

unsigned cpu_count() {
    // A larger machine than cpu_set_t can name (1024 CPUs) makes the call fail with EINVAL.
    cpu_set_t set;
    CPU_ZERO(&set);
    if (::sched_getaffinity(0, sizeof(set), &set) == 0) {
        return static_cast<unsigned>(std::max(1, CPU_COUNT(&set)));
    }
    return static_cast<unsigned>(std::max(1L, ::sysconf(_SC_NPROCESSORS_ONLN)));
}

std::optional<std::string> user_name(uid_t uid) {
    static Cache<uid_t, std::string> cache;
    return cache.get(uid, [uid] {
        return look_up<passwd>([uid](auto... arguments) { return ::getpwuid_r(uid, arguments...); },
                               [](const passwd& record) { return std::string(record.pw_name); });
    });
}

std::optional<std::string> group_name(gid_t gid) {
    static Cache<gid_t, std::string> cache;
    return cache.get(gid, [gid] {
        return look_up<group>([gid](auto... arguments) { return ::getgrgid_r(gid, arguments...); },
                              [](const group& record) { return std::string(record.gr_name); });
    });
}

std::optional<uid_t> user_id(const std::string& name) {
    static Cache<std::string, uid_t> cache;
    return cache.get(name, [&name] {
        return look_up<passwd>([&name](auto... arguments) { return ::getpwnam_r(name.c_str(), arguments...); },
                               [](const passwd& record) { return record.pw_uid; });
    });
}

std::optional<gid_t> group_id(const std::string& name) {
    static Cache<std::string, gid_t> cache;
    return cache.get(name, [&name] {
        return look_up<group>([&name](auto... arguments) { return ::getgrnam_r(name.c_str(), arguments...); },
                              [](const group& record) { return record.gr_gid; });
    });
}

}  // namespace nodesnap
