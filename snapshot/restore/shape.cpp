#include "snapshot/restore/shape.h"

#include <linux/fs.h>

#include <algorithm>
#include <cerrno>

#include "platform/entry.h"
#include "platform/error.h"
#include "platform/extent_map.h"
#include "platform/inode_flags.h"
#include "snapshot/repository/map_diff.h"

namespace nodesnap {
namespace {

class Shape {
public:
    Shape(int fd, const std::string& path) : fd_(fd), path_(path) {}

    void punch(std::uint64_t begin, std::uint64_t end) {
        if (begin < end) {
            note(entry::punch_hole(fd_, begin, end - begin), "make a hole in");
        }
    }
    void allocate(std::uint64_t begin, std::uint64_t end) {
        if (begin < end) {
            note(entry::allocate(fd_, true, begin, end - begin), "allocate space for");
        }
    }
    int result() const { return result_; }

private:
    void note(int error, const char* operation) {
        if (error == ENOSPC || error == EDQUOT || error == EIO) {
            throw Error::system(operation, path_, error);
        }
        result_ = error != 0 ? error : result_;
    }

    const int fd_;
    const std::string& path_;
    int result_ = 0;
};

bool is_data(const Run& run) {
    return run.flags == Run::kNone;
}

// The extents of a file, asked in ascending order.
class Extents {
public:
    Extents(int fd, const std::string& path, std::uint64_t start) : reader_(fd, path, start), more_(reader_.next(extent_)) {}

    // Calls `each` with the part of every extent in [begin, end).
    template <typename Each>
    void visit(std::uint64_t begin, std::uint64_t end, const Each& each) {
        while (more_ && extent_.logical < end) {
            const auto from = std::max(begin, extent_.logical);
            const auto to = std::min(end, extent_.end());
            if (from < to) {
                each(from, to, extent_);
            }
            if (extent_.end() > end) {
                return;
            }
            more_ = reader_.next(extent_);
        }
    }

private:
    ExtentReader reader_;
    Extent extent_;
    bool more_;
};

}  // namespace

int shape_unknown(const Repository& repository, const Inode& wanted, int fd, std::uint64_t start, const std::string& path) {
    Shape shape(fd, path);
    Extents extents(fd, path, start);
    MapCursor map(repository.nodes(), wanted, start);
    std::uint64_t position = start;
    // Beyond the size nothing is left.
    const auto hole = [&](std::uint64_t end) {
        extents.visit(position, std::min(end, wanted.size), [&](auto from, auto to, const Extent&) { shape.punch(from, to); });
    };
    Run run;
    while (map.next(run)) {
        const auto begin = std::max(run.offset, start);
        if (run.flags == Run::kDamagedSource) {
            continue;  // zeros stand for it
        }
        hole(begin);
        position = run.end();
        if (is_data(run)) {
            continue;
        }
        std::uint64_t unwritten = 0;
        bool data = false;
        extents.visit(begin, run.end(), [&](auto from, auto to, const Extent& extent) {
            unwritten += extent.unwritten() ? to - from : 0;
            data |= !extent.unwritten();
        });
        if (data) {
            shape.punch(begin, run.end());
        }
        if (data || unwritten != run.end() - begin) {
            shape.allocate(begin, run.end());
        }
    }
    hole(wanted.size);
    return shape.result();
}

int shape_known(const Repository& repository, const Inode& wanted, const Inode& held, int fd, bool resized, const std::string& path) {
    Shape shape(fd, path);
    RunPlaces places(repository.packs());
    MapDiff maps(repository.nodes(), places, held, wanted);
    MapChange change;
    while (maps.next(change)) {
        if (change.after != RangeKind::kData && change.before != RangeKind::kHole) {
            shape.punch(change.offset, change.end());
        }
        if (change.after == RangeKind::kUnwritten) {
            shape.allocate(change.offset, change.end());
        }
    }
    if (resized) {
        const auto from = std::min(wanted.size, held.size);
        MapCursor map(repository.nodes(), wanted, from);
        Run run;
        while (map.next(run)) {
            if (run.flags == Run::kUnwritten) {
                shape.allocate(std::max(from, run.offset), run.end());
            }
        }
    }
    return shape.result();
}

bool changes_cow(int fd, const Inode& wanted) {
    return ((inode_flags(fd).value_or(wanted.flags) ^ wanted.flags) & FS_NOCOW_FL) != 0;
}

}  // namespace nodesnap
