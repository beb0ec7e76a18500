#include "platform/error.h"

#include <gtest/gtest.h>

#include <cerrno>

#include "platform/fault.h"

namespace nodesnap {
namespace {

TEST(Error, SystemErrorNamesOperationPathAndReason) {
    const Error error = Error::system("open", "/x", ENOENT);
    EXPECT_STREQ(error.what(), "cannot open /x: No such file or directory");
    EXPECT_EQ(error.error_number(), ENOENT);
    EXPECT_EQ(error.status(), ExitStatus::kFailed);
    EXPECT_EQ(error.hint(), "");
}

TEST(Error, WellKnownReasonsGetAHint) {
    EXPECT_NE(Error::system("write to", "/backup/x", ENOSPC).hint().find("/backup/x"), std::string::npos);
    for (const int number : {EACCES, EPERM, EROFS, EMFILE, EDQUOT}) {
        EXPECT_NE(Error::system("open", "/x", number).hint(), "") << number;
    }
    EXPECT_EQ(Error::system("open", "/x", EACCES, "ask Ann").hint(), "ask Ann");
}

TEST(Error, KindsCarryTheirExitStatus) {
    EXPECT_EQ(Error::failed("x").status(), ExitStatus::kFailed);
    EXPECT_EQ(Error::usage("x").status(), ExitStatus::kUsage);
    EXPECT_EQ(Error::refused("x").status(), ExitStatus::kRefused);
    EXPECT_EQ(Error::locked("x").status(), ExitStatus::kLocked);
    const Error damaged = Error::damaged("pack 1", "checksum differs");
    EXPECT_EQ(damaged.status(), ExitStatus::kDamaged);
    EXPECT_NE(damaged.message().find("pack 1"), std::string::npos);
    EXPECT_NE(damaged.message().find("checksum differs"), std::string::npos);
}

class CountingHooks : public fault::Hooks {
public:
    int on_operation(const char*) noexcept override { return ++operations == 2 ? EIO : 0; }
    void on_step(const char*) noexcept override { ++steps; }
    int operations = 0;
    int steps = 0;
};

TEST(Fault, HooksAreCalledOnlyWhileInstalled) {
    CountingHooks hooks;
    EXPECT_EQ(fault::inject("read"), 0);
    fault::install(&hooks);
    EXPECT_EQ(fault::inject("read"), 0);
    EXPECT_EQ(fault::inject("read"), EIO);
    fault::step("x");
    fault::install(nullptr);
    EXPECT_EQ(fault::inject("read"), 0);
    fault::step("x");
    EXPECT_EQ(hooks.operations, 2);
    EXPECT_EQ(hooks.steps, 1);
}

}  // namespace
}  // namespace nodesnap
