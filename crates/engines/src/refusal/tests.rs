use super::*;

/// What real servers wrote (PostgreSQL 15.18, Redis 7.0.15; MySQL's and MongoDB's by their manuals), and what is told.
#[test]
#[expect(clippy::too_many_lines, reason = "a table of logs")]
fn the_engines_own_complaint_is_found() {
    for (case, engine, log, expected) in [
        (
            "a value that PostgreSQL refuses",
            Engine::Postgresql,
            "2026-11-25 17:29:53.868 UTC [1] LOG:  invalid value for parameter \"work_mem\": \"lots\"\n\
             2026-11-25 17:29:53.868 UTC [1] FATAL:  configuration file \"/run/database/config/postgresql.conf\" contains errors\n",
            Some(
                "invalid value for parameter \"work_mem\": \"lots\"; \
                 configuration file \"/run/database/config/postgresql.conf\" contains errors",
            ),
        ),
        (
            "a library that is not there",
            Engine::Postgresql,
            "2026-11-25 17:29:54.865 UTC [1] FATAL:  could not access file \"nothere\": No such file or directory\n\
             2026-11-25 17:29:54.865 UTC [1] LOG:  database system is shut down\n",
            Some("could not access file \"nothere\": No such file or directory"),
        ),
        (
            "a complaint from before it can log",
            Engine::Postgresql,
            "postgres: superuser_reserved_connections (3) must be less than max_connections (1)\n",
            Some("superuser_reserved_connections (3) must be less than max_connections (1)"),
        ),
        (
            "a complaint with advice",
            Engine::Postgresql,
            "x [1] FATAL:  could not map anonymous shared memory: Cannot allocate memory\n\
             x [1] HINT:  This error usually means too much.\n\
             x [1] LOG:  database system is shut down\n",
            Some("could not map anonymous shared memory: Cannot allocate memory; This error usually means too much."),
        ),
        (
            "a client's failed login is no refusal of the start",
            Engine::Postgresql,
            "x [7] FATAL:  password authentication failed for user \"app\"\n\
             x [1] LOG:  checkpoint starting: time\n",
            None,
        ),
        (
            "a killed server said nothing",
            Engine::Postgresql,
            "x [1] LOG:  ready to accept connections\n",
            None,
        ),
        ("nothing at all", Engine::Postgresql, "", None),
        (
            "a directive that Redis refuses",
            Engine::Redis,
            "\n*** FATAL CONFIG FILE ERROR (Redis 7.0.15) ***\nReading the configuration file, at line 33\n\
             >>> 'maxmemory \"lots\"'\nargument must be a memory value\n",
            Some("Reading the configuration file, at line 33 >>> 'maxmemory \"lots\"' argument must be a memory value"),
        ),
        (
            "a damaged file",
            Engine::Redis,
            "1:M 25 Nov 2026 17:30:13.799 * RDB is base AOF\n\
             1:M 25 Nov 2026 17:30:13.800 # Bad file format reading the append only file a.aof: make a backup\n",
            Some("Bad file format reading the append only file a.aof: make a backup"),
        ),
        (
            "a stopped Redis",
            Engine::Redis,
            "1:M 25 Nov 2026 17:30:00.242 # Redis is now ready to exit, bye bye...\n",
            None,
        ),
        (
            "a started Redis",
            Engine::Redis,
            "1:C 25 Nov 2026 17:30:13.780 # Configuration loaded\n",
            None,
        ),
        (
            "our own script",
            Engine::Redis,
            "noise\nrefused: the volume holds \"redis 7 a\", but this Database is \"redis 7 b\"\n",
            Some("the volume holds \"redis 7 a\", but this Database is \"redis 7 b\""),
        ),
        (
            "what passes by itself is no refusal",
            Engine::Postgresql,
            "waiting: the mounted configuration is not the one that this pod was made for; trying again\n",
            None,
        ),
        (
            "a variable that MySQL refuses",
            Engine::Mysql,
            "2026-11-25T17:00:00.0Z 0 [ERROR] [MY-000067] [Server] unknown variable 'foo=1'.\n\
             2026-11-25T17:00:00.0Z 0 [ERROR] [MY-010119] [Server] Aborting\n",
            Some("[MY-000067] [Server] unknown variable 'foo=1'."),
        ),
        (
            "an option that MongoDB refuses",
            Engine::Mongodb,
            "Unrecognized option: foo\ntry 'mongod --help' for more information\n",
            Some("Unrecognized option: foo"),
        ),
        (
            "a start that MongoDB ends",
            Engine::Mongodb,
            "{\"s\":\"I\",\"msg\":\"starting\"}\n{\"s\":\"E\",\"msg\":\"Failed\",\"attr\":{\"error\":\"BadValue: x\"}}\n",
            Some("Failed: BadValue: x"),
        ),
    ] {
        assert_eq!(refusal(engine, log).as_deref(), expected, "{case}");
    }
}

#[test]
fn a_long_complaint_is_cut() {
    let said = refusal(Engine::Postgresql, &format!("refused: {}", "ü".repeat(5000))).expect("it is a refusal");
    assert_eq!(said.chars().count(), LONGEST + 1);
}

#[test]
fn secrets_are_masked() {
    for (case, text, secrets, expected) in [
        ("nothing secret", "all is well", vec![], "all is well"),
        (
            "whole value",
            "invalid value \"hunter22\"",
            vec!["hunter22"],
            "invalid value \"(hidden)\"",
        ),
        ("the longer one first", "abcdefgh", vec!["abcd", "abcdefgh"], "(hidden)"),
        (
            "as the engine quotes it",
            "near 'it''s me'",
            vec!["it's me"],
            "near '(hidden)'",
        ),
        (
            "as the engine escapes it",
            r#"near "a\"b\\c""#,
            vec![r#"a"b\c"#],
            r#"near "(hidden)""#,
        ),
        (
            "a short one hides its line",
            "port is 42\nall is well",
            vec!["42"],
            "(hidden)\nall is well",
        ),
        ("an empty one hides nothing", "all is well", vec![""], "all is well"),
    ] {
        assert_eq!(mask(text, &secrets), expected, "{case}");
    }
}
