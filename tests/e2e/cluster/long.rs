//! Slow fault tests for `make test-cluster`. `make test` skips them by their name (`long::`).

mod balancers;
mod faults;
mod group;
mod rates;
