//! The parts that the end-to-end tests share: the real binary, a real MariaDB, a real Express app, browsers. It contains no tests.

#![expect(
    clippy::unwrap_used,
    reason = "a test that cannot go on should end there"
)]

pub mod admin;
pub mod book;
pub mod browser;
pub mod chaos_proxy;
pub mod disk;
pub mod express;
pub mod galera;
pub mod haproxy;
pub mod host;
pub mod ledger;
pub mod mariadb;
pub mod mysql_group;
pub mod nginx;
pub mod port;
pub mod raw_h2;
pub mod swap;
pub mod table;
pub mod versions;
pub mod wait;
mod warden;
