// Where tests make the program fail. Nothing is installed in the shipped program: then each call costs one load of an atomic.
//
// inject() stands before every system call that reads or writes data, names or durability (in platform/, in the ring and in the
// targets): a non-zero result is an errno that the caller must treat as if the call had returned it.
// step() marks the instants between which the order of writes matters ("backup.packs-durable", "restore.renamed" ...): a test kills the
// program there.
#pragma once

namespace nodesnap::fault {

class Hooks {
public:
    virtual ~Hooks() = default;
    // Called from any thread.
    virtual int on_operation(const char* operation) noexcept = 0;
    virtual void on_step(const char* name) noexcept = 0;
};

// Not owned; nullptr removes. Call while no other thread runs.
void install(Hooks* hooks) noexcept;

int inject(const char* operation) noexcept;
void step(const char* name) noexcept;

}  // namespace nodesnap::fault
