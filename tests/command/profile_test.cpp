// Profiles: what they preset, and what counts before them.
#include "snapshot/command/profile.h"

#include "tests/command/program_fixture.h"

namespace nodesnap {
namespace {

using test::Outcome;

class Profiles : public test::ProgramTest {
protected:
    void SetUp() override {
        init();
        ASSERT_EQ(backup().status, 0);
    }
    Outcome drill(std::vector<std::string> more) {
        std::vector<std::string> arguments = {"drill", repository(), "--scratch-dir=" + (scratch_ / ""), "--json"};
        arguments.insert(arguments.end(), more.begin(), more.end());
        return run(arguments);
    }
    static std::string validate_command(const Outcome& outcome) { return outcome.json()["validation"]["command"]; }
};

// A name that no command knows would be an error of usage.
TEST_F(Profiles, AllFitTheCommandsThatHaveThem) {
    ASSERT_FALSE(command::profile_names().empty());
    for (const std::string& name : command::profile_names()) {
        EXPECT_EQ(run({"restore", repository(), "latest", scratch_ / ("restored-" + name), "--profile", name}).status, 0) << name;
        EXPECT_EQ(drill({"--profile", name, "--validate-command", "true"}).status, 0) << name;
    }
}

TEST_F(Profiles, PresetWhatNothingElseSays) {
    EXPECT_NE(validate_command(drill({"--profile", "quasardb"})).find("qdb_dbtool"), std::string::npos);
    EXPECT_EQ(validate_command(drill({"--profile", "generic"})), "");
    EXPECT_EQ(validate_command(drill({"--profile", "quasardb", "--validate-command", "true"})), "true");
    write("conf.ini", "profile = quasardb\n[drill]\nvalidate-command = true # as it is\n");
    EXPECT_EQ(validate_command(drill({"--config", scratch_ / "conf.ini"})), "true # as it is");
    write("conf.ini", "profile = quasardb\n");
    EXPECT_NE(validate_command(drill({"--config", scratch_ / "conf.ini"})).find("qdb_dbtool"), std::string::npos);
}

TEST_F(Profiles, OneThatIsNotThereIsAnErrorOfUsage) {
    const Outcome outcome = run({"drill", repository(), "--profile", "quasardv"});
    EXPECT_EQ(outcome.status, 2);
    EXPECT_NE(outcome.err.find("quasardb"), std::string::npos) << outcome.err;
}

}  // namespace
}  // namespace nodesnap
