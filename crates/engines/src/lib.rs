//! What is particular to PostgreSQL, MySQL, MongoDB and Redis, as data and pure functions.
//!
//! Nothing here knows Kubernetes' API, a clock, a file or a network. Read in this order:
//!
//! - [`catalogue`]: which releases there are, and from which image each one runs;
//! - [`mod@profile`]: ports, users, limits of time and memory;
//! - [`parameters`]: what a user may set, and what a change of it costs;
//! - [`render`]: configuration files from parameters;
//! - [`pod`]: how a data directory is made and how the engine is started, stopped and probed (`scripts/`);
//! - [`mod@refusal`]: what an engine that did not start said about it.
//!
//! PostgreSQL and Redis run. MySQL and MongoDB are complete and have goldens, but MySQL's scripts have been run by hand
//! only, with another release than the catalogue's, and MongoDB's not at all: [`catalogue::Catalogue::is_available`] says so, and `validate` refuses them.

pub mod catalogue;
pub mod parameters;
pub mod pod;
pub mod profile;
pub mod refusal;
pub mod render;

pub use profile::profile;
pub use refusal::{mask, refusal};

use api::database::Engine;
use api::version::Version;

/// The part of a version within which an engine's data stays readable: `15` of PostgreSQL 15.18, `7` of Redis 7.4.11,
/// `8.4` of MySQL 8.4.8, `8.0` of MongoDB 8.0.16.
///
/// PostgreSQL and Redis number majors by one component. MySQL's and MongoDB's series are named by two, and data goes
/// from one series to the next in one direction only.
pub fn major(engine: Engine, version: &Version) -> String {
    let components = match engine {
        Engine::Postgresql | Engine::Redis => 1,
        Engine::Mysql | Engine::Mongodb => 2,
    };
    version
        .to_string()
        .split('.')
        .take(components)
        .collect::<Vec<_>>()
        .join(".")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_major_is_what_data_stays_readable_within() {
        for (engine, version, expected) in [
            (Engine::Postgresql, "15", "15"),
            (Engine::Postgresql, "15.18", "15"),
            (Engine::Redis, "7.4.11", "7"),
            (Engine::Mysql, "8.4.8", "8.4"),
            (Engine::Mongodb, "8.0", "8.0"),
        ] {
            assert_eq!(
                major(engine, &version.parse().expect(version)),
                expected,
                "{engine:?} {version}"
            );
        }
    }
}
