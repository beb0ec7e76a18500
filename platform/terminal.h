// Whether a descriptor is a terminal: what a person sees may be cleared and rewritten, what a program reads may not.
#pragma once

namespace nodesnap {

bool is_terminal(int fd) noexcept;

}  // namespace nodesnap
