#include "snapshot/engine_version.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace nodesnap::test {
namespace {

using Numbers = std::vector<std::uint64_t>;

TEST(EngineVersion, IsTheFirstOneThatIsPrinted) {
    EXPECT_EQ(parse_engine_version("3.14").numbers, (Numbers{3, 14}));
    EXPECT_EQ(parse_engine_version("qdbd 3.14.1-rc2 (2024)").numbers, (Numbers{3, 14, 1}));
    EXPECT_EQ(parse_engine_version("postgres (PostgreSQL) 15.4 (Debian 15.4-2.pgdg120+1)").numbers, (Numbers{15, 4}));
    EXPECT_EQ(parse_engine_version("x86_64 build 7 of v2.0.0.9.").numbers, (Numbers{2, 0, 0, 9}));
    const EngineVersion version = parse_engine_version("loading 3 plugins\nengine 1.2 \r\n9.9\n");
    EXPECT_EQ(version.text, "engine 1.2");
    EXPECT_EQ(version.numbers, (Numbers{1, 2}));
}

TEST(EngineVersion, IsNotKnownWithoutOne) {
    for (const std::string text : {"", "\n\n", "qdbd", "version 3", "3.", ".3", "3 .4", "3. 4", "99999999999999999999.1"}) {
        EXPECT_FALSE(parse_engine_version(text).known()) << text;
        EXPECT_EQ(parse_engine_version(text).text, "");
    }
}

TEST(EngineVersion, IsComparedByNumbersNotByText) {
    const auto older = [](const char* a, const char* b) { return is_older(parse_engine_version(a), parse_engine_version(b)); };
    EXPECT_TRUE(older("3.9", "3.10"));
    EXPECT_FALSE(older("3.10", "3.9"));
    EXPECT_FALSE(older("3.10", "3.10.0"));
    EXPECT_TRUE(older("3.10", "3.10.1"));
    EXPECT_FALSE(older("4.0", "3.10.1"));
}

TEST(EngineVersion, ALongLineIsCut) {
    EXPECT_EQ(parse_engine_version("1.2 " + std::string(5000, 'x')).text.size(), 200U);
}

TEST(EngineVersion, IsAskedOfAProgram) {
    const EngineAnswer told = ask_engine_version("echo \"engine 1.2 of $NODESNAP_DIRECTORY\"", "/srv/node");
    EXPECT_EQ(told.version.text, "engine 1.2 of /srv/node");
    EXPECT_EQ(told.problem, "");
    const EngineAnswer failed = ask_engine_version("echo 1.2; exit 4", "");
    EXPECT_FALSE(failed.version.known());
    EXPECT_FALSE(failed.not_installed);
    EXPECT_NE(failed.problem.find("exit status 4"), std::string::npos) << failed.problem;
    EXPECT_TRUE(ask_engine_version("/nowhere/engine --version", "").not_installed);
    EXPECT_EQ(ask_engine_version("true", "").problem, "it printed no version");
}

}  // namespace
}  // namespace nodesnap::test
