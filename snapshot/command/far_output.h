// FarOutput: what a command that runs on another host prints, shown here line by line as it comes, without what would do something to a
// terminal. Its progress line, which it writes as ProgressLine does, is shown where there is a terminal, and nowhere else. One thread.
#pragma once

#include <ostream>
#include <string>
#include <string_view>

namespace nodesnap::command {

class FarOutput {
public:
    FarOutput(std::ostream& out, std::ostream& err, bool shows_progress);
    void add_out(std::string_view text);
    void add_err(std::string_view text);
    void end();  // what was printed without the end of a line, too

private:
    // The line of one stream that has begun.
    struct Lines {
        std::ostream& to;
        std::string rest;
        bool passing = false;  // it is progress, unless it comes to an end
    };
    void add(Lines& lines, std::string_view text);
    void print(std::ostream& to, std::string_view line);
    void show_progress(std::string_view line);
    void clear_progress();

    Lines out_, err_;
    const bool shows_progress_;
    bool progress_shown_ = false;
};

}  // namespace nodesnap::command
