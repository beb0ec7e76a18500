#include "snapshot/command/far_output.h"

#include <algorithm>

#include "snapshot/command/printable.h"
#include "snapshot/command/progress_line.h"

namespace nodesnap::command {
namespace {

constexpr std::size_t kLongestLine = std::size_t{1} << 20;  // more is a line of its own

}  // namespace

FarOutput::FarOutput(std::ostream& out, std::ostream& err, bool shows_progress)
    : out_{out, {}, false}, err_{err, {}, false}, shows_progress_(shows_progress) {}

void FarOutput::add_out(std::string_view text) {
    add(out_, text);
}

void FarOutput::add_err(std::string_view text) {
    add(err_, text);
    if (err_.passing) {
        show_progress(err_.rest);
    }
}

void FarOutput::add(Lines& lines, std::string_view text) {
    lines.rest += text;
    for (;;) {
        const std::size_t newline = lines.rest.find('\n');
        const std::size_t clear = lines.rest.find(kClearLine);
        if (clear < newline) {
            if (!lines.passing && clear > 0) {
                print(lines.to, std::string_view(lines.rest).substr(0, clear));
            }
            lines.rest.erase(0, clear + kClearLine.size());
            lines.passing = true;
        } else if (newline != std::string::npos || lines.rest.size() > kLongestLine) {
            const std::size_t end = std::min(newline, kLongestLine);
            print(lines.to, std::string_view(lines.rest).substr(0, end));
            lines.rest.erase(0, newline == end ? end + 1 : end);
            lines.passing = false;
        } else {
            return;
        }
    }
}

void FarOutput::print(std::ostream& to, std::string_view line) {
    clear_progress();
    to << printable_text(line) << '\n' << std::flush;
}

void FarOutput::show_progress(std::string_view line) {
    clear_progress();
    // A clear of which only the beginning has come isn't for the terminal.
    const std::string_view text = line.substr(0, std::min(line.find('\r'), kProgressColumns));
    if (shows_progress_ && !text.empty()) {
        err_.to << printable_text(text) << std::flush;
        progress_shown_ = true;
    }
}

void FarOutput::clear_progress() {
    if (progress_shown_) {
        err_.to << kClearLine << std::flush;
        progress_shown_ = false;
    }
}

void FarOutput::end() {
    for (Lines* lines : {&out_, &err_}) {
        if (!lines->rest.empty() && !lines->passing) {
            print(lines->to, lines->rest);
        }
        lines->rest.clear();
    }
    clear_progress();
    out_.to.flush();
}

}  // namespace nodesnap::command
