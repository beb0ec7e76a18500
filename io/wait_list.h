// Parked and WaitList: suspended coroutines in intrusive first-in-first-out lists, without an allocation per wait.
//
// A Parked lives inside the awaiting coroutine's frame (it is part of an awaiter) and leaves its list when it is destroyed, so that a
// frame may be destroyed while it waits. One thread.
#pragma once

#include <coroutine>

namespace nodesnap {

class WaitList;

class Parked {
public:
    Parked() noexcept = default;
    Parked(const Parked&) = delete;
    Parked& operator=(const Parked&) = delete;
    ~Parked() { leave(); }

    bool parked() const noexcept { return list_ != nullptr; }
    Parked* next() const noexcept { return next_; }
    void leave() noexcept;

    std::coroutine_handle<> coroutine;  // set before it enters a list

private:
    friend class WaitList;
    WaitList* list_ = nullptr;
    Parked* previous_ = nullptr;
    Parked* next_ = nullptr;
};

class WaitList {
public:
    WaitList() noexcept = default;
    WaitList(const WaitList&) = delete;
    WaitList& operator=(const WaitList&) = delete;
    ~WaitList() {
        while (first_ != nullptr) {
            first_->leave();
        }
    }

    bool empty() const noexcept { return first_ == nullptr; }
    Parked* first() const noexcept { return first_; }

    void push(Parked& waiter) noexcept {
        waiter.list_ = this;
        waiter.previous_ = last_;
        waiter.next_ = nullptr;
        (last_ != nullptr ? last_->next_ : first_) = &waiter;
        last_ = &waiter;
    }
    // The list must not be empty.
    Parked& pop() noexcept {
        Parked& waiter = *first_;
        waiter.leave();
        return waiter;
    }

private:
    friend class Parked;
    Parked* first_ = nullptr;
    Parked* last_ = nullptr;
};

inline void Parked::leave() noexcept {
    if (list_ == nullptr) {
        return;
    }
    (previous_ != nullptr ? previous_->next_ : list_->first_) = next_;
    (next_ != nullptr ? next_->previous_ : list_->last_) = previous_;
    list_ = nullptr;
}

}  // namespace nodesnap
