//! End to end: the real binary, real guests, real stores, real clients.

mod mysql_store;
