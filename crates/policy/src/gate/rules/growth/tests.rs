use std::path::Path;

use regorus::Engine;

use super::*;
use crate::bundle::{Bundle, folder};
use crate::gate::rules::calls::FUNCTIONS;
use crate::gate::rules::{is_test, known};

/// What is found in rules, the largest of what is not, and how many looks that took.
fn estimated(modules: &[(&str, &str)]) -> (Vec<String>, u64, usize) {
    let mut engine = Engine::new();
    for (file, text) in modules {
        engine
            .add_policy((*file).to_owned(), (*text).to_owned())
            .unwrap_or_else(|error| panic!("{file}: {error}\n{text}"));
    }
    let modules = engine.get_modules().iter().filter(|module| !is_test(module));
    let known: Vec<Known<'_>> = modules.flat_map(|module| known(module)).collect();
    let (findings, largest, looks) = estimate(&known, &names::Index::new(&known));
    (findings.iter().map(ToString::to_string).collect(), largest, looks)
}

#[test]
fn the_shipped_rules_have_room() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../policies");
    let bundle = Bundle::open_unverified("policies", folder::read(&folder).expect("it can be read")).expect("a bundle");
    let modules: Vec<(&str, &str)> = bundle.modules().collect();
    let (findings, largest, looks) = estimated(&modules);
    println!(
        "at most {} of {MOST} times as large, {looks} of {STEPS} looks",
        largest.div_ceil(LARGEST)
    );
    assert_eq!(findings, Vec::<String>::new());
    assert!(largest * 4 <= LIMIT, "{largest} of {LIMIT}");
    assert!(looks * 10 <= STEPS, "{looks} of {STEPS}");
}

/// What is found in rules of one library.
fn found(rules: &str) -> String {
    let module = format!("package database.lib\nimport rego.v1\n{rules}\n");
    estimated(&[("lib.rego", &module)]).0.join("\n")
}

/// Lines of `line`, each with the number of the one before and its own.
fn row(length: usize, line: impl Fn(usize, usize) -> String) -> String {
    (1..=length).map(|number| line(number - 1, number) + "\n").collect()
}

/// Rules of which each is made of the one before by `how`, in which `0` stands for it.
fn rules(how: &str) -> String {
    let begin = "r0 := input.a\n";
    let line = |before: usize, number: usize| format!("r{number} := {}", how.replace('#', &format!("r{before}")));
    format!("{begin}{}", row(28, line))
}

/// The same in one body.
fn body(how: &str) -> String {
    let line = |before: usize, number: usize| format!("x{number} := {}", how.replace('#', &format!("x{before}")));
    format!("r if {{\nx0 := \"0123456789abcdef\"\n{}x28\n}}", row(28, line))
}

/// Functions of which each calls the one before by `how`.
fn functions(first: &str, how: &str) -> String {
    let line = |before: usize, number: usize| format!("f{number}(x) := {}", how.replace('#', &format!("f{before}")));
    format!("f0(x) := {first}\n{}", row(28, line)) + "r := f28(input.a)\n"
}

#[test]
fn how_each_function_grows_is_known() {
    let unknown = |name: &&&str| builtins::grown(name, &[], &[1, 1, 1]).is_none();
    assert_eq!(FUNCTIONS.iter().find(unknown), None);
}

#[test]
fn what_grows_with_each_step_is_refused() {
    for (how, words) in [
        ("concat(\"\", [#, #])", "what concat gives here may become 1024 times"),
        ("sprintf(\"%v%v\", [#, #])", "what sprintf gives here"),
        ("array.concat(#, #)", "what array.concat gives here"),
        ("[#, #]", "this list"),
        ("{#, [#]}", "this list"),
        ("{\"a\": #, \"b\": #}", "this object"),
        ("object.union({\"a\": #}, {\"b\": #})", "what object.union gives here"),
        ("# | {#}", "this union"),
        ("# * #", "this product"),
        ("json.marshal(#)", "do it once, at the end"),
        ("sprintf(\"%v\", [[#]])", "what sprintf gives here"),
        ("json.unmarshal(sprintf(\"%b\", [#]))", "what sprintf gives here"),
        ("json.unmarshal(format_int(#, 2))", "what format_int gives here"),
        ("replace(#, \"a\", #)", "write out what is put there"),
        ("replace(#, \"a\", \"aa\")", "what replace gives here"),
        ("replace(#, \"\", \"a\")", "what replace gives here"),
        ("regex.replace(#, \"a\", \"aa\")", "what regex.replace gives here"),
        ("concat(#, [\"\", \"\", \"\"])", "what concat gives here"),
        ("concat(\"aa\", split(#, \"\"))", "what split gives here"),
        (
            "json.patch(#, [{\"op\": \"copy\", \"from\": \"\", \"path\": \"/a\"}])",
            "operations that copy",
        ),
        ("json.patch(#, input.patch)", "operations that copy"),
        ("[# | some _ in input.l]", "this comprehension"),
        ("[# | input.l[_]]", "this comprehension"),
        ("{i: # | some i in [1, 2]}", "this comprehension"),
        ("[[y, #] | some y in input.l]", "this comprehension"),
        ("[y | some y in [#]; some _ in [1, 2]]", "this comprehension"),
        ("[y | input.l[_]; y := #]", "this comprehension"),
        ("[[y, z] | some y in #; some z in #]", "this"),
        ("concat(\"\", [s | some s in [#, #]])", "this list"),
        ("object.get(input, \"a\", [#, #])", "what object.get gives here"),
        ("[#, #][0]", "this list"),
    ] {
        for (place, text) in [
            ("rules", rules(how)),
            ("body", body(how)),
            (
                "function",
                format!("g(a) if {{\n{}\nr if g(1)", &body(how)["r if {\n".len()..]),
            ),
        ] {
            let found = found(&text);
            assert!(found.contains(words), "{place} {how}: {found}");
            assert_eq!(
                found.matches("lib.rego:").count(),
                1,
                "{place} {how}: said once: {found}"
            );
        }
    }
}

#[test]
fn functions_that_grow_are_refused() {
    for (first, how) in [
        ("concat(\"\", [x, x])", "#(#(x))"),
        ("[x, x]", "#([x, x])"),
        ("[x, \"a\"]", "#(#(x))"),
        ("x", "concat(\"\", [#(x), #(x)])"),
        ("json.marshal(x)", "#(#(x))"),
        ("x", "[y | some y in [#(x)]; some _ in [1, 2]]"),
    ] {
        let found = found(&functions(first, how));
        assert!(found.contains("lib.rego:"), "{first} {how}: {found}");
    }
    let by_call = found(
        "join(x, y) := concat(\"\", [x, y])\nf(x) := join(x, x)\ng(x) := f(f(f(f(x))))\nh(x) := g(g(g(x)))\nr := h(input.a)",
    );
    assert!(by_call.starts_with("lib.rego:3: what concat gives here"), "{by_call}");
}

#[test]
fn the_order_of_statements_does_not_matter() {
    let line = |before: usize, number: usize| format!("x{number} = concat(\"\", [x{before}, x{before}])");
    let mut lines: Vec<String> = row(28, line).lines().map(str::to_owned).collect();
    lines.push("x0 = input.a".to_owned());
    lines.reverse();
    let forth = found(&format!("r if {{\n{}\nx28\n}}", lines.join("\n")));
    lines.reverse();
    let back = found(&format!("r if {{\nx28\n{}\n}}", lines.join("\n")));
    assert!(forth.contains("what concat gives here"), "{forth}");
    assert!(back.contains("what concat gives here"), "{back}");
    let turned = found(&format!(
        "r if {{\n{}x28\n}}",
        "x0 = input.a\n".to_owned() + &row(28, |a, b| format!("concat(\"\", [x{a}, x{a}]) = x{b}"))
    ));
    assert!(turned.contains("what concat gives here"), "{turned}");
}

#[test]
fn tables_may_be_long() {
    let table = format!(
        "table := {{{}}}\nx if input.a in table",
        row(16_000, |_, number| format!("\"{number}\": [{number}, \"a\"],"))
    );
    let found = crate::stack::large(|| found(&table)).expect("there is a thread");
    assert_eq!(found, "");
}

#[test]
fn packages_asked_for_as_a_whole_count_with_all_of_their_rules() {
    let rule = |_: usize, number: usize| format!("r{number} := [{}]", vec!["input.a"; 50].join(", "));
    let package = format!("package shared\nimport rego.v1\n{}", row(25, rule));
    let asker = "package database.x\nimport rego.v1\nx := data.shared";
    let (findings, ..) = estimated(&[("shared.rego", &package), ("x.rego", asker)]);
    assert!(
        matches!(&findings[..], [one] if one.starts_with("x.rego:3: this package may become")),
        "{findings:?}"
    );
}

#[test]
fn circles_end() {
    for rule in [
        "r if { x = [y]; y = [x] }",
        "r if { x = [x] }",
        "r if { x := [y, y]; y := [x, x] }",
        "r := r",
        "f(x) := f([x])",
        "a := b\nb := a",
    ] {
        let found = found(rule);
        // Rules in circles are refused elsewhere.
        assert!(
            !rule.starts_with("r if") || found.contains("made of itself"),
            "{rule}: {found}"
        );
    }
}

#[test]
fn tangles_end() {
    let sum = |before: usize, number: usize| format!("f{number}(x) := f{before}(f{before}([x]))");
    let begun = std::time::Instant::now();
    let text = format!("f0(x) := x\n{}r := f60(input.a)", row(60, sum));
    let found = crate::stack::large(|| found(&text)).expect("there is a thread");
    assert!(found.contains("too tangled"), "{found}");
    assert!(
        begun.elapsed() < std::time::Duration::from_secs(5),
        "{:?}",
        begun.elapsed()
    );
}

#[test]
fn the_longest_row_of_the_deepest_expressions_has_a_stack() {
    let deep = |name: &str| format!("{}{name}{}", "[x | x := ".repeat(10), "]".repeat(10)) + &" + 1".repeat(40);
    let row = row(63, |before, number| {
        format!("r{number} := {}", deep(&format!("r{before}")))
    });
    let text = format!("r0 := 1\n{row}");
    let found = crate::stack::large(|| found(&text)).expect("there is a thread");
    assert_eq!(found, "");
}

#[test]
fn what_policies_do_passes() {
    for rule in [
        "x := replace(input.a, \"/\", \".\")",
        "x := replace(\"Database NAME is not allowed\", \"NAME\", input.object.metadata.name)",
        "x := replace(input.a, \"NAME\", substring(input.object.metadata.name, 0, 63))",
        "x := regex.replace(input.a, \"[^a-z]\", \"-\")",
        "join(between, list) := concat(between, list)\nx := join(\", \", input.l)",
        "x := json.marshal(input.object)",
        "x := json.patch(input.object, [{\"op\": \"add\", \"path\": \"/a\", \"value\": input.b}])",
        "x := lower(trim_space(upper(input.a)))",
        "x := concat(\", \", [sprintf(\"%s in %s\", [name, input.namespace]) | some name in input.names])",
        "x contains v if { some c in input.containers; some p in c.ports; v := sprintf(\"%s of %s has %v: %v\", [c.name, input.name, p, input.limits]) }",
        "full := [concat(\"/\", [input.namespace, name]) | some name in input.names]\nx := [sprintf(\"%s in %s\", [name, input.cluster]) | some name in full]\ny := concat(\", \", x)",
        "a := [lower(x) | some x in input.l]\nb := [trim_space(x) | some x in a]\nc := [x | some x in b; x != \"\"]\nd := {x | some x in c}\ne := concat(\", \", d)",
        "x := {k: v | some k, v in input.o}\ny := object.union(x, {\"a\": 1})\nz := object.union(y, {\"b\": 2})",
        "x if { some i; input.a[i] == input.b[i] }",
        "x if { every k, v in input.o { startswith(k, concat(\"/\", [v, v])) } }",
        "x if { [a, b] := [input.a, input.b]; [b, a] == input.c }",
        "default f(x) := 1\nf(x) := x * 2 if x > 1\ny := f(input.a)",
        "x[k] := v if { some k, v in input.o }\ny := x.a",
        "total := sum([n | some c in input.l; n := c.cpu * c.replicas]) * 1000 + input.a + 1",
        "x := a + b if { a := input.a; b := input.b } else := [input.a] if { input.c } else := 1",
        "x if { not y }\ny if { some v in input.l; v = 1 }",
        "x if { pair = [a, b]; pair := input.pair; a == b }",
        "r := input.r\nx if { r = y; y == input.y }",
        "x if { every a in input.l { every b in a { b > limit } }; limit = 5 }",
        "x if { y = [v | v = z]; z = input.z; y }",
        "x if { [a, b] = [input.a[i], input.b[j]]; [j, i] = input.ij; a == b }",
        "x if { input.a[i]; input.b[i] }",
        "x if { y := input.a[i]; z := input.b[j]; input.c[j][i] == [y, z] }",
        "import input.object as o\nx := [o, o.a[_].b]",
    ] {
        assert_eq!(found(rule), "", "{rule}");
    }
}

/// Programs that show what engines do: none of those that the gate lets through otherwise is too large.
#[test]
fn the_corpus_passes() {
    let mut programs = 0;
    for entry in std::fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus")).expect("a folder") {
        let text = std::fs::read_to_string(entry.expect("a file").path()).expect("it can be read");
        let listed: Vec<serde_json::Value> = serde_yaml::from_str(&text).expect("it is a list");
        for program in listed {
            let module = program["module"].as_str().expect("a module");
            let mut engine = Engine::new();
            if engine.add_policy("t.rego".to_owned(), module.to_owned()).is_err() {
                continue;
            }
            programs += 1;
            let found = crate::gate::rules::check(engine.get_modules(), &serde_json::json!({}));
            let of_growth = |finding: &&Finding| {
                ["times as large", "made of itself"]
                    .iter()
                    .any(|words| finding.problem.contains(words))
            };
            assert_eq!(found.iter().find(of_growth), None, "{module}");
        }
    }
    assert!(programs > 900, "{programs}");
}
