// A daemon whose files show whether they are of one instant.
//
//   record_writer write DIR [PIDFILE [PAUSE]]
//                                      writes numbered, checksummed records to several files of DIR in a fixed order, some appended, some
//   as
//                                      pages that are overwritten in place, never synced, until it is ended; goes on where it was. Its pid
//                                      is in PIDFILE (none if empty) from when it writes until, after SIGTERM, it has closed its files.
//                                      PAUSE: microseconds between two numbers, 1000 if not given.
//   record_writer check DIR            proves that the files are as they were in one instant, and prints the last number; ends with 1, and
//                                      says how they aren't, otherwise.
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

namespace {

constexpr std::size_t kRecordBytes = 512;
constexpr std::size_t kPageBytes = 4096;
constexpr std::uint64_t kPages = 512;
constexpr std::uint64_t kStride = 197;  // odd: every page has its turn before one is written again
constexpr std::size_t kFiles = 8;       // an appended one and one of pages in turn: the order in which each number is written

volatile std::sig_atomic_t ended = 0;

[[noreturn]] void give_up(const std::string& what) {
    std::fprintf(stderr, "record_writer: %s: %s\n", what.c_str(), std::strerror(errno));
    std::exit(2);
}

[[noreturn]] void out_of_order(const std::string& what) {
    std::printf("out of order: %s\n", what.c_str());
    std::exit(1);
}

bool is_appended(std::size_t file) {
    return file % 2 == 0;
}
std::size_t bytes_of(std::size_t file) {
    return is_appended(file) ? kRecordBytes : kPageBytes;
}
std::uint64_t place_of(std::size_t file, std::uint64_t number) {
    return is_appended(file) ? (number - 1) * kRecordBytes : number * kStride % kPages * kPageBytes;
}
std::string name_of(const std::string& directory, std::size_t file) {
    return directory + (is_appended(file) ? "/log" : "/pages") + std::to_string(file / 2);
}

std::uint64_t mixed(std::uint64_t value) {
    value = (value ^ (value >> 30)) * 0xbf58476d1ce4e5b9U;
    value = (value ^ (value >> 27)) * 0x94d049bb133111ebU;
    return value ^ (value >> 31);
}

// The number, then what follows from it and from the file.
std::vector<std::uint64_t> content(std::size_t file, std::uint64_t number) {
    std::vector<std::uint64_t> words(bytes_of(file) / sizeof(std::uint64_t));
    words[0] = number;
    for (std::size_t i = 1; i < words.size(); ++i) {
        words[i] = mixed(number * kFiles * kPageBytes + file * kPageBytes + i);
    }
    return words;
}

bool holds(int fd, std::size_t file, std::uint64_t number) {
    std::vector<std::uint64_t> words(bytes_of(file) / sizeof(std::uint64_t));
    const auto bytes = static_cast<ssize_t>(bytes_of(file));
    return ::pread(fd, words.data(), bytes_of(file), static_cast<off_t>(place_of(file, number))) == bytes && words == content(file, number);
}

std::array<int, kFiles> open_all(const std::string& directory, int flags) {
    std::array<int, kFiles> files{};
    for (std::size_t file = 0; file < kFiles; ++file) {
        files[file] = ::open(name_of(directory, file).c_str(), flags, 0644);
        if (files[file] < 0) {
            give_up(name_of(directory, file));
        }
    }
    return files;
}

std::uint64_t size_of(int fd) {
    struct stat status {};
    if (::fstat(fd, &status) != 0) {
        give_up("stat");
    }
    return static_cast<std::uint64_t>(status.st_size);
}

// What was begun of one number when it was killed is written again.
std::uint64_t last_whole(const std::array<int, kFiles>& files) {
    std::uint64_t last = UINT64_MAX;
    for (std::size_t file = 0; file < kFiles; file += 2) {
        last = std::min(last, size_of(files[file]) / kRecordBytes);
    }
    for (std::size_t file = 0; file < kFiles; file += 2) {
        if (::ftruncate(files[file], static_cast<off_t>(last * kRecordBytes)) != 0) {
            give_up("truncate");
        }
    }
    return last;
}

void write_pid(const std::string& path) {
    const std::string beside = path + ".new";
    std::FILE* file = std::fopen(beside.c_str(), "w");
    if (file == nullptr || std::fprintf(file, "%d\n", ::getpid()) < 0 || std::fclose(file) != 0 ||
        std::rename(beside.c_str(), path.c_str()) != 0) {
        give_up(path);
    }
}

int write_records(const std::string& directory, const std::string& pid_file, useconds_t pause_us) {
    struct sigaction action {};
    action.sa_handler = [](int) { ended = 1; };
    ::sigaction(SIGTERM, &action, nullptr);
    const auto files = open_all(directory, O_RDWR | O_CREAT | O_CLOEXEC);
    std::uint64_t number = last_whole(files);
    if (!pid_file.empty()) {
        write_pid(pid_file);
    }
    while (ended == 0) {
        ++number;
        for (std::size_t file = 0; file < kFiles; ++file) {
            const auto words = content(file, number);
            const auto bytes = static_cast<ssize_t>(bytes_of(file));
            if (::pwrite(files[file], words.data(), bytes_of(file), static_cast<off_t>(place_of(file, number))) != bytes) {
                give_up("write " + name_of(directory, file));
            }
        }
        ::usleep(pause_us);
    }
    for (const int file : files) {
        ::close(file);
    }
    if (!pid_file.empty()) {
        ::unlink(pid_file.c_str());
    }
    return 0;
}

// The last number of each file, with all before it there that must be.
std::uint64_t last_of(int fd, std::size_t file) {
    std::uint64_t last = 0;
    if (is_appended(file)) {
        last = size_of(fd) / kRecordBytes;
        if (size_of(fd) % kRecordBytes != 0) {
            out_of_order("a record of file " + std::to_string(file) + " is cut off");
        }
    } else {
        for (std::uint64_t page = 0; page * kPageBytes < size_of(fd); ++page) {
            std::uint64_t number = 0;
            if (::pread(fd, &number, sizeof(number), static_cast<off_t>(page * kPageBytes)) == sizeof(number)) {
                last = std::max(last, number);
            }
        }
    }
    const std::uint64_t first = is_appended(file) || last <= kPages ? 1 : last - kPages + 1;
    for (std::uint64_t number = first; number <= last; ++number) {
        if (!holds(fd, file, number)) {
            out_of_order("file " + std::to_string(file) + " has come to " + std::to_string(last) + ", and lacks " + std::to_string(number));
        }
    }
    return last;
}

int check_records(const std::string& directory) {
    const auto files = open_all(directory, O_RDONLY | O_CLOEXEC);
    std::array<std::uint64_t, kFiles> last{};
    std::string all;
    for (std::size_t file = 0; file < kFiles; ++file) {
        last[file] = last_of(files[file], file);
        all += " " + std::to_string(last[file]);
    }
    if (!std::is_sorted(last.rbegin(), last.rend()) || last.front() - last.back() > 1) {
        out_of_order("the files have come to" + all);
    }
    std::printf("%llu\n", static_cast<unsigned long long>(last.back()));
    return 0;
}

}  // namespace

int main(int argc, char** argv) {
    const std::vector<std::string> arguments(argv + 1, argv + argc);
    if (arguments.size() >= 2 && arguments[0] == "write") {
        constexpr useconds_t kPauseUs = 1000;  // so that it writes some 15 MB/s
        const useconds_t pause_us = arguments.size() > 3 ? static_cast<useconds_t>(std::stoul(arguments[3])) : kPauseUs;
        return write_records(arguments[1], arguments.size() > 2 ? arguments[2] : "", pause_us);
    }
    if (arguments.size() == 2 && arguments[0] == "check") {
        return check_records(arguments[1]);
    }
    std::fprintf(stderr, "usage: record_writer write DIR [PIDFILE [PAUSE]] | check DIR\n");
    return 2;
}
