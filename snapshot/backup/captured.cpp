#include "snapshot/backup/captured.h"

#include <fcntl.h>
#include <sys/stat.h>

#include <filesystem>
#include <map>

#include "io/units.h"
#include "platform/directory_stream.h"
#include "platform/error.h"
#include "platform/file.h"

namespace nodesnap {
namespace {

constexpr const char* kRemedy = "leave it out of --capture, or name what is meant more exactly";

class Reader {
public:
    void add(const std::string& path, int flags) {
        const FileDescriptor file = open_path(path, O_RDONLY | O_NONBLOCK | flags);
        const FileStatus status = stat_fd(file.get(), path);
        if (S_ISDIR(status.stx_mode)) {
            add_directory(path);
        } else if (S_ISREG(status.stx_mode)) {
            add_file(path, file.get(), status);
        } else {
            throw Error::refused("can't capture " + path + ": it is neither a file nor a directory", kRemedy);
        }
    }

    std::vector<CapturedFile> take() {
        std::vector<CapturedFile> files;
        for (auto& [path, file] : found_) {
            files.push_back(std::move(file));
        }
        return files;
    }

private:
    void add_directory(const std::string& path) {
        DirectoryStream stream(open_path(path, O_RDONLY | O_DIRECTORY), path);
        DirectoryEntry entry;
        while (stream.next(entry)) {
            const auto status = stat_at(stream.fd(), entry.name);  // not every file system tells the type with the name
            if (status && (S_ISREG(status->stx_mode) || S_ISDIR(status->stx_mode))) {
                add(path + "/" + entry.name, O_NOFOLLOW);
            }
        }
    }

    void add_file(const std::string& path, int file, const FileStatus& status) {
        if (found_.contains(path)) {
            return;
        }
        CapturedFile captured;
        captured.path = path;
        captured.mode = status.stx_mode & 07777;
        captured.uid = status.stx_uid;
        captured.gid = status.stx_gid;
        captured.modified = {status.stx_mtime.tv_sec, status.stx_mtime.tv_nsec};
        Bytes content(kCapturedLimit - bytes_ + 1);
        content.resize(pread_some(file, content, 0, path));
        bytes_ += content.size();
        if (bytes_ > kCapturedLimit) {
            throw Error::refused("can't capture " + path + ": with it there are more than " + human_bytes(kCapturedLimit) +
                                     ", and they are stored in each backup's manifest",
                                 kRemedy);
        }
        captured.content.assign(reinterpret_cast<const char*>(content.data()), content.size());
        found_.emplace(path, std::move(captured));
    }

    std::map<std::string, CapturedFile> found_;
    std::uint64_t bytes_ = 0;
};

}  // namespace

std::vector<CapturedFile> read_captured(const std::vector<std::string>& paths) {
    Reader reader;
    for (const std::string& path : paths) {
        std::string normal = std::filesystem::absolute(path).lexically_normal();
        if (normal.size() > 1 && normal.ends_with('/')) {
            normal.pop_back();
        }
        if (!stat_path(normal)) {
            throw Error::refused("can't capture " + path + ": there is no such file", "check the path, or leave it out of --capture");
        }
        reader.add(normal, 0);
    }
    return reader.take();
}

}  // namespace nodesnap
