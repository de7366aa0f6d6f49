//! End to end: the real binary, real guests, real stores, real clients.
