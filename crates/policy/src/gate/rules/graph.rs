//! Which rule asks which: no rule may ask itself, and a row of them has a bound, for each takes stack.

use std::collections::{BTreeMap, BTreeSet};

use super::{Finding, Known, LONGEST_CHAIN};

/// What is wrong with who asks whom. Rules of one path count as one.
pub(super) fn check(known: &[Known<'_>], asks: &[BTreeSet<usize>]) -> Option<Finding> {
    let mut nodes: BTreeMap<&[String], usize> = BTreeMap::new();
    let node_of: Vec<usize> = known
        .iter()
        .map(|rule| {
            let next = nodes.len();
            *nodes.entry(&rule.path).or_insert(next)
        })
        .collect();
    let mut edges = vec![BTreeSet::new(); nodes.len()];
    for (rule, asks) in asks.iter().enumerate() {
        // A rule that selects of its own package's documents may meet itself.
        edges[node_of[rule]].extend(asks.iter().map(|asked| node_of[*asked]));
    }
    let example = |node: usize| {
        known
            .iter()
            .zip(&node_of)
            .find(|(_, of)| **of == node)
            .map(|(rule, _)| rule)
    };
    match longest(&edges) {
        Err(circle) => {
            let names: Vec<String> = circle
                .iter()
                .filter_map(|node| example(*node))
                .map(Known::name)
                .collect();
            let rule = example(*circle.first()?)?;
            Some(rule.here(format!(
                "asks itself: {}; rules and functions must not recurse",
                names.join(" asks ")
            )))
        }
        Ok((length, node)) if length > LONGEST_CHAIN => {
            let problem = format!("begins a row of {length} rules that ask each other; {LONGEST_CHAIN} are allowed");
            Some(example(node)?.here(problem))
        }
        Ok(_) => None,
    }
}

/// Nodes on the longest way and the node where it begins; or a circle. Without recursion, for rows may be long.
fn longest(edges: &[BTreeSet<usize>]) -> Result<(usize, usize), Vec<usize>> {
    let mut asked_by = vec![Vec::new(); edges.len()];
    let mut left: Vec<usize> = edges.iter().map(BTreeSet::len).collect();
    for (node, asks) in edges.iter().enumerate() {
        for asked in asks {
            asked_by[*asked].push(node);
        }
    }
    let mut ready: Vec<usize> = (0..edges.len()).filter(|node| left[*node] == 0).collect();
    let (mut length, mut done) = (vec![1; edges.len()], 0);
    while let Some(node) = ready.pop() {
        done += 1;
        for &by in &asked_by[node] {
            length[by] = length[by].max(length[node] + 1);
            left[by] -= 1;
            if left[by] == 0 {
                ready.push(by);
            }
        }
    }
    if done == edges.len() {
        return Ok((0..edges.len())
            .map(|node| (length[node], node))
            .max()
            .unwrap_or_default());
    }
    // Whoever is left asks somebody who is left.
    let stuck = |node: &usize| left[*node] > 0;
    let mut way: Vec<usize> = (0..edges.len()).filter(stuck).take(1).collect();
    while let Some(next) = way.last().and_then(|node| edges[*node].iter().copied().find(stuck)) {
        if let Some(begin) = way.iter().position(|node| *node == next) {
            way.push(next);
            return Err(way.split_off(begin));
        }
        way.push(next);
    }
    Err(way)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn edges(of: &[&[usize]]) -> Vec<BTreeSet<usize>> {
        of.iter().map(|asks| asks.iter().copied().collect()).collect()
    }

    #[test]
    fn rows_and_circles() {
        assert_eq!(longest(&edges(&[])), Ok((0, 0)));
        assert_eq!(longest(&edges(&[&[1, 2], &[2], &[], &[2]])), Ok((3, 0)));
        assert_eq!(longest(&edges(&[&[0]])), Err(vec![0, 0]));
        assert_eq!(longest(&edges(&[&[1], &[2], &[1], &[]])), Err(vec![1, 2, 1]));
        let row: Vec<BTreeSet<usize>> = (0..100_000)
            .map(|node| BTreeSet::from_iter((node > 0).then(|| node - 1)))
            .collect();
        assert_eq!(longest(&row), Ok((100_000, 99_999)));
    }
}
