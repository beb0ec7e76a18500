// What a terminal may be shown. Names of files are bytes that anybody may have chosen: control characters, escape sequences, text that runs
// backwards and invalid UTF-8 are written as \xNN, so that no name can move the cursor, hide itself or look like another line.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace nodesnap::command {

bool is_utf8(std::string_view bytes) noexcept;
// A name, unambiguously: a backslash is doubled too.
std::string printable_name(std::string_view name);
// A sentence that may hold names; backslashes stay as they are.
std::string printable_text(std::string_view text);
// At most 60 bytes of what is printable, cut between characters, with "..." behind: to quote what is wrong because it is too long.
std::string shortened(std::string text);
// How many columns of a terminal it takes: none for a combining mark, two for a wide character.
std::size_t columns_of(std::string_view text) noexcept;
// "1 file", "2 files".
std::string counted(std::uint64_t count, std::string_view singular, std::string_view plural);
// "3 files, 1 directory, 0 others"
std::string counts_of(std::uint64_t files, std::uint64_t directories, std::uint64_t others);
// RFC 4648, with padding.
std::string base64(std::string_view bytes);

}  // namespace nodesnap::command
