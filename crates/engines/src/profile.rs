//! Ports, users and limits of each engine.

use std::fmt::Write as _;

use api::database::Engine;
use api::quantity::Quantity;

/// What is fixed about an engine, whatever its version.
#[derive(Clone, Debug, PartialEq)]
pub struct Profile {
    /// The port that the engine listens on, its registered one.
    pub port: u16,
    /// Name of that port in Services and containers: at most 15 characters.
    pub port_name: &'static str,
    /// The administrator, in Secret `NAME-admin`.
    pub admin_user: &'static str,
    /// The application's user, in Secret `NAME-app`.
    pub app_user: &'static str,
    /// The application's database. Redis has numbered ones only, so there it is `0`.
    pub default_database: &'static str,
    /// How long a pod may take to stop, in seconds, before it is killed. An orderly stop writes out what is in memory;
    /// a killed engine loses nothing either, but has to recover at its next start.
    pub termination_grace_seconds: u32,
    /// Whether a restart alone makes the engine take over a remade Secret `NAME-admin`. Where the engine keeps its users
    /// in the data, a lost password cannot be set anew from outside.
    pub credentials_follow_secret: bool,
    /// `type` of the service binding in Secret `NAME-app`.
    pub binding_type: &'static str,
    /// The least `limits.memory` with which a small database is of any use. Ours, not the vendor's: MySQL's and
    /// MongoDB's smallest caches alone take a few hundred MiB, PostgreSQL and Redis are frugal.
    pub minimum_memory: Quantity,
    scheme: &'static str,
}

impl Profile {
    /// A URI with which a client connects. Every part is percent-encoded, so no password can change its meaning.
    pub fn uri(&self, host: &str, port: u16, user: &str, password: &str, database: &str) -> String {
        let [user, password, database] = [user, password, database].map(percent_encoded);
        format!("{}://{user}:{password}@{host}:{port}/{database}", self.scheme)
    }
}

/// The profile of `engine`.
pub fn profile(engine: Engine) -> &'static Profile {
    match engine {
        Engine::Postgresql => &POSTGRESQL,
        Engine::Mysql => &MYSQL,
        Engine::Mongodb => &MONGODB,
        Engine::Redis => &REDIS,
    }
}

const MEBIBYTE: i64 = 1 << 20;

static POSTGRESQL: Profile = Profile {
    port: 5432,
    port_name: "postgresql",
    admin_user: "postgres",
    app_user: "app",
    default_database: "app",
    // A fast stop ends with a checkpoint, which writes out all of shared_buffers.
    termination_grace_seconds: 180,
    credentials_follow_secret: false,
    binding_type: "postgresql",
    minimum_memory: Quantity::from_bytes(128 * MEBIBYTE),
    scheme: "postgresql",
};

static MYSQL: Profile = Profile {
    port: 3306,
    port_name: "mysql",
    admin_user: "root",
    app_user: "app",
    default_database: "app",
    termination_grace_seconds: 300,
    credentials_follow_secret: false,
    binding_type: "mysql",
    minimum_memory: Quantity::from_bytes(512 * MEBIBYTE),
    scheme: "mysql",
};

static MONGODB: Profile = Profile {
    port: 27017,
    port_name: "mongodb",
    admin_user: "root",
    app_user: "app",
    default_database: "app",
    termination_grace_seconds: 120,
    credentials_follow_secret: false,
    binding_type: "mongodb",
    minimum_memory: Quantity::from_bytes(512 * MEBIBYTE),
    scheme: "mongodb",
};

static REDIS: Profile = Profile {
    port: 6379,
    port_name: "redis",
    // The user that a client is when it gives a password without a name.
    admin_user: "default",
    app_user: "app",
    default_database: "0",
    termination_grace_seconds: 120,
    // The users are rendered from the Secret at every start.
    credentials_follow_secret: true,
    binding_type: "redis",
    minimum_memory: Quantity::from_bytes(32 * MEBIBYTE),
    scheme: "redis",
};

/// Everything but RFC 3986's unreserved characters as `%XX`.
fn percent_encoded(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => encoded.push(char::from(byte)),
            other => write!(encoded, "%{other:02X}").expect("a String takes all that is written to it"),
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uri_cannot_be_changed_by_a_password() {
        for (engine, password, expected) in [
            (
                Engine::Postgresql,
                "s3cret",
                "postgresql://app:s3cret@pets-rw.shop.svc:5432/app",
            ),
            (
                Engine::Postgresql,
                "a@b:c/d?e#f%",
                "postgresql://app:a%40b%3Ac%2Fd%3Fe%23f%25@pets-rw.shop.svc:5432/app",
            ),
            (Engine::Redis, "ü ", "redis://app:%C3%BC%20@pets-rw.shop.svc:6379/0"),
            (Engine::Mysql, "p", "mysql://app:p@pets-rw.shop.svc:3306/app"),
            (Engine::Mongodb, "p", "mongodb://app:p@pets-rw.shop.svc:27017/app"),
        ] {
            let profile = profile(engine);
            let uri = profile.uri(
                "pets-rw.shop.svc",
                profile.port,
                profile.app_user,
                password,
                profile.default_database,
            );
            assert_eq!(uri, expected, "{engine:?}");
        }
    }

    #[test]
    fn port_names_fit_a_service() {
        for engine in Engine::ALL {
            let name = profile(engine).port_name;
            assert!(
                name.len() <= 15 && name.bytes().all(|byte| byte.is_ascii_lowercase()),
                "{name}"
            );
        }
    }
}
