// InodeClone: makes in one directory what is the same as an entry of another one. Any thread.
#pragma once

#include <mutex>
#include <string>

#include "platform/file.h"
#include "snapshot/drain/source_directory.h"

namespace nodesnap {

class InodeClone {
public:
    // `links`: a directory of its own, in which the clones of files with several names get one more, by which the next name finds them.
    explicit InodeClone(int links);

    // The entry `entry` of the directory `from`, which is no directory, becomes one of the same name in `to`, which has none of that name.
    // Throws Error::system with ENOENT if it has gone, with ESTALE if it has become something else.
    void clone(int from, const SourceEntry& entry, int to, const std::string& path);
    // What `from` is, an open directory, becomes `to`: its attributes, after which nothing more is made in it.
    static void finish_directory(int from, int to, const std::string& path);

private:
    void clone_linked(const SourceEntry& entry, const FileStatus& status, int opened, int to, const std::string& path);
    static void make(const SourceEntry& entry, const FileStatus& status, int opened, int to, const std::string& path);
    static void make_file(const SourceEntry& entry, const FileStatus& status, int opened, int to, const std::string& path);
    static void make_other(const SourceEntry& entry, const FileStatus& status, int opened, int to, const std::string& path);

    const int links_;
    std::mutex links_mutex_;
};

}  // namespace nodesnap
