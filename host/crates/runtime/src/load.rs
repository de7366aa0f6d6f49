//! From a file to code that can be instantiated: validation, compilation in a child process, and the cache of compiled code.

pub(crate) mod budget_check;
pub(crate) mod code;
pub(crate) mod code_cache;
pub(crate) mod compiler;
pub(crate) mod digest;
pub(crate) mod inspection;
pub(crate) mod loader;
pub(crate) mod need;
