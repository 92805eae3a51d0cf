//! Stacks of samples, added up by who called whom. Lines are not told apart.

use super::functions::Name;
use super::intern::Interned;
use crate::transactions::callsite::is_application;
use pyapm_model::line::Frame;
use pyapm_model::snapshot::{CallNode, CallTree};
use std::collections::HashMap;

/// Stacks of one second that are told apart.
const MAX_STACKS: usize = 400;
/// Frames of one stack, from the outermost inwards.
const MAX_DEPTH: usize = 256;
/// Nodes of one tree: more than any screen shows.
const MAX_NODES: usize = 3_000;

/// Of one second: how often each stack was met. Stacks are numbers of functions, innermost first.
#[derive(Clone, Debug, Default)]
pub struct StackTally {
    samples: u64,
    left_out: u64,
    seen: HashMap<Box<[u32]>, u64>,
}

impl StackTally {
    pub fn record(&mut self, stack: &[u32]) {
        let stack = stack.get(stack.len().saturating_sub(MAX_DEPTH)..).unwrap_or_default();
        self.samples += 1;
        if let Some(count) = self.seen.get_mut(stack) {
            *count += 1;
        } else if self.seen.len() < MAX_STACKS {
            self.seen.insert(stack.into(), 1);
        } else {
            self.left_out += 1;
        }
    }
}

struct Node {
    name: u32,
    parent: Option<usize>,
    samples: u64,
    own: u64,
}

/// The tree of all these seconds.
pub fn tree<'a>(tallies: impl Iterator<Item = &'a StackTally>, names: &Interned<Name>) -> CallTree {
    let mut tree = CallTree::default();
    let mut stacks: HashMap<&[u32], u64> = HashMap::new();
    for tally in tallies {
        tree.samples += tally.samples;
        tree.left_out += tally.left_out;
        for (stack, count) in &tally.seen {
            *stacks.entry(stack).or_default() += count;
        }
    }
    let mut nodes: Vec<Node> = Vec::new();
    let mut known: HashMap<(Option<usize>, u32), usize> = HashMap::new();
    for (stack, count) in stacks {
        let mut parent = None;
        for name in stack.iter().rev() {
            let index = *known.entry((parent, *name)).or_insert_with(|| {
                nodes.push(Node { name: *name, parent, samples: 0, own: 0 });
                nodes.len() - 1
            });
            if let Some(node) = nodes.get_mut(index) {
                node.samples += count;
            }
            parent = Some(index);
        }
        if let Some(node) = parent.and_then(|innermost| nodes.get_mut(innermost)) {
            node.own += count;
        }
    }
    tree.nodes = in_order(&nodes, names);
    tree
}

/// Callers first, the largest first; the smallest left out where they are too many.
fn in_order(nodes: &[Node], names: &Interned<Name>) -> Vec<CallNode> {
    let mut largest: Vec<usize> = (0..nodes.len()).collect();
    let name_of = |index: usize| names.name(nodes[index].name).cloned().unwrap_or_default();
    // A caller has no fewer samples than what it calls, and was there before it: none is chosen without its caller.
    largest.sort_by_key(|index| (std::cmp::Reverse(nodes[*index].samples), *index));
    largest.truncate(MAX_NODES);
    let mut called: HashMap<Option<usize>, Vec<usize>> = HashMap::new();
    for index in largest {
        called.entry(nodes[index].parent).or_default().push(index);
    }
    let mut ordered = Vec::new();
    let mut open: Vec<(u32, usize)> = Vec::new();
    let mut push = |open: &mut Vec<(u32, usize)>, parent, depth| {
        let mut children = called.remove(&parent).unwrap_or_default();
        // Equal ones by name, so that they keep their places from one second to the next.
        children.sort_by_cached_key(|child| (std::cmp::Reverse(nodes[*child].samples), name_of(*child)));
        open.extend(children.into_iter().rev().map(|child| (depth, child)));
    };
    push(&mut open, None, 0);
    while let Some((depth, index)) = open.pop() {
        let (function, file) = name_of(index);
        let Node { samples, own, .. } = nodes[index];
        let is_application = is_application(&Frame {
            function: function.as_str().into(),
            file: file.as_str().into(),
            line: None,
        });
        ordered.push(CallNode { function, file, is_application, depth, samples, own });
        push(&mut open, Some(index), depth + 1);
    }
    ordered
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    fn names(count: usize) -> Interned<Name> {
        let mut names = Interned::new(Arc::new(("{other}".to_owned(), String::new())), 100_000);
        for number in 1..=count {
            names.add(Arc::new((format!("f{number}"), "a.py".to_owned())));
        }
        names
    }

    fn shape(tree: &CallTree) -> Vec<(u32, &str, u64, u64)> {
        tree.nodes.iter().map(|node| (node.depth, node.function.as_str(), node.samples, node.own)).collect()
    }

    #[test]
    fn callers_come_first_and_large_ones_before_small_ones() {
        let (mut one, mut other) = (StackTally::default(), StackTally::default());
        for stack in [&[3, 2, 1][..], &[4, 2, 1], &[4, 2, 1], &[1], &[]] {
            one.record(stack);
        }
        other.record(&[5, 6]);
        other.record(&[4, 2, 1]);
        let tree = tree([&one, &other].into_iter(), &names(9));
        assert_eq!((tree.samples, tree.left_out), (7, 0));
        assert_eq!(
            shape(&tree),
            [
                (0, "f1", 5, 1),
                (1, "f2", 4, 0),
                (2, "f4", 3, 3),
                (2, "f3", 1, 1),
                (0, "f6", 1, 0),
                (1, "f5", 1, 1)
            ]
        );
    }

    #[test]
    fn too_many_stacks_and_nodes_and_frames_are_left_out_and_said() {
        let mut tally = StackTally::default();
        for number in 0..1_000 {
            tally.record(&[number % 500 + 2, 1]);
        }
        tally.record(&vec![7; 10_000]);
        let small = tree([&tally].into_iter(), &names(600));
        assert_eq!((small.samples, small.left_out), (1_001, 201));
        let mut many: Vec<StackTally> = Vec::new();
        for second in 0..20_u32 {
            let mut tally = StackTally::default();
            for number in 0..400 {
                tally.record(&[2 + number + second * 400, 1]);
            }
            many.push(tally);
        }
        let large = tree(many.iter(), &names(10_000));
        assert_eq!(large.nodes.len(), MAX_NODES);
        assert_eq!(shape(&large)[0], (0, "f1", 8_000, 0));
    }
}
