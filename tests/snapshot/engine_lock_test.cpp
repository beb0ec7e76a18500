// Which engines' locks are seen, of real processes that hold them.
#include "snapshot/engine_lock.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/prctl.h>

#include <filesystem>
#include <fstream>
#include <string>

#include "tests/support/holder_process.h"
#include "tests/support/loop_mount.h"

namespace nodesnap {
namespace {

using test::HolderProcess;

class EngineLockTest : public testing::Test {
protected:
    void write(const std::string& name, const std::string& content) const { std::ofstream(path(name)) << content; }
    std::string path(const std::string& name) const { return directory_ / name; }
    std::string locked() const { return engine_lock(directory_.path()); }

    test::ScratchDirectory directory_;
};

TEST_F(EngineLockTest, NoneIsSeenWhereNobodyHoldsOne) {
    EXPECT_EQ(locked(), "");
    write("LOCK", "");
    write("postmaster.pid", "");
    EXPECT_EQ(locked(), "") << "what an engine leaves behind locks nothing";
    write("postmaster.pid", "not a number\n");
    EXPECT_EQ(locked(), "");
    std::filesystem::remove(path("LOCK"));
    std::filesystem::create_directory(path("LOCK"));
    EXPECT_EQ(locked(), "");
}

TEST_F(EngineLockTest, ARecordLockIsTheEnginesWhateverItsKind) {
    write("LOCK", "");
    for (const int command : {F_SETLK, F_OFD_SETLK}) {
        for (const short type : {F_WRLCK, F_RDLCK}) {
            const HolderProcess engine([&] {
                const int file = ::open(path("LOCK").c_str(), O_RDWR);
                struct flock lock {};
                lock.l_type = type;
                lock.l_whence = SEEK_SET;
                return file >= 0 && ::fcntl(file, command, &lock) == 0;
            });
            EXPECT_NE(locked().find(path("LOCK") + " is locked by "), std::string::npos) << locked();
            EXPECT_EQ(locked().find("process " + std::to_string(engine.pid())) != std::string::npos, command == F_SETLK) << locked();
        }
        EXPECT_EQ(locked(), "") << "it went with the process";
    }
}

TEST_F(EngineLockTest, APostmasterIsOneOnlyIfItRunsAndIsPostgres) {
    {
        const HolderProcess postgres([] { return ::prctl(PR_SET_NAME, "postgres") == 0; });
        write("postmaster.pid", std::to_string(postgres.pid()) + "\n/var/lib/postgresql\n");
        EXPECT_NE(locked().find("names process " + std::to_string(postgres.pid()) + " (postgres)"), std::string::npos) << locked();
    }
    EXPECT_EQ(locked(), "");
    const HolderProcess other([] { return true; });
    write("postmaster.pid", std::to_string(other.pid()) + "\n");
    EXPECT_EQ(locked(), "") << "its number was given to another process since";
}

}  // namespace
}  // namespace nodesnap
