//! The decision log: what is asked is found, what must not be seen is not, and nothing that happens to it stops anybody.

mod asking;
mod exporting;
mod kill;
mod masking;
mod sample;
mod trouble;
