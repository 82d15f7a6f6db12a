use regorus::Engine;
use regorus::unstable::BUILTINS;
use serde_json::{Value, json};

use super::calls::FUNCTIONS;
use super::*;

/// What is found in modules, each after a line with its file's name.
fn found(modules: &[(&str, &str)], data: &Value) -> Vec<String> {
    let mut engine = Engine::new();
    for (file, text) in modules {
        engine
            .add_policy((*file).to_owned(), (*text).to_owned())
            .unwrap_or_else(|error| panic!("{file}: {error}"));
    }
    check(engine.get_modules(), data)
        .iter()
        .map(ToString::to_string)
        .collect()
}

/// What is found in one rule of a library.
fn in_rule(rule: &str) -> String {
    let module = format!("package database.lib\nimport rego.v1\n{rule}\n");
    found(&[("lib.rego", &module)], &json!({})).join("\n")
}

#[test]
fn all_allowed_functions_exist() {
    let missing: Vec<_> = FUNCTIONS.iter().filter(|name| !BUILTINS.contains_key(*name)).collect();
    assert!(missing.is_empty(), "{missing:?}");
}

#[test]
fn good_rules_pass() {
    for rule in [
        "x := 1",
        "x contains v if { some v in input.list; v > 1 }",
        "x := [a | a := input.b[_]]",
        "x if { some i; input.a[i] == i }",
        "x if { input.a[i] == i }",
        "x if { every k, v in input.o { startswith(k, v) } }",
        "x := {k: v | some k, v in input.o}",
        "x if { [a, [b, _]] = input.pair; a == b }",
        "f(a, [b, c]) := a + b + c\nx := f(1, [2, 3])",
        "x := data.database.lib.y\ny := 2",
        "default x := false\nx if input.a",
        "x if regex.match(`^[a-z]+$`, input.a)",
        "x := set()",
        "x if { not y }\ny if input.b",
        "x[k] := v if { some k, v in input.o }",
        "x := 1 if input.a else := 2",
    ] {
        assert_eq!(in_rule(rule), "", "{rule}");
    }
}

#[test]
fn what_opa_refuses_is_refused() {
    for (rule, words) in [
        ("x := inptu.a", "lib.rego:3: inptu stands for nothing"),
        ("x if { y > 1 }", "y stands for nothing"),
        ("x := f(1)", "calls f, which there is not"),
        ("f(a) := a\nx := f(1, 2)", "calls f with 2 arguments, but it takes 1"),
        ("y := 1\nx := y(1)", "calls y, which is no function"),
        ("x := count(1, 2)", "calls count with 2 arguments, but it takes 1"),
        ("x := crypto.md5(\"a\")", "calls crypto.md5, which there is not"),
        ("x := time.now_ns()", "calls time.now_ns, which policies may not"),
        (
            "x := numbers.range(1, 1000000000)",
            "calls numbers.range, which policies may not",
        ),
        ("x := units.parse(\"1K\")", "calls units.parse, which policies may not"),
        ("x := 1.5", "1.5 is no whole number"),
        ("x if { y with input as 1 }\ny := 1", "`with` is for tests only"),
        (
            "x if regex.match(`^\\d+$`, input.a)",
            "has \\d, which engines read differently",
        ),
        ("x if regex.match(\"(?i)a\", input.a)", "has (?"),
        (
            "x if regex.match(input.p, input.a)",
            "with a pattern that is not written out",
        ),
        ("x := x", "asks itself: database.lib.x asks database.lib.x"),
        ("f(a) := f(a)", "asks itself: database.lib.f asks database.lib.f"),
        ("x if y\ny if z\nz if x", "asks itself"),
        ("x := data.database.lib", "asks itself"),
        ("x := data.database[input.a]", "asks itself"),
        ("f(a) := a if { some k; data.database.lib[k] }", "asks itself"),
    ] {
        let found = in_rule(rule);
        assert!(found.contains(words), "{rule}: {found}");
    }
}

#[test]
fn entries_are_sets_and_modules_are_of_the_first_version() {
    let module = "package database.x\nimport rego.v1\nviolations := [1]\nuser_violations contains 1 if true";
    assert_eq!(
        found(&[("x.rego", module)], &json!({})),
        ["x.rego:3: violations must be a partial set: write `violations contains v if {...}`"]
    );
}

#[test]
fn data_must_not_replace_a_rule() {
    let module = "package database.x\nimport rego.v1\nviolations contains 1 if false\nlimit := 1";
    for (data, problems) in [
        (json!({"database": {"settings": {}, "x": {"other": 1}}}), 0),
        (json!({"database": {"x": {"limit": 2}}}), 1),
        (json!({"database": {"x": {"violations": []}}}), 1),
        (json!({"database": {"x": []}}), 2),
        (json!({"database": 1}), 2),
    ] {
        let found = found(&[("x.rego", module)], &data);
        assert_eq!(found.len(), problems, "{data}: {found:?}");
    }
}

#[test]
fn rows_of_rules_have_a_bound() {
    let row = |length: usize| {
        let rule = |number: usize| format!("r{number} := r{}\n", number - 1);
        let rules: String = (1..length).map(rule).collect();
        in_rule(&format!("r0 := 1\n{rules}"))
    };
    assert_eq!(row(64), "");
    assert!(row(65).contains("begins a row of 65 rules"), "{}", row(65));
}

#[test]
fn imports_and_modules_of_one_package_are_seen_together() {
    let one = "package database.one\nimport rego.v1\nimport data.database.lib\nimport data.database.lib.f as g\nx := lib.f(1) + g(2)";
    let other = "package database.one\nimport rego.v1\ny := x";
    let lib = "package database.lib\nimport rego.v1\nf(a) := a";
    assert_eq!(
        found(&[("a", one), ("b", other), ("c", lib)], &json!({})),
        Vec::<String>::new()
    );
    let missing = found(&[("a", one), ("b", other)], &json!({}));
    assert!(
        missing.iter().all(|finding| finding.contains("which there is not")),
        "{missing:?}"
    );
}

#[test]
fn a_package_of_several_files_is_not_asked_for_as_a_whole() {
    let (one, two) = (
        "package database.a\nimport rego.v1\nx if y",
        "package database.a\nimport rego.v1\ny if input.y",
    );
    for (text, refused) in [
        ("import data.database.a\nz := a.x", true),
        ("import data.database as d\nz := d.a.x", true),
        ("z := data.database.a", true),
        ("z := data.database.a[input.name]", true),
        ("z := data.database.a.x", false),
        ("import data.database.a.x\nz := x", false),
    ] {
        let asker = format!("package asker\nimport rego.v1\n{text}");
        let found = found(&[("1", one), ("2", two), ("3", &asker)], &json!({}));
        assert_eq!(
            found
                .iter()
                .any(|finding| finding.contains("the whole package database.a")),
            refused,
            "{text}: {found:?}"
        );
        let single = self::found(&[("1", one), ("3", &asker)], &json!({}));
        assert!(
            !single.iter().any(|finding| finding.contains("the whole package")),
            "{text}: {single:?}"
        );
    }
}

#[test]
fn the_package_of_our_own_is_refused() {
    let found = found(
        &[(
            "x.rego",
            "package database_operator_asked\nimport rego.v1\nasked_0 := {}",
        )],
        &json!({}),
    );
    assert_eq!(
        found,
        ["x.rego:1: the package database_operator_asked is the operator's own; call it otherwise"]
    );
}

#[test]
fn tests_may_do_more() {
    let test = "package database.x_test\nimport rego.v1\ntest_it if { print(1.5); count(input.a) == 1 with input as {\"a\": [1]} }";
    assert_eq!(found(&[("x_test.rego", test)], &json!({})), Vec::<String>::new());
}

#[test]
fn what_stands_before_an_else_has_a_value() {
    for (rule, refused) in [
        ("f(o) := o.tier if { is_object(o) } else := 1", true),
        (
            "f(o) := 1 if { o == 1 } else := o.tier if { is_object(o) } else := 2",
            true,
        ),
        ("f(o) := concat(\"\", [o.tier]) if { is_object(o) } else := 1", true),
        ("f(o) := g(o) if { is_object(o) } else := 1\ng(o) := 1 if o.a", true),
        ("x := input.a if { true } else := 1", true),
        ("f(o) := t if { t := o.tier } else := 1", false),
        ("f(o) := 1 if { o == 1 } else := o.tier", false),
        ("f(o) := o.tier", false),
        ("f(o) if { o.tier } else := false", false),
    ] {
        let found = in_rule(rule);
        assert_eq!(found.contains("before an `else`"), refused, "{rule}: {found}");
    }
}

#[test]
fn variables_have_no_names_of_rules() {
    for (rule, refused) in [
        ("y if { every x in [1] { x == 1 }; not f(x) }", true),
        ("y if { q := [x | some x in [1]]; count(q) == 1 }", true),
        ("y if { q := [x | x := 1]; count(q) == 1 }", true),
        ("y if { some x, _ in input.a; x == 1 }", true),
        ("y if { some x; input.a[x] }", true),
        ("y if { false; x := 1; x == 1 } else if { not f(x) }", true),
        ("y(x) if x == 1", true),
        ("y if { [x, 1] := input.a; x }", true),
        ("y if input.a[x] == 1", false),
        ("y if x = 1", false),
        ("y if { every z in [1] { z == x } }", false),
    ] {
        let found = in_rule(&format!("x := input.x\nf(a) if a == 1\n{rule}"));
        assert_eq!(found.contains("has the name of a rule"), refused, "{rule}: {found}");
    }
    assert!(in_rule("x := input.a[x]").contains("asks itself"));
    assert!(in_rule("x if { x = 1 }").contains("asks itself"));
}

#[test]
fn what_tests_define_is_not_there_for_rules() {
    let rules = ("x.rego", "package database.x\nimport rego.v1\ny := limit\nz := f(1)");
    let helper = (
        "x_test.rego",
        "package database.x\nimport rego.v1\nlimit := 1\nf(a) := a",
    );
    let all = found(&[rules, helper], &json!({}));
    assert!(
        all.iter().any(|finding| finding.contains("limit stands for nothing")),
        "{all:?}"
    );
    assert!(
        all.iter()
            .any(|finding| finding.contains("calls f, which there is not")),
        "{all:?}"
    );
    let asker = (
        "y.rego",
        "package database.y\nimport rego.v1\nx := data.database.x_test.limit",
    );
    let test = ("x_test.rego", "package database.x_test\nimport rego.v1\nlimit := 1");
    let all = found(&[asker, test], &json!({}));
    assert!(
        matches!(&all[..], [one] if one.contains("no such rule outside of tests")),
        "{all:?}"
    );
}

#[test]
fn references_into_packages_end_at_something() {
    let lib = (
        "lib.rego",
        "package database.lib\nimport rego.v1\na := {\"b\": 1}\np.q := 1",
    );
    for (rule, refused) in [
        ("x := data.database.lib.typo", true),
        ("import data.database.lib\nx := lib.typo", true),
        ("import data.database.lib.typo\nx := typo", true),
        ("x := data.database.lib[\"typo\"]", true),
        ("x := data.database.lib.a.b", false),
        ("x := data.database.lib.p", false),
        ("x := data.database.lib.given", false),
        ("x := data.database.lib[input.a]", false),
        ("x := data.elsewhere.typo", false),
    ] {
        let module = format!("package database.y\nimport rego.v1\n{rule}");
        let found = found(&[lib, ("y.rego", &module)], &json!({"database": {"lib": {"given": 1}}}));
        let all_there = found
            .iter()
            .any(|finding| finding.contains("the package database.lib has no such rule"));
        assert_eq!(all_there, refused, "{rule}: {found:?}");
    }
}

#[test]
fn one_name_stands_for_one_thing() {
    for (rule, words) in [
        (
            "import data.other.limit\nlimit := 9 if input.object",
            "lib.rego:3: the import limit has the name of a rule",
        ),
        (
            "import data.other.f\nf(x) := 2 if x",
            "the import f has the name of a rule",
        ),
        (
            "import data.other as input\nx := input.a",
            "the import input has what every reader",
        ),
        (
            "import data.other as data\nx := data.a",
            "the import data has what every reader",
        ),
        (
            "import data.other.count\nx := count",
            "the import count has the name of a function",
        ),
        (
            "import data.other as json\nx := json.a",
            "the import json has the name of a function",
        ),
        ("same(a, a) if true", "lib.rego:3: the argument a is there twice"),
        ("same(a, [a]) if true", "the argument a is there twice"),
        (
            "x if { count := 3; count([1]) == count }",
            "calls count, while count is a variable or rule here",
        ),
        ("count(x) := x\ny := count(1)", "calls count, while count"),
        (
            "json.marshal(x) := x\ny := json.marshal(1)",
            "calls json.marshal, while json",
        ),
        ("lower := 1\ny := lower(\"A\")", "calls lower, while lower"),
        ("x if 1[0] == input.a", "takes a key of a text"),
        ("x if not null[input.a]", "takes a key of a text"),
        ("x if true.a", "takes a key of a text"),
        ("sub := {\"y\": 3}", ""),
        ("same(a, _, _) := a", ""),
        ("import data.other as o\nx := o.a", ""),
        ("import input as i\nx := i.a", ""),
        ("x if { count := 3; count == input.a }", ""),
    ] {
        let found = in_rule(rule);
        assert_eq!(found.is_empty(), words.is_empty(), "{rule}: {found}");
        assert!(found.contains(words), "{rule}: {found}");
    }
    let below = ("b.rego", "package database.lib.sub\nimport rego.v1\ny := 2");
    let rule = ("a.rego", "package database.lib\nimport rego.v1\nsub := {\"y\": 3}");
    let found = found(&[below, rule], &json!({}));
    assert!(
        found
            .iter()
            .any(|finding| finding.contains("lies at or below the rule database.lib.sub")),
        "{found:?}"
    );
}

#[test]
fn the_depth_of_expressions_has_a_bound() {
    let sum = |terms: usize| vec!["1"; terms].join(" +\n");
    assert_eq!(in_rule(&format!("x := {}", sum(60))), "");
    for terms in [70, 2_000, 10_000] {
        for rule in [
            format!("x := {}", sum(terms)),
            format!("x if {{ y := [z | z := {}]; y }}", sum(terms)),
            format!("f(a) := 1 if a else := {}", sum(terms)),
        ] {
            let found = crate::stack::large(|| in_rule(&rule)).expect("there is a thread");
            assert!(found.contains("deeper than 64 operators"), "{terms}: {found}");
        }
    }
}

#[test]
fn formats_are_written_out_and_have_no_widths() {
    for (format, refused) in [
        ("\"%2000000000d\"", true),
        ("\"%.2000000000f\"", true),
        ("\"%-5s\"", true),
        ("\"%*d\"", true),
        ("\"%[1]d\"", true),
        ("\"a %\"", true),
        ("`%%%5d`", true),
        ("input.f", true),
        ("concat(\"\", [\"%\", \"v\"])", true),
        ("\"%v%% of %s: %d\"", false),
        ("\"100%% 5\"", false),
    ] {
        let found = in_rule(&format!("x := sprintf({format}, [1])"));
        assert_eq!(!found.is_empty(), refused, "{format}: {found}");
    }
}
