//! How a pod makes its data directory, and how it starts, stops and probes its engine.
//!
//! The scripts lie under `scripts/` and run as `sh -ec SCRIPT`; the image's entrypoint is never used. The planner adds
//! names, image, mounts, environment, resources and security. What the scripts rely on:
//!
//! | path | what |
//! | --- | --- |
//! | `/var/lib/database` | the volume: `data`, and the mark `lineage` that says whose it is |
//! | `/etc/database/config`, `/etc/database/config-secret` | what [`crate::render`] made, and a file `inputs` |
//! | `/etc/database/admin` | `username`, `password`, `app-username`, `app-password`, `app-database`, `lineage` |
//! | `/run/database` | for the life of the pod, in memory: sockets, copies of the configuration, rendered files |
//! | `INPUTS` | the hash that the pod was made for, which `inputs` must equal |
//!
//! Every field that the API server would default inside a list is written out, so that what we own can be compared.
//!
//! Not guaranteed: that one volume has one pod. The StatefulSet sees to that; the scripts take no lock.

use std::sync::LazyLock;

use api::database::Engine;
use serde_json::{Value, json};

use crate::catalogue::Release;
use crate::profile::profile;

/// The engine's share of the two containers.
#[derive(Clone, Debug, PartialEq)]
pub struct PodParts {
    /// Init container `initialise`: `command` and `args`.
    pub initialise: Value,
    /// Container `database`: `command`, `args`, `ports`, the probes and, where one is needed, `lifecycle`.
    pub database: Value,
}

/// The containers' parts for `release`.
pub fn containers(engine: Engine, release: &Release) -> PodParts {
    let scripts = scripts(engine);
    let shell = |script: &str| json!(["sh", "-ec", script]);
    let profile = profile(engine);
    let mut database = json!({
        // The first is the name under which the shell reports errors.
        "args": ["run", release.major],
        "ports": [{"name": profile.port_name, "containerPort": profile.port, "protocol": "TCP"}],
    });
    // Moved in: `json!` copies every value that stands in it, and these hold scripts.
    database["command"] = shell(&scripts.run);
    database["startupProbe"] = probe(&scripts.ready, &STARTUP);
    database["readinessProbe"] = probe(&scripts.ready, &READINESS);
    database["livenessProbe"] = probe(&scripts.alive, &LIVENESS);
    if let Some(stop) = &scripts.stop {
        database["lifecycle"] = json!({"preStop": {"exec": {}}});
        database["lifecycle"]["preStop"]["exec"]["command"] = shell(stop);
    }
    let mut initialise = json!({"args": ["initialise", engine.as_str(), release.major]});
    initialise["command"] = shell(&scripts.initialise);
    PodParts { initialise, database }
}

/// When a probe asks, in seconds, and how many failures in a row it takes.
struct Timing {
    period: u32,
    timeout: u32,
    failures: u32,
}

/// Every second, so that a small database is ready a second after it began to serve; for a day, since reading a large
/// log back in takes its time and a restart would begin it again.
const STARTUP: Timing = Timing {
    period: 1,
    timeout: 5,
    failures: 86_400,
};
/// Two misses in a row, so that one slow answer does not take a database out of its Service.
const READINESS: Timing = Timing {
    period: 2,
    timeout: 5,
    failures: 3,
};
/// Three minutes without any sign of life: a restart drops every connection and mends nothing that load has caused.
const LIVENESS: Timing = Timing {
    period: 10,
    timeout: 10,
    failures: 18,
};

fn probe(script: &str, timing: &Timing) -> Value {
    json!({
        "exec": {"command": ["sh", "-ec", script]},
        "periodSeconds": timing.period,
        "timeoutSeconds": timing.timeout,
        "successThreshold": 1,
        "failureThreshold": timing.failures,
    })
}

/// The scripts of an engine, without their comments.
struct Scripts {
    initialise: String,
    run: String,
    ready: String,
    alive: String,
    stop: Option<String>,
}

fn scripts(engine: Engine) -> &'static Scripts {
    match engine {
        Engine::Postgresql => &POSTGRESQL,
        Engine::Mysql => &MYSQL,
        Engine::Mongodb => &MONGODB,
        Engine::Redis => &REDIS,
    }
}

const VOLUME: &str = include_str!("scripts/volume.sh");

static POSTGRESQL: LazyLock<Scripts> = LazyLock::new(|| Scripts {
    initialise: stripped(&[include_str!("scripts/postgresql-init.sh"), VOLUME]),
    run: stripped(&[include_str!("scripts/postgresql-run.sh")]),
    ready: "exec pg_isready --quiet --host=/run/database --port=5432 --username=postgres --dbname=postgres".to_owned(),
    // 1 means that it is there but refuses, as while it starts or stops; only silence is a sign of death.
    alive: "pg_isready --quiet --host=/run/database --port=5432 --username=postgres --dbname=postgres || [ $? -eq 1 ]"
        .to_owned(),
    stop: Some(stripped(&[include_str!("scripts/postgresql-stop.sh")])),
});

static REDIS: LazyLock<Scripts> = LazyLock::new(|| Scripts {
    initialise: stripped(&[include_str!("scripts/redis-init.sh"), VOLUME]),
    run: stripped(&[include_str!("scripts/redis-run.sh")]),
    ready: format!("[ \"$({REDIS_PING})\" = PONG ]"),
    // Any answer will do, `LOADING` and `BUSY` too; no answer is an error of the client.
    alive: format!("[ -n \"$({REDIS_PING})\" ]"),
    stop: None,
});

/// The password goes by the environment of the client alone, from the file that the run script wrote.
const REDIS_PING: &str = "REDISCLI_AUTH=$(cat /run/database/password) \
     redis-cli -s /run/database/redis.sock --user \"$(cat /run/database/username)\" --no-auth-warning ping";

static MYSQL: LazyLock<Scripts> = LazyLock::new(|| Scripts {
    initialise: stripped(&[include_str!("scripts/mysql-init.sh"), VOLUME]),
    run: stripped(&[include_str!("scripts/mysql-run.sh")]),
    ready: "exec mysqladmin --defaults-file=/run/database/client.cnf --silent ping".to_owned(),
    alive: "exec mysqladmin --defaults-file=/run/database/client.cnf --silent ping".to_owned(),
    stop: None,
});

static MONGODB: LazyLock<Scripts> = LazyLock::new(|| Scripts {
    initialise: stripped(&[include_str!("scripts/mongodb-init.sh"), VOLUME]),
    run: stripped(&[include_str!("scripts/mongodb-run.sh")]),
    ready: "exec mongosh --quiet --norc --eval 'quit(db.hello().isWritablePrimary || db.hello().secondary ? 0 : 1)'"
        .to_owned(),
    alive: "exec mongosh --quiet --norc --eval 'quit(db.hello().ok ? 0 : 1)'".to_owned(),
    stop: None,
});

/// The scripts one after the other, without comments and empty lines: they are kept in every StatefulSet.
fn stripped(scripts: &[&str]) -> String {
    let lines = scripts.iter().flat_map(|script| script.lines());
    let kept = lines.filter(|line| !line.trim().is_empty() && !line.trim_start().starts_with('#'));
    kept.fold(String::new(), |text, line| text + line + "\n")
}
