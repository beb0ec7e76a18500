#include "snapshot/restore/estimate.h"

#include <algorithm>
#include <vector>

#include "platform/error.h"
#include "platform/file.h"
#include "snapshot/run_reader.h"

namespace nodesnap {
namespace {

using Clock = std::chrono::steady_clock;

constexpr std::uint64_t kSampleBytes = 32U << 20;
constexpr std::uint64_t kSampleEntries = 2000;  // looked at to find files with data
constexpr std::size_t kChunk = 1U << 20;
constexpr double kSecondsPerInode = 60e-6;  // names and attributes, measured on btrfs

struct Sample {
    std::uint64_t bytes = 0;
    double read_seconds = 0;
    double write_seconds = 0;
};

double seconds_since(Clock::time_point start) {
    return std::chrono::duration<double>(Clock::now() - start).count();
}

// A file that vanishes when it is closed. None where the file system can't make one: then writing isn't measured.
FileDescriptor unnamed_file(const std::string& directory) {
    const FileDescriptor parent = open_path(directory, O_PATH | O_DIRECTORY);
    const int fd = try_open_long(parent.get(), ".", O_TMPFILE | O_RDWR, 0600);
    return FileDescriptor(fd < 0 ? -1 : fd);
}

// Where there is no room for a sample (what an interrupted restore has written may have taken it), writing isn't measured.
void write_sample(FileDescriptor& out, std::span<const std::byte> part, std::uint64_t offset) {
    try {
        if (out) {
            pwrite_all(out.get(), part, offset, "a sample");
        }
    } catch (const Error&) {
        out.reset();
    }
}

void sample_file(const Repository& repository, const Inode& inode, FileDescriptor& out, const LossSink& lost, Sample& sample) {
    std::vector<std::byte> chunk(kChunk);
    MapReader reader(repository, inode, "a sample", lost);
    MapCursor cursor(repository.nodes(), inode);
    Run run;
    while (sample.bytes < kSampleBytes && cursor.next(run)) {
        for (std::uint64_t at = run.offset; run.flags == Run::kNone && at < run.end() && sample.bytes < kSampleBytes; at += kChunk) {
            const auto part = std::span(chunk).first(std::min<std::uint64_t>(kChunk, run.end() - at));
            auto start = Clock::now();
            reader.read(part, at);
            sample.read_seconds += seconds_since(start);
            start = Clock::now();
            write_sample(out, part, sample.bytes);
            sample.write_seconds += seconds_since(start);
            sample.bytes += part.size();
        }
    }
}

Sample take_sample(const Repository& repository, const Manifest& backup, const RestorePlace& place, const RestoreSelection& selection,
                   bool goes_past_damage) {
    Sample sample;
    const LossSink lost = goes_past_damage ? [](std::uint32_t, std::uint64_t, std::uint64_t) {} : LossSink();
    auto out = unnamed_file(place.parent);
    std::uint64_t entries = 0;
    for (const auto& part : selection.parts) {
        if (part.type == FileType::kRegular) {
            sample_file(repository, load_inode(repository, backup, part.ino), out, lost, sample);
        }
        if (part.type != FileType::kDirectory) {
            continue;
        }
        TreeWalker walker(repository, backup, part.ino);
        TreeStep step;
        while (sample.bytes < kSampleBytes && entries < kSampleEntries && walker.next(step)) {
            if (step.kind == TreeStep::Kind::kEntry && step.entry.type == FileType::kRegular) {
                ++entries;
                sample_file(repository, load_inode(repository, backup, step.entry.ino), out, lost, sample);
            }
        }
    }
    if (out) {
        const auto start = Clock::now();
        sync_file(out.get(), "a sample", true);
        sample.write_seconds += seconds_since(start);
    }
    return sample;
}

}  // namespace

std::chrono::nanoseconds estimate_restore(const Repository& repository, const Manifest& backup, const RestorePlace& place,
                                          const RestoreSelection& selection, const RestoreNeeds& needs, const RestoreOptions& options) {
    // What a delta restore needs has been read by then; what it doesn't may be lost.
    const auto sample = take_sample(repository, backup, place, selection, options.accept_incomplete || place.delta);
    const auto bytes = static_cast<double>(needs.data_bytes);
    double seconds = static_cast<double>(needs.inodes) * kSecondsPerInode;
    if (sample.bytes != 0) {
        // Reading and writing go on at the same time, but often on one device.
        seconds += (sample.read_seconds + sample.write_seconds) * bytes / static_cast<double>(sample.bytes);
    }
    if (options.limit_bytes_per_second != 0) {
        seconds = std::max(seconds, bytes / static_cast<double>(options.limit_bytes_per_second));
    }
    return std::chrono::nanoseconds(static_cast<std::int64_t>(seconds * 1e9));
}

}  // namespace nodesnap
