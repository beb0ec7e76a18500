#include "platform/error.h"

#include <cerrno>
#include <system_error>
#include <utility>

namespace nodesnap {
namespace {

std::string default_hint(const std::string& path, int error_number) {
    switch (error_number) {
        case ENOSPC:
            return "free space on the file system that holds " + path;
        case EDQUOT:
            return "raise the quota of the user, or free space that counts towards it";
        case EACCES:
        case EPERM:
            return "run as root or as a user who may do that";
        case EROFS:
            return "the file system is mounted read-only; remount it read-write";
        case EMFILE:
        case ENFILE:
            return "raise the limit of open files (ulimit -n)";
        case EIO:
            return "the storage reports an error; look into the kernel's log (dmesg)";
        default:
            return "";
    }
}

}  // namespace

Error::Error(ExitStatus status, std::string message, std::string hint, int error_number)
    : status_(status), message_(std::move(message)), hint_(std::move(hint)), error_number_(error_number) {}

Error Error::system(const std::string& operation, const std::string& path, int error_number, std::string hint) {
    if (hint.empty()) {
        hint = default_hint(path, error_number);
    }
    // std::error_category is the thread-safe spelling of strerror().
    std::string message = "cannot " + operation + (path.empty() ? "" : " " + path) + ": " + std::generic_category().message(error_number);
    return Error(ExitStatus::kFailed, std::move(message), std::move(hint), error_number);
}

Error Error::failed(std::string message, std::string hint) {
    return Error(ExitStatus::kFailed, std::move(message), std::move(hint));
}

Error Error::usage(std::string message, std::string hint) {
    return Error(ExitStatus::kUsage, std::move(message), std::move(hint));
}

Error Error::refused(std::string message, std::string hint) {
    return Error(ExitStatus::kRefused, std::move(message), std::move(hint));
}

Error Error::damaged(const std::string& object, const std::string& what, std::string hint) {
    return Error(ExitStatus::kDamaged, object + " is damaged: " + what, std::move(hint));
}

Error Error::locked(std::string message, std::string hint) {
    return Error(ExitStatus::kLocked, std::move(message), std::move(hint));
}

bool is_media_error(int error_number) noexcept {
    return error_number == EIO || error_number == EUCLEAN || error_number == EBADMSG || error_number == EILSEQ || error_number == EREMOTEIO;
}

bool is_space_error(int error_number) noexcept {
    return error_number == ENOSPC || error_number == EDQUOT;
}

}  // namespace nodesnap
