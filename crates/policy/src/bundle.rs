//! Policy bundles in OPA's snapshot format: read, write, sign, verify, and decide which may become active.
//!
//! Read in this order: [`Files`] (names and limits: what a bundle may hold at all), [`folder`], [`archive`] and
//! [`config_map`] (three ways to get them), [`signature`] (who vouches for them), [`Bundle`] (what they say),
//! [`admit`] (whether it may replace the one that is active).
//!
//! Promise: a [`Bundle`] whose [`signed_by`](Bundle::signed_by) names a key holds exactly the files that this key
//! signed, no more, no fewer, none changed. Nothing of a bundle is interpreted before its signature is checked.
//! Not guaranteed: that its Rego is harmless, or that its data does not lie over a rule; the load gate looks at that.
//! That the highest sequence survives a restart; the caller keeps [`Activated`] somewhere.
//! Deliberately absent: clocks (time is an argument), a Kubernetes client, unpacking to disk, symmetric keys.

mod admission;
pub mod archive;
pub mod config_map;
mod document;
mod files;
pub mod folder;
mod keys;
mod manifest;
mod package;
pub mod signature;
mod snapshot;
mod token;

pub use admission::{Activated, Refusal, admit};
pub use config_map::ConfigMapContent;
pub use document::DocumentError;
pub use files::{FileError, Files, Kind, MAX_FILES, MAX_UNPACKED_BYTES, Tests};
pub use keys::{Algorithm, KeyError, PublicKey, SigningKey};
pub use manifest::{Manifest, ManifestError, Metadata};
pub use package::PackageError;
pub use signature::{Claims, SignError, Trust, VerifyError};
pub use snapshot::{Bundle, ContentError, OpenError, build};
