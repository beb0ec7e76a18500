#include "platform/file.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <fstream>
#include <set>
#include <thread>

#include "platform/directory_stream.h"
#include "platform/error.h"
#include "platform/fault.h"
#include "tests/support/loop_mount.h"

namespace nodesnap {
namespace {

namespace fs = std::filesystem;
using test::ScratchDirectory;

template <typename Function>
Error error_of(Function function) {
    try {
        function();
    } catch (const Error& error) {
        return error;
    }
    ADD_FAILURE() << "no error";
    return Error::failed("no error");
}

std::span<const std::byte> bytes(std::string_view text) {
    return std::as_bytes(std::span(text));
}

// Makes a chain of directories whose path is longer than PATH_MAX; returns it, relative to `root`.
std::string make_long_path(int root, std::size_t depth) {
    std::string path;
    FileDescriptor current = open_at(root, ".", O_RDONLY | O_DIRECTORY);
    for (std::size_t i = 0; i < depth; ++i) {
        const std::string name = std::string(200, 'd') + std::to_string(i);
        EXPECT_EQ(::mkdirat(current.get(), name.c_str(), 0755), 0);
        current = open_at(current.get(), name, O_RDONLY | O_DIRECTORY);
        path += (path.empty() ? "" : "/") + name;
    }
    return path;
}

class FileTest : public testing::Test {
protected:
    ScratchDirectory scratch_;
    FileDescriptor root_ = open_path(scratch_.path(), O_RDONLY | O_DIRECTORY);
};

TEST(ReadLink, SaysWhichSymlinkCannotBeRead) {
    const ScratchDirectory scratch;
    const FileDescriptor fd = open_path(scratch.path(), O_PATH);
    try {
        read_link(fd.get(), "", "data/link");
        FAIL() << "a directory is no symlink";
    } catch (const Error& error) {
        EXPECT_TRUE(error.message().starts_with("cannot read the symlink data/link: ")) << error.message();
    }
}

TEST_F(FileTest, OpenSaysWhatIsMissing) {
    const Error error = error_of([&] { open_path(scratch_ / "nothing", O_RDONLY); });
    EXPECT_EQ(error.message(), "cannot open " + (scratch_ / "nothing") + ": No such file or directory");
}

TEST_F(FileTest, DescriptorsAreClosedOnExec) {
    const FileDescriptor file = open_path(scratch_ / "file", O_CREAT | O_RDWR, 0600);
    EXPECT_NE(::fcntl(file.get(), F_GETFD) & FD_CLOEXEC, 0);
    EXPECT_NE(::fcntl(open_long(root_.get(), "file", O_RDONLY).get(), F_GETFD) & FD_CLOEXEC, 0);
}

TEST_F(FileTest, LongPathIsOpenedAndCreatedIn) {
    const std::string directory = make_long_path(root_.get(), 60);
    ASSERT_GT(directory.size(), 3u * PATH_MAX - 1000);
    {
        const FileDescriptor file = open_long(root_.get(), directory + "/file", O_CREAT | O_EXCL | O_WRONLY, 0640);
        write_all(file.get(), bytes("deep"), "file");
    }
    const FileDescriptor file = open_long(root_.get(), "/" + directory + "//file/", O_RDONLY);
    std::string content(4, 0);
    pread_exact(file.get(), std::as_writable_bytes(std::span(content)), 0, "file");
    EXPECT_EQ(content, "deep");
    EXPECT_EQ(try_open_long(root_.get(), directory + "/none", O_RDONLY), -ENOENT);
}

TEST_F(FileTest, LongPathOfEveryLengthAroundThePieceIsOpened) {
    // Components of one byte: a piece may end at, before or after a slash.
    FileDescriptor current = open_at(root_.get(), ".", O_RDONLY | O_DIRECTORY);
    std::string path;
    for (int i = 0; i < 2100; ++i) {
        ASSERT_EQ(::mkdirat(current.get(), "d", 0755), 0);
        current = open_at(current.get(), "d", O_RDONLY | O_DIRECTORY);
        path += path.empty() ? "d" : "/d";
        if (path.size() > 4080 && path.size() < 4110) {
            const FileDescriptor found = open_long(root_.get(), path, O_RDONLY | O_DIRECTORY);
            EXPECT_EQ(stat_fd(found.get()).stx_ino, stat_fd(current.get()).stx_ino) << path.size();
            EXPECT_EQ(try_open_long(root_.get(), path + "/ee", O_RDONLY), -ENOENT) << path.size();
        }
    }
}

TEST_F(FileTest, LongPathFollowsNoSymlink) {
    fs::create_directories(scratch_ / "real/inner");
    fs::create_directory_symlink("real", scratch_ / "link");
    EXPECT_EQ(try_open_long(root_.get(), "link/inner", O_RDONLY), -ELOOP);
    EXPECT_EQ(try_open_long(root_.get(), "link", O_RDONLY), -ELOOP);
    const FileDescriptor link = open_long(root_.get(), "link", O_PATH);
    EXPECT_TRUE(S_ISLNK(stat_fd(link.get()).stx_mode));
}

TEST_F(FileTest, LongPathStaysBelowItsRoot) {
    fs::create_directory(scratch_ / "below");
    const FileDescriptor below = open_path(scratch_ / "below", O_RDONLY | O_DIRECTORY);
    EXPECT_EQ(try_open_long(below.get(), "..", O_RDONLY), -EINVAL);
    EXPECT_EQ(try_open_long(below.get(), "x/../../y", O_RDONLY), -EINVAL);
    EXPECT_EQ(try_open_long(below.get(), std::string_view("a\0b", 3), O_RDONLY), -EINVAL);
    for (const char* self : {"", ".", "/", "./."}) {
        EXPECT_EQ(stat_fd(open_long(below.get(), self, O_RDONLY).get()).stx_ino, stat_fd(below.get()).stx_ino) << self;
    }
}

TEST_F(FileTest, TooLongNameIsRefused) {
    EXPECT_EQ(try_open_long(root_.get(), std::string(256, 'x'), O_RDONLY), -ENAMETOOLONG);
    EXPECT_EQ(try_open_long(root_.get(), std::string(10000, 'x'), O_RDONLY), -ENAMETOOLONG);
}

TEST_F(FileTest, ReadingPastTheEndIsAnError) {
    const FileDescriptor file = open_path(scratch_ / "file", O_CREAT | O_RDWR, 0600);
    pwrite_all(file.get(), bytes("abcdef"), 10, "file");
    std::vector<std::byte> buffer(20);
    EXPECT_EQ(pread_some(file.get(), buffer, 12, "file"), 4u);
    EXPECT_NE(error_of([&] { pread_exact(file.get(), buffer, 12, "the file"); }).message().find("the file"), std::string::npos);
}

TEST_F(FileTest, PipeIsReadInPieces) {
    int ends[2];
    ASSERT_EQ(::pipe(ends), 0);
    FileDescriptor in(ends[0]);
    FileDescriptor out(ends[1]);
    const std::string sent(200000, 'p');  // more than a pipe holds
    std::thread writer([&] {
        write_all(out.get(), bytes(sent), "pipe");
        out.reset();
    });
    std::string got(sent.size(), 0);
    read_exact(in.get(), std::as_writable_bytes(std::span(got)), "pipe");
    writer.join();
    EXPECT_EQ(got, sent);
    EXPECT_NE(error_of([&] { read_exact(in.get(), std::as_writable_bytes(std::span(got)), "pipe"); }).message().find("end of file"),
              std::string::npos);
}

TEST_F(FileTest, FullDeviceIsNamed) {
    const FileDescriptor full = open_path("/dev/full", O_WRONLY);
    const Error error = error_of([&] { pwrite_all(full.get(), bytes("x"), 0, "/dev/full"); });
    EXPECT_EQ(error.error_number(), ENOSPC);
    EXPECT_NE(error.hint().find("/dev/full"), std::string::npos);
}

TEST_F(FileTest, RenameNoReplaceKeepsWhatIsThere) {
    write_file_durably(scratch_ / "a", "A");
    write_file_durably(scratch_ / "b", "B");
    EXPECT_FALSE(rename_no_replace(scratch_ / "a", scratch_ / "b"));
    EXPECT_EQ(read_small_file(scratch_ / "a"), "A");
    EXPECT_EQ(read_small_file(scratch_ / "b"), "B");
    EXPECT_TRUE(rename_no_replace(root_.get(), "a", root_.get(), "c"));
    EXPECT_EQ(read_small_file(scratch_ / "c"), "A");
    EXPECT_EQ(error_of([&] { rename_no_replace(scratch_ / "none", scratch_ / "d"); }).error_number(), ENOENT);
}

TEST_F(FileTest, RenameExchangeSwapsBoth) {
    write_file_durably(scratch_ / "a", "A");
    fs::create_directory(scratch_ / "d");
    rename_exchange(scratch_ / "a", scratch_ / "d");
    EXPECT_EQ(read_small_file(scratch_ / "d"), "A");
    EXPECT_TRUE(fs::is_directory(scratch_ / "a"));
}

TEST_F(FileTest, DirectoriesAreMadeWithTheirParents) {
    EXPECT_TRUE(make_directories(scratch_ / "x/y/z"));
    EXPECT_FALSE(make_directories(scratch_ / "x/y/z"));
    EXPECT_TRUE(make_directories(scratch_ / "x/y/w/"));
    fs::create_directory_symlink("x", scratch_ / "to-x");
    EXPECT_FALSE(make_directories(scratch_ / "to-x"));
    write_file_durably(scratch_ / "file", "");
    EXPECT_EQ(error_of([&] { make_directories(scratch_ / "file"); }).error_number(), ENOTDIR);
    EXPECT_EQ(error_of([&] { make_directories(scratch_ / "file/below"); }).error_number(), ENOTDIR);
}

TEST_F(FileTest, StatusTellsTimesTypesAndAbsence) {
    write_file_durably(scratch_ / "file", "12345", 0604);
    fs::create_symlink("file", scratch_ / "link");
    const auto file = stat_at(root_.get(), "file");
    ASSERT_TRUE(file);
    EXPECT_EQ(file->stx_size, 5u);
    EXPECT_EQ(file->stx_mode & 07777, 0604);
    EXPECT_NE(file->stx_mask & STATX_BTIME, 0u);
    EXPECT_TRUE(S_ISLNK(stat_at(root_.get(), "link")->stx_mode));
    EXPECT_TRUE(S_ISREG(stat_path(scratch_ / "link")->stx_mode));
    EXPECT_FALSE(stat_at(root_.get(), "none"));
    EXPECT_FALSE(stat_path(scratch_ / "file/none"));
    EXPECT_EQ(read_link(root_.get(), "link"), "file");
    struct stat plain {};
    ASSERT_EQ(::stat((scratch_ / "file").c_str(), &plain), 0);
    EXPECT_EQ(device_of(*file), plain.st_dev);
}

TEST_F(FileTest, SmallFileIsReplacedWholeOrNotAtAll) {
    const std::string path = scratch_ / "file";
    write_file_durably(path, "old");
    class FailNth : public fault::Hooks {
    public:
        explicit FailNth(int n) : left_(n) {}
        int on_operation(const char*) noexcept override { return --left_ == 0 ? EIO : 0; }
        void on_step(const char*) noexcept override {}
        bool fired() const { return left_ <= 0; }

    private:
        int left_;
    };
    for (int n = 1;; ++n) {
        FailNth hooks(n);
        fault::install(&hooks);
        try {
            write_file_durably(path, "new content");
        } catch (const Error& error) {
            EXPECT_EQ(error.error_number(), EIO);
        }
        fault::install(nullptr);
        const auto content = read_small_file(path);
        EXPECT_TRUE(content == "old" || content == "new content") << n;
        // No temporary file stays behind.
        EXPECT_EQ(std::distance(fs::directory_iterator(scratch_.path()), fs::directory_iterator()), 1) << n;
        if (!hooks.fired()) {
            EXPECT_GT(n, 3);
            break;
        }
        write_file_durably(path, "old");
    }
    EXPECT_EQ(read_small_file(path), "new content");
    EXPECT_EQ(read_small_file(path, 3), "new");
    EXPECT_EQ(read_small_file(scratch_ / "none"), std::nullopt);
}

TEST_F(FileTest, RemovingTellsWhetherThereWasOne) {
    write_file_durably(scratch_ / "file", "");
    EXPECT_TRUE(remove_file(scratch_ / "file"));
    EXPECT_FALSE(remove_file(scratch_ / "file"));
    fs::create_directories(scratch_ / "d/e");
    EXPECT_EQ(error_of([&] { remove_directory(scratch_ / "d"); }).error_number(), ENOTEMPTY);
    EXPECT_TRUE(remove_directory(scratch_ / "d/e"));
    EXPECT_FALSE(remove_directory(scratch_ / "d/e"));
}

TEST_F(FileTest, DirectoryStreamTellsEveryNameOnce) {
    std::set<std::string> made;
    fs::create_directory(scratch_ / "d");
    for (int i = 0; i < 3000; ++i) {  // more than one buffer
        const std::string name = "\xff\x01 " + std::string(100, 'n') + std::to_string(i);
        std::ofstream((scratch_ / "d/") + name);
        made.insert(name);
    }
    DirectoryStream stream(open_path(scratch_ / "d", O_RDONLY | O_DIRECTORY), "d");
    DirectoryEntry entry;
    std::set<std::string> found;
    while (stream.next(entry)) {
        EXPECT_TRUE(found.insert(entry.name).second) << entry.name;
        EXPECT_NE(entry.ino, 0u);
    }
    EXPECT_EQ(found, made);
}

TEST_F(FileTest, DirectoryStreamGoesOnAtACookie) {
    fs::create_directory(scratch_ / "d");
    for (int i = 0; i < 2000; ++i) {
        std::ofstream(scratch_ / ("d/" + std::to_string(i)));
    }
    const auto open = [&] { return DirectoryStream(open_path(scratch_ / "d", O_RDONLY | O_DIRECTORY), "d"); };
    std::set<std::string> found;
    std::int64_t cookie = 0;
    DirectoryEntry entry;
    for (bool more = true; more;) {
        DirectoryStream stream = open();  // as a walk does that closed it to go deeper
        stream.seek(cookie);
        for (int i = 0; i < 7 && (more = stream.next(entry)); ++i) {
            EXPECT_TRUE(found.insert(entry.name).second) << entry.name;
        }
        cookie = stream.cookie();
    }
    EXPECT_EQ(found.size(), 2000u);
}

}  // namespace
}  // namespace nodesnap
