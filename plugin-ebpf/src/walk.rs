//! Looks a file's place up in a policy: its path, and the directories above it. As in
//! [`lookup`](crate::lookup), each question is a global function of numbers.

use plugin_common::{PATH_COMPONENTS_MAX, RULE_UNREADABLE};

use crate::{
    field::{Climb, Place, Step},
    lookup::{ANY_LENGTH, EMPTY, UNREADABLE, UNREADABLE_STRING, edge, next, rule},
};

/// Steps from a file to the root for a path rule: its components, and the mount
/// points between.
const STEPS: usize = PATH_COMPONENTS_MAX + 8;

/// Steps from a file to the root for a rule of a directory, which may be far
/// above the file.
const DEEP_STEPS: u64 = 64;

/// The rule for a file's path, read from the file to the root of the
/// mount namespace: a chroot changes nothing. Ends with the first component that
/// no rule has.
///
/// [`RULE_UNREADABLE`] where all that was read is a rule's and more is to come: no
/// rule is as long, so there are mounts on mounts, which whoever may mount can pile
/// up.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn path_rule(of: u64, dentry: u64, vfsmount: u64) -> u64 {
    let Some(mut climb) = Climb::new(Place { dentry, vfsmount }) else {
        return UNREADABLE;
    };
    // 0 is where an automaton starts, and what an edge that leads nowhere says;
    // only the former goes on.
    let mut found = 0;
    let mut goes_on = true;
    let mut steps = 0;
    while steps < STEPS {
        steps += 1;
        match climb.step() {
            None => return UNREADABLE,
            Some(Step::Root) => return rule(found),
            Some(Step::Mount) => {}
            Some(Step::Component(dentry)) => {
                if !goes_on {
                    return 0;
                }
                found = component(of, next(found), dentry);
                if found == UNREADABLE_STRING {
                    return UNREADABLE;
                }
                if found == 0 {
                    return 0;
                }
                goes_on = next(found) != 0;
            }
        }
    }
    u64::from(RULE_UNREADABLE)
}

/// The rule for a directory above a file, read from the root down.
///
/// [`RULE_UNREADABLE`] where the file lies too deep to tell: whoever may write
/// below a directory could go deeper than anybody looks.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn dir_rule(of: u64, dentry: u64, vfsmount: u64) -> u64 {
    // The root itself is a component without a name.
    let root = rule(edge(of, 0, 0, EMPTY));
    if root != 0 {
        return root;
    }
    let depth = depth(dentry, vfsmount);
    if depth == UNREADABLE {
        return UNREADABLE;
    }
    if depth >= DEEP_STEPS {
        return u64::from(RULE_UNREADABLE);
    }
    let mut node = 0;
    let mut level = 0;
    // The last component is the file.
    while level < PATH_COMPONENTS_MAX as u64 && level + 1 < depth {
        let above = ancestor(dentry, vfsmount, depth - 1 - level);
        if above == 0 {
            return UNREADABLE;
        }
        let found = component(of, node, above);
        if found == UNREADABLE_STRING {
            return UNREADABLE;
        }
        node = next(found);
        if rule(found) != 0 || node == 0 {
            return rule(found);
        }
        level += 1;
    }
    0
}

/// Follows the edge from `node` that reads the name of a dentry. As [`edge`].
#[inline(always)]
fn component(of: u64, node: u64, dentry: u64) -> u64 {
    // Of a place only the name is asked for.
    let place = Place {
        dentry,
        vfsmount: 0,
    };
    match place.name() {
        Some(address) => edge(of, node, address, ANY_LENGTH),
        None => UNREADABLE_STRING,
    }
}

/// Components of the path; [`DEEP_STEPS`] where there are more steps to the root.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn depth(dentry: u64, vfsmount: u64) -> u64 {
    let Some(mut climb) = Climb::new(Place { dentry, vfsmount }) else {
        return UNREADABLE;
    };
    let mut depth = 0;
    let mut steps = 0;
    while steps < DEEP_STEPS {
        steps += 1;
        match climb.step() {
            None => return UNREADABLE,
            Some(Step::Root) => return depth,
            Some(Step::Mount) => {}
            Some(Step::Component(_)) => depth += 1,
        }
    }
    DEEP_STEPS
}

/// Address of the dentry so many components above; 0 where it can't be read. The
/// root of a mount has the name of its mount point.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn ancestor(dentry: u64, vfsmount: u64, components: u64) -> u64 {
    let Some(mut climb) = Climb::new(Place { dentry, vfsmount }) else {
        return 0;
    };
    let mut left = components;
    let mut steps = 0;
    while steps < DEEP_STEPS {
        steps += 1;
        match climb.step() {
            None | Some(Step::Root) => return 0,
            Some(Step::Mount) => {}
            Some(Step::Component(dentry)) => {
                if left == 0 {
                    return dentry;
                }
                left -= 1;
            }
        }
    }
    0
}
