// Signals that ask the program to stop (SIGINT, SIGTERM, SIGHUP) set a flag, which long work looks at; a second one doesn't do more.
// SIGPIPE is ignored.
#pragma once

namespace nodesnap::interrupt {

void install();               // once, in main
bool interrupted() noexcept;  // any thread
void throw_if_interrupted();  // Error::failed("interrupted by SIGTERM")
void request() noexcept;      // as if a signal had come
void clear() noexcept;        // for tests

}  // namespace nodesnap::interrupt

namespace nodesnap {
using interrupt::interrupted;
using interrupt::throw_if_interrupted;
}  // namespace nodesnap
