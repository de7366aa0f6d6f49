//! The faults that take their time, for `make test-cluster`: `make test` leaves them out by their name (`long::`).

mod balancers;
mod faults;
mod group;
mod rates;
