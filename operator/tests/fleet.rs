//! `database-operator fleet`, as people and scripts call it.

use std::process::{Command, Output};

use expect_test::{Expect, expect};
use serde_json::{Value, json};

/// Arguments separated by spaces.
fn fleet(arguments: &str) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_database-operator"));
    command.arg("fleet").args(arguments.split(' ')).env_clear();
    command.output().expect("it starts")
}

#[track_caller]
fn printed(arguments: &str) -> String {
    let output = fleet(arguments);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!((output.status.code(), errors.as_ref()), (Some(0), ""));
    String::from_utf8(output.stdout).expect("UTF-8")
}

#[track_caller]
fn simulated(arguments: &str) -> Value {
    serde_json::from_str(&printed(&format!("simulate {arguments} -o json"))).expect("JSON")
}

fn member(name: &str, weight: u32, buckets: u32) -> Value {
    json!({ "name": name, "weight": weight, "buckets": buckets })
}

#[test]
fn a_new_fleet_for_people() {
    let table: Expect = expect![[r"
        Simulation of 4 members; no cluster was asked.

        MEMBER    WEIGHT  BUCKETS
        member-0       1      130
        member-1       2      254
        member-2       1      128
        member-3       4      512

        moved          0 of 1024 buckets (ideal: 0)
        max over mean  1.0156
    "]];
    table.assert_eq(&printed("simulate --members 4 --weights 1,2,1,4"));
}

#[test]
fn a_member_joins_for_machines() {
    let text: Expect = expect![[r#"
        {
          "members": [
            {
              "name": "member-0",
              "weight": 1,
              "buckets": 344
            },
            {
              "name": "member-1",
              "weight": 1,
              "buckets": 345
            },
            {
              "name": "member-2",
              "weight": 1,
              "buckets": 335
            }
          ],
          "moved": 335,
          "idealMoved": 341.33,
          "maxOverMean": 1.0107
        }
    "#]];
    text.assert_eq(&printed("simulate --members 2 --join 1 -o json"));
}

#[test]
fn what_is_simulated() {
    for (arguments, moved, ideal, members) in [
        ("--members 1", 0, 0.0, vec![member("member-0", 1, 1024)]),
        (
            "--members 2 --weights 1,0",
            0,
            0.0,
            vec![member("member-0", 1, 1024), member("member-1", 0, 0)],
        ),
        (
            "--members 1 --join 1 --weights 1,0",
            0,
            0.0,
            vec![member("member-0", 1, 1024), member("member-1", 0, 0)],
        ),
        (
            "--members 1 --join 1 --leave 1",
            1024,
            1024.0,
            vec![member("member-1", 1, 1024)],
        ),
    ] {
        let answer = simulated(arguments);
        let expected = json!({ "members": members, "moved": moved, "idealMoved": ideal, "maxOverMean": 1.0 });
        assert_eq!(answer, expected, "{arguments}");
    }
}

#[test]
fn members_without_weight_own_nothing() {
    let answer = simulated("--members 1 --weights 0");
    let members = [member("member-0", 0, 0)];
    assert_eq!(
        answer,
        json!({ "members": members, "moved": 0, "idealMoved": 0.0, "maxOverMean": 0.0 })
    );
}

/// The bars of the assignment, as whoever tries the command sees them.
#[test]
fn the_bars_hold() {
    for (arguments, most_over_mean) in [
        ("--members 3", 1.02),
        ("--members 10 --join 1", 1.02),
        ("--members 10 --leave 1", 1.02),
        ("--members 4 --weights 1,2,1,4", 1.02),
        // The mean of 100 members is 10.24, so the next whole bucket is more than 2 % away.
        ("--members 100", 1.075),
    ] {
        let answer = simulated(arguments);
        let number = |key: &str| answer[key].as_f64().expect("a number");
        assert!(number("maxOverMean") <= most_over_mean, "{arguments}: {answer}");
        assert!(number("moved") <= 1.1 * number("idealMoved"), "{arguments}: {answer}");
        let buckets = answer["members"].as_array().expect("members").iter();
        let owned: u64 = buckets
            .map(|member| member["buckets"].as_u64().expect("a number"))
            .sum();
        assert_eq!(owned, 1024, "{arguments}");
    }
}

#[test]
fn what_is_wrong_is_refused_with_the_flag_named() {
    for (arguments, message) in [
        ("simulate", "--members <N>"),
        ("simulate --members 0", "'--members <N>': 0 is not in 1..=256"),
        ("simulate --members 257", "'--members <N>': 257 is not in 1..=256"),
        ("simulate --members many", "'--members <N>'"),
        ("simulate --members 2 --weights 1,x", "'--weights <W>'"),
        (
            "simulate --members 2 --weights 1,10001",
            "'--weights <W>': 10001 is not in 0..=10000",
        ),
        (
            "simulate --members 2 --weights 1",
            "error: --weights: 1 given; expected 2, one for each member\n",
        ),
        (
            "simulate --members 2 --join 2 --weights 1,1,1",
            "error: --weights: 3 given; expected 2, one for each member, or 4, also for those that join\n",
        ),
        (
            "simulate --members 200 --join 57",
            "error: --join: 200 members and 57 that join are more than 256\n",
        ),
        (
            "simulate --members 2 --leave 3",
            "error: --leave: 3 cannot leave, there are 2\n",
        ),
        (
            "simulate --members 2 --leave 2",
            "error: --leave: nobody would be left\n",
        ),
        ("simulate --members 2 -o yaml", "'--output <FORMAT>'"),
        ("fly", "unrecognized subcommand 'fly'"),
    ] {
        let output = fleet(arguments);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert_eq!(
            (output.status.code(), output.stdout.as_slice()),
            (Some(2), &b""[..]),
            "{arguments}: {errors}"
        );
        assert!(
            errors.contains(message),
            "{arguments}: {message:?} is missing in: {errors}"
        );
    }
}
