#include "platform/detached_mount.h"

#include <sys/mount.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <string_view>

#include "platform/mount_exchange.h"

namespace nodesnap {
namespace {

// What the kernel has logged on a file system context: "e Error text", one message a read.
std::string kernel_message(int context) {
    std::array<char, 1024> buffer;
    std::string all;
    for (;;) {
        const ssize_t length = ::read(context, buffer.data(), buffer.size());
        if (length <= 0) {
            return all;
        }
        std::string message(buffer.data(), static_cast<std::size_t>(length));
        all += (all.empty() ? "" : "; ") + (message.starts_with("e ") ? message.substr(2) : message);
    }
}

int set_option(int context, const std::string& name, const std::string& value) {
    return value.empty() ? ::fsconfig(context, FSCONFIG_SET_FLAG, name.c_str(), nullptr, 0)
                         : ::fsconfig(context, FSCONFIG_SET_STRING, name.c_str(), value.c_str(), 0);
}

// "rw,errors=remount-ro,context="a:b:s0:c1,c2"", as the kernel tells them.
std::vector<std::string> split_options(std::string_view text) {
    std::vector<std::string> options(1);
    bool quoted = false;
    for (const char c : text) {
        if (c == '"') {
            quoted = !quoted;
        } else if (c == ',' && !quoted) {
            options.emplace_back();
        } else {
            options.back() += c;
        }
    }
    return options;
}

}  // namespace

DeviceMount mount_like(const Mount& mount, const std::string& device) {
    DeviceMount like{mount.type, device, {}, mount_attributes(mount)};
    for (const std::string& option : split_options(mount.super_options)) {
        const std::size_t equals = std::min(option.find('='), option.size());
        const std::string name = option.substr(0, equals);
        if (!name.empty() && name != "seclabel" && name != "nouuid") {  // the former only tells that there are labels
            like.options.emplace_back(name, option.substr(std::min(equals + 1, option.size())));
        }
    }
    if (mount.type == "xfs") {
        like.options.emplace_back("nouuid", "");
    }
    return like;
}

FileDescriptor mount_detached(const DeviceMount& mount, std::string& why) {
    const auto fail = [&why](const char* call, int context) {
        const int error = errno;
        const std::string message = context >= 0 ? kernel_message(context) : "";
        why = std::string(call) + ": " + std::strerror(error) + (message.empty() ? "" : " (" + message + ")");
        return FileDescriptor();
    };
    const FileDescriptor context(::fsopen(mount.type.c_str(), FSOPEN_CLOEXEC));
    if (!context) {
        return fail("fsopen", -1);
    }
    if (set_option(context.get(), "source", mount.device) != 0) {
        return fail("fsconfig", context.get());
    }
    for (const auto& [name, value] : mount.options) {
        if (set_option(context.get(), name, value) != 0) {
            return fail("fsconfig", context.get());
        }
    }
    if (::fsconfig(context.get(), FSCONFIG_CMD_CREATE, nullptr, nullptr, 0) != 0) {
        return fail("fsconfig", context.get());
    }
    FileDescriptor mounted(::fsmount(context.get(), FSMOUNT_CLOEXEC, static_cast<unsigned>(mount.attributes)));
    return mounted ? std::move(mounted) : fail("fsmount", context.get());
}

}  // namespace nodesnap
