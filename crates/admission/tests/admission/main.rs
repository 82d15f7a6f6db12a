//! The webhook over real TLS, and before a real API server.

mod cluster;
mod rotation;
mod server;
mod support;
mod swap;
mod webhook;
