#include "snapshot/restore/captured.h"

#include <fcntl.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>

#include "platform/directory_stream.h"
#include "platform/entry.h"
#include "platform/error.h"
#include "platform/file.h"

namespace nodesnap {
namespace {

constexpr int kDirectory = O_RDONLY | O_DIRECTORY | O_NOFOLLOW;

bool is_empty(const std::string& directory) {
    DirectoryStream stream(open_path(directory, O_RDONLY | O_DIRECTORY), directory);
    DirectoryEntry entry;
    return !stream.next(entry);
}

FileDescriptor make_directories(const std::string& path, int below) {
    FileDescriptor above = open_at(below, ".", O_RDONLY | O_DIRECTORY);
    for (std::size_t begin = 1; begin < path.size();) {
        const std::size_t end = std::min(path.find('/', begin), path.size());
        const std::string name = path.substr(begin, end - begin);
        if (const int failed = entry::make_directory(above.get(), name, 0700); failed != 0 && failed != EEXIST) {
            throw Error::system("create directory", path.substr(0, end), failed);
        }
        above = open_at(above.get(), name, kDirectory);
        begin = end + 1;
    }
    return above;
}

}  // namespace

void require_place_of_captured(const Manifest& backup, const std::string& directory) {
    if (backup.captured.empty()) {
        throw Error::refused("the backup has captured no files", "they are what `backup --capture` names; see nodesnap show");
    }
    if (const auto status = stat_path(directory); status && (!S_ISDIR(status->stx_mode) || !is_empty(directory))) {
        throw Error::refused(directory + " isn't an empty directory", "give --captured one that is empty or isn't there");
    }
}

void restore_captured(const Manifest& backup, const std::string& directory) {
    require_place_of_captured(backup, directory);
    if (const int failed = entry::make_directory(AT_FDCWD, directory, 0700); failed != 0 && failed != EEXIST) {
        throw Error::system("create directory", directory, failed);
    }
    const FileDescriptor root = open_path(directory, O_RDONLY | O_DIRECTORY);
    for (const CapturedFile& captured : backup.captured) {
        const std::string path = directory + captured.path;
        const std::size_t slash = captured.path.rfind('/');
        const FileDescriptor above = make_directories(captured.path.substr(0, slash), root.get());
        const FileDescriptor file = open_at(above.get(), captured.path.substr(slash + 1), O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, 0600);
        pwrite_all(file.get(), std::as_bytes(std::span(captured.content)), 0, path);
        const entry::Times times{captured.modified.seconds, captured.modified.nanoseconds, captured.modified.seconds,
                                 captured.modified.nanoseconds};
        if (const int failed = entry::set_times(file.get(), times); failed != 0) {
            throw Error::system("set the times of", path, failed);
        }
    }
    sync_file_system(root.get(), directory);
}

}  // namespace nodesnap
