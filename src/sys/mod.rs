//! The only room with `unsafe`: one thin wrapper a system call.
