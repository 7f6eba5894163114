//! `cargo xtask exercise`: the exerciser of `tests/programs/exerciser`, for as long as one likes.
//!
//! Each setting is run once on the host and once in a machine, with the same seed; the program checks every result
//! against its model, and here the two outputs are compared line by line. What goes wrong stays in the directory that
//! the message names.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Instant;

use crate::cargo::{cargo, root, target};

#[derive(Debug, clap::Args)]
pub struct Options {
    /// How many operations in each setting
    #[arg(long, default_value_t = 1_000_000)]
    operations: u64,

    /// What the sequence is made from; each setting after the first takes the next number
    #[arg(long, default_value_t = 1)]
    seed: u64,

    /// Only settings whose name contains this
    #[arg(long, default_value = "")]
    only: String,

    /// Operations between changes that the host makes in the settings without a cache of attributes
    #[arg(long, default_value_t = 100)]
    ask: u64,

    /// Which hypervisor runs the machine
    #[arg(long, default_value = "kvm")]
    platform: String,
}

/// One way to run it.
struct Setting {
    name: &'static str,
    options: &'static [&'static str],
    words: &'static str,
    /// The host changes files meanwhile.
    changed: bool,
}

/// A window of 8 MiB holds less than the files of the exerciser, which go by the same number. In most settings all content
/// that can goes through it: by cost, most of what is used once would go by message.
const SETTINGS: [Setting; 9] = [
    Setting {
        name: "window, clock",
        options: &["--dax-window", "8M", "--dax-io", "window", "--dax-policy", "clock"],
        words: "random mappings=writable",
        changed: false,
    },
    Setting {
        name: "window, lifo",
        options: &["--dax-window", "8M", "--dax-io", "window", "--dax-policy", "lifo"],
        words: "random mappings=writable",
        changed: false,
    },
    Setting {
        name: "window, clock, host changes",
        options: &["--dax-window", "8M", "--dax-io", "window", "--dax-policy", "clock", "--cache", "none"],
        words: "random mappings=writable",
        changed: true,
    },
    Setting {
        name: "window, lifo, host changes",
        options: &["--dax-window", "8M", "--dax-io", "window", "--dax-policy", "lifo", "--cache", "none"],
        words: "random mappings=writable",
        changed: true,
    },
    Setting {
        name: "window or message by cost, host changes",
        options: &["--dax-window", "8M", "--cache", "none"],
        words: "random mappings=writable",
        changed: true,
    },
    Setting { name: "no window", options: &["--dax-window", "0"], words: "random mappings=writable", changed: false },
    Setting {
        // Shared mappings show what the host has changed only after a call that brings the news.
        name: "no window, host changes",
        options: &["--dax-window", "0", "--cache", "none"],
        words: "random mappings=private",
        changed: true,
    },
    Setting {
        name: "window, threads with own files",
        options: &["--dax-window", "8M", "--dax-io", "window"],
        words: "files mappings=writable",
        changed: false,
    },
    Setting {
        name: "window, threads on one file",
        options: &["--dax-window", "8M", "--dax-io", "window"],
        words: "regions mappings=writable",
        changed: false,
    },
];

/// Builds, runs the settings and prints a table on stdout.
///
/// # Errors
/// The build failed, no setting has the name, or a run went wrong.
pub fn run(options: &Options) -> Result<(), String> {
    cargo(&["build", "--release", "--package", "diolkos"], &[])?;
    let folder = target().join("exercise");
    let program = compile(&folder)?;
    println!(
        "| setting | seed | operations | host, s | machine, s | chunks mapped | evictions | READ | WRITE | result |"
    );
    println!("|---|---:|---:|---:|---:|---:|---:|---:|---:|---|");
    let mut wrong = Vec::new();
    let chosen = SETTINGS.iter().zip(options.seed..).filter(|(setting, _)| setting.name.contains(&options.only));
    for (setting, seed) in chosen {
        match exercise(options, setting, seed, &program, &folder) {
            Ok(row) => println!("{row}"),
            Err(why) => {
                println!("| {} | {seed} | {} | | | | | | | WRONG |", setting.name, options.operations);
                eprintln!("xtask: {}: {why}", setting.name);
                wrong.push(setting.name);
            }
        }
    }
    if wrong.is_empty() { Ok(()) } else { Err(format!("wrong: {}", wrong.join("; "))) }
}

fn compile(folder: &Path) -> Result<PathBuf, String> {
    fs::create_dir_all(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    let source = root().join("tests/programs/exerciser");
    let entries = fs::read_dir(&source).map_err(|error| format!("{}: {error}", source.display()))?;
    let is_c = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "c");
    let files = entries.filter_map(|entry| entry.ok().map(|entry| entry.path())).filter(is_c);
    let program = folder.join("exerciser");
    let mut compiler = Command::new("musl-gcc");
    compiler.args(["-static", "-O1", "-o"]).arg(&program).args(files).arg("-lpthread");
    match compiler.status() {
        Ok(status) if status.success() => Ok(program),
        Ok(status) => Err(format!("musl-gcc: {status}")),
        Err(error) => Err(format!("musl-gcc: {error}; it is in Debian's musl-tools")),
    }
}

/// Runs one setting on both sides; the row of the table, or what differs.
fn exercise(options: &Options, setting: &Setting, seed: u64, program: &Path, folder: &Path) -> Result<String, String> {
    let mut words = format!("{} seed={seed} operations={}", setting.words, options.operations);
    if setting.changed {
        words.push_str(&format!(" ask={}", options.ask));
    }
    let script = format!("exec /program/exerciser {words}");
    let (here, there) = (fresh(folder, "host")?, fresh(folder, "machine")?);

    let mut host = Command::new(program);
    host.args(words.split(' ')).current_dir(&here);
    let (host, host_seconds) = answered(host, program, &here)?;

    let mut machine = Command::new(target().join("release/diolkos"));
    machine.args(["run", "--stats", "--platform", &options.platform]).args(setting.options);
    machine.args(["--volume", &format!("{}:/program:ro", folder.display())]);
    machine.args(["--volume", &format!("{}:/data", there.display()), "--workdir", "/data"]);
    machine.args(["/", "/bin/sh", "-c", &script]);
    let (machine, machine_seconds) = answered(machine, program, &there)?;

    if let Some((line, (wanted, got))) = first_difference(&host.out, &machine.out) {
        let rest = machine.out.lines().skip(line).take(50).collect::<Vec<_>>().join("\n");
        return Err(format!("`{words}`, line {line}: '{wanted}' on the host, '{got}' in the machine\n{rest}"));
    }
    if !host.done || !machine.done {
        return Err(format!("`{words}`: {}{}", host.out, machine.out));
    }
    let figure = |label| figure(&machine.err, label);
    Ok(format!(
        "| {} | {seed} | {} | {host_seconds:.0} | {machine_seconds:.0} | {} | {} | {} | {} | the same |",
        setting.name,
        options.operations,
        figure("mappings"),
        figure("evictions"),
        figure("READ"),
        figure("WRITE"),
    ))
}

fn fresh(folder: &Path, name: &str) -> Result<PathBuf, String> {
    let path = folder.join(name);
    let _ = fs::remove_dir_all(&path);
    fs::create_dir(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    Ok(path)
}

/// What a run left.
struct Run {
    out: String,
    err: String,
    done: bool,
}

/// Runs `command`, whose requests for changes are served in `work`, and says how many seconds it took.
fn answered(mut command: Command, program: &Path, work: &Path) -> Result<(Run, f64), String> {
    let start = Instant::now();
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(|error| format!("{}: {error}", command.get_program().display()))?;
    let (stdin, stdout) = (child.stdin.take().expect("it is a pipe"), child.stdout.take().expect("it is a pipe"));
    let mut server = Command::new(program);
    server.arg("answer").arg(work).stdin(stdout).stdout(stdin);
    // What is no request comes out again on the other stream.
    let Output { stderr: out, .. } = server.output().map_err(|error| format!("{}: {error}", program.display()))?;
    let Output { status, stderr, .. } = child.wait_with_output().map_err(|error| error.to_string())?;
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    let run = Run { out: text(out), err: text(stderr), done: status.success() };
    Ok((run, start.elapsed().as_secs_f64()))
}

/// The first line, counted from 0, in which two texts are not the same.
fn first_difference<'a>(one: &'a str, other: &'a str) -> Option<(usize, (&'a str, &'a str))> {
    let (mut ones, mut others) = (one.lines(), other.lines());
    for number in 0.. {
        match (ones.next(), others.next()) {
            (None, None) => break,
            (a, b) if a == b => {}
            (a, b) => return Some((number, (a.unwrap_or("(nothing)"), b.unwrap_or("(nothing)")))),
        }
    }
    None
}

/// What stands beside `label` in a block of `--stats`; "0" if it is not shown.
fn figure<'a>(block: &'a str, label: &str) -> &'a str {
    let row = block.lines().find_map(|line| line.strip_prefix("    ")?.strip_prefix(label)?.strip_prefix(' '));
    row.map_or("0", str::trim)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn differences_are_found_where_they_are() {
        assert_eq!(first_difference("a\nb\n", "a\nb\n"), None);
        assert_eq!(first_difference("a\nb\n", "a\nc\n"), Some((1, ("b", "c"))));
        assert_eq!(first_difference("a\n", "a\nc\n"), Some((1, ("(nothing)", "c"))));
        assert_eq!(first_difference("", ""), None);
    }

    #[test]
    fn figures_are_found_in_the_block() {
        let block = "diolkos: statistics\n  dax window\n    bytes read     1.5 GiB\n    evictions          12\n";
        assert_eq!(
            (figure(block, "evictions"), figure(block, "bytes read"), figure(block, "READ")),
            ("12", "1.5 GiB", "0")
        );
    }
}
