#include "snapshot/command/help.h"

#include <iomanip>
#include <sstream>
#include <string>

namespace nodesnap::command {
namespace {

constexpr const char* kStatuses =
    "  0  done\n"
    "  1  failed\n"
    "  2  wrong usage\n"
    "  3  refused: a precondition doesn't hold, and nothing was touched\n"
    "  4  done, with warnings\n"
    "  5  damage was found in what is stored\n"
    "  6  the repository is locked by another\n";

// A block of text with every line indented.
void print_block(std::ostream& out, const char* title, const char* text) {
    if (*text == '\0') {
        return;
    }
    out << '\n' << title << ":\n";
    std::istringstream lines(text);
    for (std::string line; std::getline(lines, line);) {
        out << (line.empty() ? "" : "  ") << line << '\n';
    }
}

}  // namespace

void print_overview(std::ostream& out) {
    out << "nodesnap takes snapshots of a database node's directory and keeps backups of it.\n"
           "\n"
           "Usage: nodesnap COMMAND [ARGUMENT]... [OPTION]...\n"
           "\n"
           "Commands:\n";
    for (const Command* command : all_commands()) {
        out << "  " << std::left << std::setw(10) << command->name << command->summary << '\n';
    }
    out << "\n"
           "\"nodesnap help COMMAND\" explains one of them; \"nodesnap --version\" tells the version.\n"
           "\n"
           "In short:\n"
           "  nodesnap init /backup/node1 --node node1\n"
           "  nodesnap backup /var/lib/db /backup/node1\n"
           "  nodesnap list /backup/node1\n"
           "  nodesnap restore /backup/node1 latest /var/lib/db.restored\n"
           "\n"
           "REPOSITORY is a directory, or ssh://[USER@]HOST[:PORT]/PATH, one on another host where nodesnap is installed, too.\n"
           "BACKUP is a backup's id, a beginning of it that fits no other, or \"latest\"; --as-of TIME may stand in its place.\n"
           "Sizes and rates take K, M, G, T (powers of 1024), as in 200M; durations s, m, h, d, w, as in 26h or 1h30m; times are\n"
           "UTC, as in \"2024-05-31 14:30\", RFC 3339, or \"2h ago\".\n"
           "Options may stand in /etc/nodesnap/nodesnap.conf or in the file that --config names: \"limit = 200M\", in a section\n"
           "[backup] for that command only.\n"
           "\n"
           "Exit status:\n"
        << kStatuses;
}

void print_help(std::ostream& out, const Command& command) {
    out << "nodesnap " << command.name << ": " << command.summary << '\n';
    print_block(out, "Usage", command.usage);
    out << '\n' << command.description;
    out << '\n' << options_of(command).description();
    print_block(out, "Examples", command.examples);
    print_block(out, "Exit status", *command.statuses != '\0' ? command.statuses : kStatuses);
}

}  // namespace nodesnap::command
