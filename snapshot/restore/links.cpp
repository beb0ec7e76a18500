#include "snapshot/restore/links.h"

#include <sys/stat.h>

#include <cerrno>
#include <utility>

#include "platform/directory_stream.h"
#include "platform/entry.h"
#include "platform/error.h"
#include "platform/file.h"
#include "snapshot/restore/trail.h"

namespace nodesnap {
namespace {

constexpr int kDirectory = O_RDONLY | O_DIRECTORY | O_NOFOLLOW;

FileDescriptor made_directory(int parent, const std::string& name) {
    const int error = entry::make_directory(parent, name, 0700);
    if (error != 0 && error != EEXIST) {
        throw Error::system("make the directory", name, error);
    }
    return open_at(parent, name, kDirectory);
}

std::string mark_name(std::uint64_t ino) {
    return RestoreLinks::entry_name(ino) + "+";
}

void remove_entries(int directory, const std::string& name) {
    DirectoryStream stream(open_at(directory, name, kDirectory), name);
    DirectoryEntry found;
    while (stream.next(found)) {
        if (const int error = entry::remove(stream.fd(), found.name); error != 0 && error != ENOENT) {
            throw Error::system("remove", name + "/" + found.name, error);
        }
    }
}

}  // namespace

RestoreLinks::RestoreLinks(int root, std::string name, std::uint32_t run, RestoreWarnings& warnings)
    : root_(root), name_(std::move(name)), run_(run), warnings_(warnings) {}

void RestoreLinks::prepare() {
    directory_ = made_directory(root_, name_);
    current_ = made_directory(directory_.get(), std::to_string(run_));
    for (std::uint32_t earlier = 0; earlier < run_; ++earlier) {
        if (stat_at(directory_.get(), std::to_string(earlier))) {
            earlier_.push_back(open_at(directory_.get(), std::to_string(earlier), kDirectory));
        }
    }
}

bool RestoreLinks::used() const {
    return stat_at(root_, name_).has_value();
}

bool RestoreLinks::claim(std::uint64_t ino, const Make& make) {
    std::call_once(prepared_, [this] { prepare(); });
    const auto name = entry_name(ino);
    if (take_over(name)) {
        return true;
    }
    const int error = make(current_.get(), name);
    if (error != 0 && error != EEXIST) {
        throw Error::system("make the inode of hard links", name, error);
    }
    return error == 0;
}

bool RestoreLinks::take_present(std::uint64_t present_ino) {
    const auto name = "=" + std::to_string(present_ino);
    for (const auto& earlier : earlier_) {
        if (stat_at(earlier.get(), name)) {
            return false;
        }
    }
    const int error = entry::make_node(current_.get(), name, S_IFREG | 0600);
    if (error != 0 && error != EEXIST) {
        throw Error::system("make", name_ + "/" + name, error);
    }
    return error == 0;
}

void RestoreLinks::filling(std::uint64_t ino) {
    const auto mark = mark_name(ino);
    const int error = entry::make_node(current_.get(), mark, S_IFREG | 0600);
    if (error != 0 && error != EEXIST) {
        throw Error::system("make", name_ + "/" + mark, error);
    }
    for (const auto& earlier : earlier_) {
        if (const int failed = entry::remove(earlier.get(), mark); failed != 0 && failed != ENOENT) {
            throw Error::system("remove", name_ + "/" + mark, failed);
        }
    }
}

void RestoreLinks::filled(std::uint64_t ino) {
    const auto mark = mark_name(ino);
    if (const int error = entry::remove(current_.get(), mark); error != 0 && error != ENOENT) {
        throw Error::system("remove", name_ + "/" + mark, error);
    }
}

bool RestoreLinks::left_unfilled(std::uint64_t ino) const {
    for (std::uint32_t run = 0; run < run_; ++run) {
        if (stat_at(root_, name_ + "/" + std::to_string(run) + "/" + mark_name(ino))) {
            return true;
        }
    }
    return false;
}

bool RestoreLinks::take_over(const std::string& entry) {
    for (const auto& earlier : earlier_) {
        if (stat_at(earlier.get(), entry) && rename_no_replace(earlier.get(), entry, current_.get(), entry)) {
            return true;
        }
    }
    return false;
}

bool RestoreLinks::link(std::uint64_t ino, int directory, const std::string& name, const std::function<std::string()>& path) {
    const auto from = entry_name(ino);
    while (true) {
        const int error = entry::link(current_.get(), from, directory, name);
        switch (error) {
            case 0:
                return true;
            case ENOENT:
                return false;
            case EEXIST:  // left by an earlier run
                if (const int failed = entry::remove(directory, name); failed != 0 && failed != ENOENT) {
                    throw Error::system("replace", path(), failed);
                }
                break;
            case EMLINK:
            case EPERM:
            case EOPNOTSUPP:
            case EXDEV: {
                // No further name, or none at all: the one under its number becomes this one. Whoever comes next makes a new inode,
                // which must not be taken away by another who was refused at the same time: one at a time, and asked again.
                const std::lock_guard lock(full_);
                if (const int again = entry::link(current_.get(), from, directory, name); again != error) {
                    if (again == 0) {
                        return true;
                    }
                    break;
                }
                const int failed = entry::rename(current_.get(), from, directory, name);
                if (failed != 0 && failed != ENOENT) {
                    throw Error::system("link", path(), failed);
                }
                if (failed == 0) {
                    warnings_.add(error == EMLINK ? "further hard links" : "hard links", error, path());
                    return true;
                }
                return false;
            }
            default:
                if (cannot_be_named(error)) {
                    warnings_.add("the name", error, path());
                    return true;
                }
                throw Error::system("link", path(), error);
        }
    }
}

void RestoreLinks::remove(int root, const std::string& name) {
    if (!stat_at(root, name)) {
        return;
    }
    const auto directory = open_at(root, name, kDirectory);
    while (true) {
        // Few runs: their names may be kept, so that nothing is removed while the directory is read.
        std::vector<std::string> runs;
        DirectoryStream stream(open_at(root, name, kDirectory), name);
        DirectoryEntry found;
        while (stream.next(found) && runs.size() < 1000) {
            runs.push_back(found.name);
        }
        if (runs.empty()) {
            break;
        }
        for (const auto& run : runs) {
            remove_entries(directory.get(), run);
            if (const int error = entry::remove_directory(directory.get(), run); error != 0 && error != ENOTEMPTY) {
                throw Error::system("remove", std::string(name).append("/").append(run), error);
            }
        }
    }
    if (const int error = entry::remove_directory(root, name); error != 0) {
        throw Error::system("remove", name, error);
    }
}

}  // namespace nodesnap
