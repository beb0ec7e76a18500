// Error: the one exception type of nodesnap.
//
// An error says what was attempted, on which path or object, the errno if the kernel gave one, and what the operator can do. It
// carries the exit status that `main` ends with. It is thrown anywhere and caught in one place, `main`; code that goes on after an
// error (skipping an unreadable file, falling back to another copy) catches it where it decides so.
#pragma once

#include <exception>
#include <string>

namespace nodesnap {

enum class ExitStatus : int {
    kDone = 0,
    kFailed = 1,
    kUsage = 2,
    kRefused = 3,   // a precondition doesn't hold; nothing was touched
    kWarnings = 4,  // done, with warnings
    kDamaged = 5,   // stored data is damaged
    kLocked = 6,    // the repository is locked by another
};

class Error : public std::exception {
public:
    Error(ExitStatus status, std::string message, std::string hint = "", int error_number = 0);

    // "cannot OPERATION PATH: strerror(error_number)"; OPERATION is a verb as in "open", "read from". Picks a hint for well-known
    // errnos (ENOSPC, EACCES, EROFS ...) when none is given.
    static Error system(const std::string& operation, const std::string& path, int error_number, std::string hint = "");
    static Error failed(std::string message, std::string hint = "");
    static Error usage(std::string message, std::string hint = "");
    static Error refused(std::string message, std::string hint = "");
    static Error damaged(const std::string& object, const std::string& what, std::string hint = "");
    static Error locked(std::string message, std::string hint = "");

    const char* what() const noexcept override { return message_.c_str(); }
    const std::string& message() const noexcept { return message_; }
    const std::string& hint() const noexcept { return hint_; }
    ExitStatus status() const noexcept { return status_; }
    int error_number() const noexcept { return error_number_; }

private:
    ExitStatus status_;
    std::string message_;
    std::string hint_;
    int error_number_;
};

// Whether the errno is one that a bad sector causes, also under a file system with checksums of its own.
bool is_media_error(int error_number) noexcept;
// Whether it says that there was no space, or that a quota left none.
bool is_space_error(int error_number) noexcept;

}  // namespace nodesnap
