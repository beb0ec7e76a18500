// Words of commands in messages, as they can be pasted into a shell.
#pragma once

#include <string>
#include <string_view>

namespace nodesnap {

// Quoted where it must be. Bytes that aren't printable ASCII are escaped as bash, zsh and ksh understand it ($'...'), so that what a
// terminal shows of the word is the word.
std::string shell_word(std::string_view word);

}  // namespace nodesnap
