//! Several real replicas, each a process of the real binary behind a proxy of its own, share real Databases at a real API
//! server. [`chaos`] lets every kind of fault happen, [`measure`] takes times and counts.

mod audit;
mod chaos;
mod faults;
mod judge;
mod load;
mod measure;
mod place;
mod replica;
mod setting;
