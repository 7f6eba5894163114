//! Compares docs/linux-compatibility.md with the kernel's table of system calls.
//!
//! The kernel's families list their calls as `(Sysno::name, handler)`; only those pairs are looked for in its source, since
//! the table itself exists in the guest's build alone. The page's rows begin with one or more names in backticks and a state.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use syscalls::Sysno;

use crate::cargo::root;

const PAGE: &str = "docs/linux-compatibility.md";
const FAMILIES: &str = "guest/kernel/src/linux";

/// The state of a call that has no handler.
const ABSENT: &str = "absent";
/// The states of a call that has one.
const PRESENT: [&str; 4] = ["yes", "part", "no effect", "refused"];

/// Whether Linux 6.1 on x86-64 has the number: the numbers between belong to 32-bit programs or to nobody, and 6.1 ends
/// at set_mempolicy_home_node.
fn is_in_6_1(call: Sysno) -> bool {
    matches!(call.id(), 0..=334 | 424..=450)
}

/// Checks the page.
///
/// # Errors
/// Every disagreement, one a line.
pub fn check() -> Result<(), String> {
    let read = |path: &Path| fs::read_to_string(path).map_err(|why| format!("{}: {why}", path.display()));
    let mut handled = BTreeMap::new();
    for file in sources(&root().join(FAMILIES))? {
        for name in handlers(&read(&file)?) {
            handled.insert(name, file.display().to_string());
        }
    }
    let wrong = disagreements(&handled, &read(&root().join(PAGE))?);
    if wrong.is_empty() { Ok(()) } else { Err(wrong.join("\nxtask: ")) }
}

fn sources(folder: &Path) -> Result<Vec<PathBuf>, String> {
    let mut found = Vec::new();
    let failed = |why: std::io::Error| format!("{}: {why}", folder.display());
    for entry in fs::read_dir(folder).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        if path.is_dir() {
            found.extend(sources(&path)?);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    Ok(found)
}

/// The calls that a source file gives handlers.
fn handlers(source: &str) -> impl Iterator<Item = String> {
    source.split("(Sysno::").skip(1).filter_map(|rest| {
        let (name, after) = rest.split_at(rest.find(|c: char| !c.is_alphanumeric() && c != '_')?);
        after.starts_with(',').then(|| name.to_owned())
    })
}

/// The calls and the state of a row of the page's tables; `None` for other lines.
fn row(line: &str) -> Option<(Vec<&str>, &str)> {
    let mut cells = line.strip_prefix('|')?.split('|').map(str::trim);
    let (names, state) = (cells.next()?, cells.next()?);
    let names: Option<Vec<_>> =
        names.split(", ").map(|name| name.strip_prefix('`').and_then(|name| name.strip_suffix('`'))).collect();
    Some((names?, state))
}

/// What is wrong with a page, given the calls that have handlers, with where these are.
fn disagreements(handled: &BTreeMap<String, String>, page: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut states = BTreeMap::new();
    for (number, line) in (1..).zip(page.lines()) {
        let Some((names, state)) = row(line) else { continue };
        if state != ABSENT && !PRESENT.contains(&state) {
            wrong.push(format!("{PAGE}:{number}: the state {state:?} is none of {PRESENT:?} and {ABSENT:?}"));
        }
        for name in names {
            let has_handler = handled.get(name);
            match (has_handler, state == ABSENT) {
                (Some(file), true) => wrong.push(format!("{PAGE}:{number}: {name} is said to be absent: see {file}")),
                (None, false) => wrong.push(format!("{PAGE}:{number}: {name} is said to be there: it has no handler")),
                _ => {}
            }
            if let Some(first) = states.insert(name, number) {
                wrong.push(format!("{PAGE}:{number}: {name} is in line {first} already"));
            }
        }
    }
    for call in Sysno::iter().filter(|call| is_in_6_1(*call) || handled.contains_key(call.name())) {
        if !states.contains_key(call.name()) {
            wrong.push(format!("{PAGE}: {} is missing", call.name()));
        }
    }
    wrong
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_agrees_with_the_kernel() {
        check().unwrap();
    }

    #[test]
    fn only_pairs_of_call_and_handler_count() {
        let source = "&[(Sysno::read, read), (Sysno::getxattr, |call| get(call))] match x { (Sysno::open | Sysno::close) \
                      => Sysno::stat, _ => f(Sysno::poll) }";
        assert_eq!(handlers(source).collect::<Vec<_>>(), ["read", "getxattr"]);
    }

    #[test]
    fn rows_have_names_in_backticks() {
        assert_eq!(row("| `read`, `write` | part | `X` | "), Some((vec!["read", "write"], "part")));
        assert_eq!(row("| call | state | |"), None);
        assert_eq!(row("|---|---|---|"), None);
        assert_eq!(row("some text"), None);
    }

    /// A page with every call of Linux 6.1 as absent, but for the lines given.
    fn page(lines: &str) -> String {
        let told: Vec<_> = lines.lines().filter_map(row).flat_map(|(names, _)| names).collect();
        let rest = Sysno::iter().filter(|call| is_in_6_1(*call) && !told.contains(&call.name()));
        rest.map(|call| format!("| `{}` | absent | |\n", call.name())).collect::<String>() + lines
    }

    #[test]
    fn each_kind_of_disagreement_is_told() {
        let handled = BTreeMap::from([("read", "a.rs"), ("fchmodat2", "b.rs")].map(|(a, b)| (a.into(), b.into())));
        let wrong = |lines: &str| disagreements(&handled, &page(lines));
        assert_eq!(wrong("| `read` | yes | |\n| `fchmodat2` | part | |"), Vec::<String>::new());
        assert!(wrong("| `read` | yes | |")[0].ends_with("fchmodat2 is missing"));
        assert!(wrong("| `fchmodat2` | yes | |")[0].contains("read is said to be absent: see a.rs"));
        assert!(wrong("| `read`, `write`, `fchmodat2` | yes | |")[0].contains("write is said to be there"));
        assert!(wrong("| `read`, `fchmodat2` | perhaps | |")[0].contains("\"perhaps\" is none of"));
        assert!(wrong("| `read`, `fchmodat2`, `read` | yes | |")[0].contains("already"));
        let without_write = page("| `read`, `fchmodat2` | yes | |").replace("| `write` | absent | |\n", "");
        assert_eq!(disagreements(&handled, &without_write), [format!("{PAGE}: write is missing")]);
    }
}
