//! Placeholder: only the tests are here.
