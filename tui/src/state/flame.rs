//! Where in the call tree one looks. Kept by names, not by position: the tree is a new one each second.

use pyapm_model::snapshot::CallTree;

/// Functions with their files, from the outermost inwards.
pub type Path = Vec<(String, String)>;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Flame {
    /// The node with the cursor; empty before any.
    pub selected: Path,
    /// The node that fills the width; empty shows the whole.
    pub zoomed: Path,
}

/// Where to go from a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    Caller,
    /// The largest.
    Called,
    Previous,
    Next,
}

impl Flame {
    pub fn selected(&self, tree: &CallTree) -> Option<usize> {
        find(tree, &self.selected)
    }

    /// `None` shows the whole; so does a node that is no longer there.
    pub fn zoomed(&self, tree: &CallTree) -> Option<usize> {
        find(tree, &self.zoomed)
    }

    pub fn select(&mut self, tree: &CallTree, index: usize) {
        self.selected = path(tree, index);
    }

    pub fn step(&mut self, tree: &CallTree, step: Step) {
        let zoomed = self.zoomed(tree);
        let Some(selected) = self.selected(tree) else {
            if let Some(first) = zoomed.or_else(|| children(tree, None).next()) {
                self.select(tree, first);
            }
            return;
        };
        let caller = caller(tree, selected);
        let target = match step {
            // What calls the zoomed node is not on the screen.
            Step::Caller if zoomed == Some(selected) => None,
            Step::Caller => caller,
            Step::Called => children(tree, Some(selected)).next(),
            Step::Previous | Step::Next if zoomed == Some(selected) => None,
            Step::Previous => children(tree, caller).take_while(|child| *child != selected).last(),
            Step::Next => children(tree, caller).find(|child| *child > selected),
        };
        if let Some(target) = target {
            self.select(tree, target);
        }
    }

    /// The selected node fills the width.
    pub fn zoom(&mut self) {
        self.zoomed.clone_from(&self.selected);
    }

    /// Back to the whole; false when it was shown already.
    pub fn unzoom(&mut self) -> bool {
        !std::mem::take(&mut self.zoomed).is_empty()
    }
}

/// What a node calls, or the outermost ones: the largest first.
pub fn children(tree: &CallTree, index: Option<usize>) -> impl Iterator<Item = usize> {
    let (first, depth) = match index {
        Some(index) => (index + 1, tree.nodes.get(index).map_or(u32::MAX, |node| node.depth + 1)),
        None => (0, 0),
    };
    let nodes = tree.nodes.get(first..).unwrap_or_default().iter().enumerate();
    let below = nodes.take_while(move |(_, node)| node.depth >= depth);
    below.filter(move |(_, node)| node.depth == depth).map(move |(offset, _)| first + offset)
}

pub fn caller(tree: &CallTree, index: usize) -> Option<usize> {
    let depth = tree.nodes.get(index)?.depth.checked_sub(1)?;
    tree.nodes.get(..index)?.iter().rposition(|node| node.depth == depth)
}

fn find(tree: &CallTree, path: &Path) -> Option<usize> {
    let mut found = None;
    for (function, file) in path {
        found = Some(children(tree, found).find(|child| {
            tree.nodes.get(*child).is_some_and(|node| node.function == *function && node.file == *file)
        })?);
    }
    found
}

fn path(tree: &CallTree, index: usize) -> Path {
    let mut path: Path = std::iter::successors(Some(index), |index| caller(tree, *index))
        .filter_map(|index| tree.nodes.get(index))
        .map(|node| (node.function.clone(), node.file.clone()))
        .collect();
    path.reverse();
    path
}

#[cfg(test)]
mod tests {
    use super::*;
    use pyapm_model::snapshot::CallNode;

    fn tree(nodes: &[(u32, &str)]) -> CallTree {
        let nodes = nodes.iter().map(|(depth, name)| CallNode {
            function: (*name).to_owned(),
            depth: *depth,
            samples: 1,
            ..CallNode::default()
        });
        CallTree { samples: 9, left_out: 0, nodes: nodes.collect() }
    }

    fn name(flame: &Flame) -> &str {
        flame.selected.last().map_or("", |(function, _)| function)
    }

    #[test]
    fn one_walks_along_calls_and_siblings_and_stops_at_the_ends() {
        let tree = tree(&[(0, "main"), (1, "view"), (2, "query"), (2, "render"), (1, "log"), (0, "thread")]);
        let mut flame = Flame::default();
        let steps = [
            (Step::Next, "main"),
            (Step::Called, "view"),
            (Step::Called, "query"),
            (Step::Previous, "query"),
            (Step::Next, "render"),
            (Step::Next, "render"),
            (Step::Called, "render"),
            (Step::Caller, "view"),
            (Step::Next, "log"),
            (Step::Caller, "main"),
            (Step::Caller, "main"),
            (Step::Next, "thread"),
            (Step::Previous, "main"),
        ];
        for (step, expected) in steps {
            flame.step(&tree, step);
            assert_eq!(name(&flame), expected, "{step:?}");
        }
    }

    #[test]
    fn names_are_found_again_in_another_tree_and_the_zoomed_one_is_the_outermost() {
        let before = tree(&[(0, "main"), (1, "view"), (2, "query"), (1, "log")]);
        let after = tree(&[(0, "main"), (1, "log"), (1, "view"), (2, "query")]);
        let mut flame = Flame::default();
        flame.select(&before, 1);
        flame.zoom();
        assert_eq!((flame.selected(&after), flame.zoomed(&after)), (Some(2), Some(2)));
        for step in [Step::Caller, Step::Next, Step::Previous] {
            flame.step(&after, step);
            assert_eq!(name(&flame), "view");
        }
        flame.step(&after, Step::Called);
        assert_eq!(name(&flame), "query");
        assert_eq!(flame.selected(&tree(&[(0, "other")])), None);
        assert!(flame.unzoom() && !flame.unzoom());
    }
}
