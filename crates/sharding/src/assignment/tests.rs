use super::*;

/// `a`, `b:2` (weight 2), `c-` (leaving), in the order in which they joined.
fn members(text: &str) -> Vec<Member> {
    let member = |word: &str| {
        let (word, leaving) = word.strip_suffix('-').map_or((word, false), |word| (word, true));
        let (name, weight) = word.split_once(':').unwrap_or((word, "1"));
        let weight = weight.parse().expect("a weight");
        Member {
            name: name.to_owned(),
            weight,
            leaving,
        }
    };
    text.split_whitespace().map(member).collect()
}

/// A letter a bucket: its owner's name, or `.` for none.
fn owners(members: &[Member], text: &str) -> Vec<Option<usize>> {
    let owner = |letter: char| match letter {
        '.' => None,
        _ => Some(
            members
                .iter()
                .position(|m| m.name == letter.to_string())
                .expect("a member"),
        ),
    };
    text.chars().map(owner).collect()
}

fn shown(members: &[Member], assignment: &Assignment) -> (String, String) {
    let name = |index: usize| members[index].name.as_str();
    let active = assignment.active.iter().map(|index| name(*index)).collect();
    (
        active,
        assignment.owners.iter().map(|owner| owner.map_or(".", name)).collect(),
    )
}

/// What comes of `owners`, as the active members and the owner of each bucket.
fn assigned(joined: &str, shards: usize, before: &str, objects: Option<&[u32]>) -> (String, String) {
    let members = members(joined);
    let owners = owners(&members, before);
    let assignment = assign(&Fleet {
        members: &members,
        owners: &owners,
        shards,
        objects,
    })
    .expect("a right fleet");
    shown(&members, &assignment)
}

/// Case, members, shards, owners before; active members, owners after. `-` is nothing.
const TABLE: &str = "
    no members: nothing is owned                               |                | 3 | ....   | -   | ....
    only leaving ones: nothing is owned                        | a- b-          | 3 | aabb   | -   | ....
    only weight 0: nothing is owned                            | a:0            | 3 | aaaa   | -   | ....
    one member owns all                                        | a              | 3 | ....   | a   | aaaa
    no buckets: still active                                   | a b            | 3 | -      | ab  | -
    nothing to do: nothing moves                               | a b            | 2 | abba   | ab  | abba
    beside the exact share is still within bounds              | a b            | 2 | aabab  | ab  | aabab
    a standby owns nothing                                     | a b c          | 2 | abba   | ab  | abba
    who joined first is active                                 | c b a          | 2 | ....   | cb  | cbbc
    owners stay active before those who joined earlier         | a b c          | 2 | bbcc   | bc  | bbcc
    a leaver's buckets go whole to the standby                 | a b c- d       | 3 | aabbcc | abd | aabbdd
    the first standby succeeds                                 | a b- d c       | 2 | abab   | ad  | adad
    the first standby of the same weight succeeds              | a:2 b:2- d c:2 | 2 | abab   | ac  | acac
    two leave: each has its own successor                      | a- b- c d      | 2 | abab   | cd  | cdcd
    a standby that leaves succeeds nobody                      | a b- c- d      | 2 | abab   | ad  | adad
    a standby of weight 0 succeeds nobody                      | a b- c:0 d     | 2 | abab   | ad  | adad
    no standby: the others take over                           | a b c-         | 3 | aabbcc | ab  | aabbab
    no place for a successor: one active too many              | a b c- d       | 2 | aabbcc | ab  | aabbab
    fewer shards: the last to join stops                       | a b c          | 2 | aabbcc | ab  | aabbab
    drained by hand: weight 0, and the standby takes its place | a b:0 c        | 2 | abab   | ac  | acac
    an owned bucket does not move for an unowned one           | a b            | 2 | aa..   | ab  | aabb
    weights are shares                                         | a:3 b          | 2 | aaaa   | ab  | aaab
    fewer buckets than members: nobody has two                 | a b c          | 3 | aa     | abc | ba
";

#[test]
fn who_is_active_and_who_owns_what() {
    let lines = TABLE.lines().filter(|line| !line.is_empty());
    let mut checked = 0;
    for line in lines {
        let cells = line.split('|').map(str::trim);
        let cells: Vec<&str> = cells.map(|cell| if cell == "-" { "" } else { cell }).collect();
        let [case, joined, shards, before, active, after] = cells[..] else {
            panic!("expected six cells: {line:?}");
        };
        let shards = shards.parse().expect("a number");
        let expected = (active.to_owned(), after.to_owned());
        assert_eq!(assigned(joined, shards, before, None), expected, "{case}");
        checked += 1;
    }
    assert_eq!(checked, 23);
}

#[test]
fn objects_weigh() {
    for (case, before, objects, after) in [
        (
            "a heavy bucket balances three light ones",
            "abbb",
            &[30, 10, 10, 8][..],
            "abbb",
        ),
        ("the heavy owner gives", "aaab", &[10, 10, 10, 10], "baab"),
        (
            "a bucket too heavy for anybody stays, and all else goes",
            "aaaa",
            &[1000, 1, 1, 1],
            "abbb",
        ),
        ("empty buckets are spread too", "aaaa", &[0, 0, 0, 0], "baab"),
        ("the largest counts", "aabb", &[u32::MAX, 0, u32::MAX, 0], "aabb"),
    ] {
        let (_, owners) = assigned("a b", 2, before, Some(objects));
        assert_eq!(owners, after, "{case}");
    }
}

#[test]
fn wrong_input_is_named() {
    let assigned = |members: &[Member], owners: &[Option<usize>], shards, objects| {
        assign(&Fleet {
            members,
            owners,
            shards,
            objects,
        })
        .expect_err("wrong")
        .to_string()
    };
    let many: Vec<Member> = (0..=MAX_MEMBERS)
        .map(|n| Member {
            name: n.to_string(),
            weight: 1,
            leaving: false,
        })
        .collect();
    let unnamed = Member {
        name: String::new(),
        weight: 1,
        leaving: false,
    };
    for (members, owners, shards, objects, expected) in [
        (many, vec![], 3, None, "257 members are too many: at most 256"),
        (vec![unnamed], vec![], 3, None, "member 0 has no name"),
        (members("a b a"), vec![], 3, None, "two members have the name \"a\""),
        (
            members("a:10001"),
            vec![],
            3,
            None,
            "member \"a\": weight 10001 is too large: at most 10000",
        ),
        (
            members("a"),
            vec![],
            0,
            None,
            "0 shards: at least 1 member must be active",
        ),
        (
            members("a"),
            vec![None; 1025],
            3,
            None,
            "1025 buckets are too many: there are 1024",
        ),
        (
            members("a"),
            vec![Some(0), Some(1)],
            3,
            None,
            "bucket 1: its owner is member 1, and there are 1",
        ),
        (
            members("a"),
            vec![None; 4],
            3,
            Some(&[1][..]),
            "objects are counted for 1 buckets, and there are 4",
        ),
    ] {
        assert_eq!(assigned(&members, &owners, shards, objects), expected);
    }
}

#[test]
fn the_largest_allowed_input_does_not_overflow() {
    let members: Vec<Member> = (0..MAX_MEMBERS)
        .map(|n| Member {
            name: n.to_string(),
            weight: MAX_WEIGHT,
            leaving: false,
        })
        .collect();
    let buckets = usize::from(BUCKETS);
    let objects = vec![u32::MAX; buckets];
    let fleet = Fleet {
        members: &members,
        owners: &vec![None; buckets],
        shards: MAX_MEMBERS,
        objects: Some(&objects),
    };
    let assignment = assign(&fleet).expect("allowed");
    for member in 0..MAX_MEMBERS {
        let owned = assignment.owners.iter().filter(|owner| **owner == Some(member));
        assert_eq!(owned.count(), 4, "{member}");
    }
}

#[test]
fn costs_are_the_logarithm() {
    for (draw, expected) in [
        (u64::MAX, 1),
        (1 << 63, 1 << 32),
        (1 << 62, 2 << 32),
        (3 << 62, 1_782_572_487),
        (1, 64 << 32),
        (0, 64 << 32),
    ] {
        assert_eq!(score::cost(draw), expected, "{draw:#x}");
    }
}
