//! Two versions of the binary must agree, for ever.

use sharding::assignment::score;
use xxhash_rust::xxh3::xxh3_64;

use super::{Story, member};

fn hexadecimal(text: &str) -> u64 {
    let digits = text.strip_prefix("0x").expect("a number in hexadecimal");
    u64::from_str_radix(digits, 16).expect("a number in hexadecimal")
}

/// `name`, `name:weight`, each with `-` behind it if it is leaving.
fn member_of(word: &str) -> sharding::assignment::Member {
    let (word, leaving) = word.strip_suffix('-').map_or((word, false), |word| (word, true));
    let (name, weight) = word.split_once(':').unwrap_or((word, "1"));
    let mut member = member(name, weight.parse().expect("a weight"));
    member.leaving = leaving;
    member
}

/// The same owners, seen from a new list of members; who is not in it owned nothing.
fn continued(story: Option<&Story>, members: Vec<sharding::assignment::Member>) -> Story {
    let Some(before) = story else {
        return Story::new(members);
    };
    let place = |name: &str| members.iter().position(|member| member.name == name);
    let owners = before.owner_names().into_iter().map(place).collect();
    let shards = before.shards;
    let mut story = Story {
        members,
        owners,
        shards,
    };
    story.assign();
    story
}

#[test]
fn golden_vectors_hold() {
    let (mut draws, mut fleets) = (0, 0);
    let mut story: Option<Story> = None;
    let lines = include_str!("golden.txt").lines();
    for line in lines.filter(|line| !line.starts_with('#')) {
        match line.split(' ').collect::<Vec<_>>()[..] {
            ["draw", name, bucket, draw, cost] => {
                let bucket = bucket.parse().expect("a bucket");
                assert_eq!(score::draw(name, bucket), hexadecimal(draw), "{line}");
                assert_eq!(score::cost(score::draw(name, bucket)), hexadecimal(cost), "{line}");
                draws += 1;
            }
            [step @ ("new" | "then"), members, expected] => {
                let members = members.split(',').map(member_of).collect();
                let before = story.as_ref().filter(|_| step == "then");
                let now = continued(before, members);
                let owners = now.owner_names().join(",");
                assert_eq!(xxh3_64(owners.as_bytes()), hexadecimal(expected), "{line}");
                story = Some(now);
                fleets += 1;
            }
            _ => panic!("what is this? {line:?}"),
        }
    }
    assert_eq!(
        (draws, fleets),
        (24, 16),
        "lines are only added, and then these numbers with them"
    );
}
