// C++'s exceptions as texts: they must not leave the C interfaces of this folder, whose callers know none.
#pragma once

#include <cstdio>
#include <exception>

// The message of the exception in flight, whatever its type.
inline void svf_describe_exception(char * error, size_t error_size) {
    try {
        throw;
    } catch (const std::exception & thrown) {
        snprintf(error, error_size, "%s", thrown.what());
    } catch (...) {
        snprintf(error, error_size, "an exception of an unknown type");
    }
    if (error[0] == '\0') {
        snprintf(error, error_size, "an exception without a message");
    }
}

// What `work` returns, with an empty `error`; or `otherwise`, with the message of what was thrown.
template <typename Result, typename Work>
Result svf_guarded(Result otherwise, char * error, size_t error_size, Work work) {
    error[0] = '\0';
    try {
        return work();
    } catch (...) {
        svf_describe_exception(error, error_size);
        return otherwise;
    }
}
