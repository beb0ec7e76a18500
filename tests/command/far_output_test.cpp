#include "snapshot/command/far_output.h"

#include <gtest/gtest.h>

#include <sstream>

namespace nodesnap::command {
namespace {

// What a terminal would have got, whichever stream it came by.
struct Shown {
    explicit Shown(bool shows_progress) : output(text, text, shows_progress) {}
    std::ostringstream text;
    FarOutput output;
};

TEST(FarOutput, LinesAreShownWhenTheyAreWhole) {
    Shown shown(true);
    shown.output.add_err("warning: one");
    EXPECT_EQ(shown.text.str(), "");
    shown.output.add_err(" and two\nthr");
    EXPECT_EQ(shown.text.str(), "warning: one and two\n");
    shown.output.add_out("result\n");
    shown.output.end();
    EXPECT_EQ(shown.text.str(), "warning: one and two\nresult\nthr\n");
}

TEST(FarOutput, NothingDoesSomethingToATerminal) {
    Shown shown(true);
    shown.output.add_out("a\x1b[2Jb\n\x1b[31m");
    shown.output.add_err("\r\033[Kdraining\x1b]0;x\x07");
    shown.output.end();
    EXPECT_EQ(shown.text.str(), "a\\x1b[2Jb\ndraining\\x1b]0;x\\x07\r\033[K\\x1b[31m\n");
}

TEST(FarOutput, ProgressIsShownAndGoesAway) {
    Shown shown(true);
    shown.output.add_err("\r\033[Kchecking: 1 MiB\r\033[Kchecking: 2 MiB");
    EXPECT_EQ(shown.text.str(), "checking: 2 MiB");
    shown.output.add_err("\r\033");
    shown.output.add_err("[Kwarning: damaged\n");
    EXPECT_EQ(shown.text.str(), "checking: 2 MiB\r\033[Kchecking: 2 MiB\r\033[Kwarning: damaged\n");
    shown.output.add_err("\r\033[Kchecking: 3 MiB");
    shown.text.str("");
    shown.output.add_out("whole\n");
    shown.output.end();
    EXPECT_EQ(shown.text.str(), "\r\033[Kwhole\n");
}

TEST(FarOutput, ProgressIsNothingWithoutATerminal) {
    Shown shown(false);
    shown.output.add_err("begun\r\033[Kchecking: 1 MiB\r\033[Kchecking: 2 MiB\r\033[Kwarning\nlast");
    shown.output.end();
    EXPECT_EQ(shown.text.str(), "begun\nwarning\nlast\n");
}

TEST(FarOutput, LinesWithoutEndAreCut) {
    Shown shown(true);
    shown.output.add_out(std::string(std::size_t{3} << 20, 'x'));
    shown.output.end();
    EXPECT_EQ(shown.text.str().size(), (std::size_t{3} << 20) + 3);
}

}  // namespace
}  // namespace nodesnap::command
