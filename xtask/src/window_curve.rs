//! `cargo xtask window-curve`: throughput against the size of the working set, as tables for the documentation.
//!
//! Every run is a machine of its own with one way to manage its window. The program in it is this very executable, as a
//! hidden task ([`Worker`]): it uses a file from end to end, or page by page at random, by read(2) and through a shared
//! mapping, for a fixed time each after as long a time that does not count. It checks every block that it reads.

use std::ffi::OsString;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use crate::cargo::{cargo, target};
use crate::map::SharedMap;

#[derive(Debug, clap::Args)]
pub struct Options {
    /// Size of the window in MiB; the file is as many times as large as the largest ratio says
    #[arg(long, default_value_t = 32)]
    window: u64,

    /// Working sets, in windows
    #[arg(long, value_delimiter = ',', default_value = "0.25,0.5,1,2,4,8,16,32,64")]
    ratios: Vec<f64>,

    /// Milliseconds that count for each figure
    #[arg(long, default_value_t = 500)]
    time: u64,

    /// How often everything is measured; the best counts, since what else the computer does can only slow it down
    #[arg(long, default_value_t = 1)]
    runs: u32,
}

/// The hidden task.
#[derive(Debug, clap::Args)]
pub struct Worker {
    file: PathBuf,
    /// Bytes of it that are used
    size: u64,
    /// Milliseconds for each figure
    time: u64,
}

/// Names of the ways, and the options of diolkos that choose them.
const WAYS: [(&str, &[&str]); 4] = [
    ("`clock`", &["--dax-policy", "clock"]),
    ("`lifo`", &["--dax-policy", "lifo"]),
    ("`clock`, `--dax-io window`", &["--dax-policy", "clock", "--dax-io", "window"]),
    ("no window", &["--dax-window", "0"]),
];

/// What the worker measures, in its order.
const USES: [&str; 4] = [
    "read(2) of 128 KiB, from end to end",
    "read(2) of 4 KiB, at random",
    "shared mapping, from end to end",
    "shared mapping, pages at random",
];

const PAGE: u64 = 4096;
const BLOCK: u64 = 128 << 10;

/// What the file has at an offset that is a multiple of eight.
fn word(offset: u64) -> u64 {
    offset.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x5bd1_e995
}

/// Builds, measures and prints the tables on stdout.
///
/// # Errors
/// The build or a run failed, or the file cannot be written.
pub fn run(options: &Options) -> Result<(), String> {
    let most = options.ratios.iter().copied().fold(0.0, f64::max);
    let size = |ratio: f64| ((options.window << 20) as f64 * ratio) as u64 / BLOCK * BLOCK;
    if options.window < 2
        || options.time == 0
        || options.runs == 0
        || options.ratios.iter().any(|ratio| size(*ratio) == 0)
    {
        return Err("the window has to have 2 MiB, and everything else to be more than nothing".to_owned());
    }
    cargo(&["build", "--release", "--package", "diolkos"], &[])?;
    let file = Scratch::new(size(most))?;
    // By ratio, way and use; MB/s.
    let mut rates = Vec::new();
    for ratio in &options.ratios {
        let mut row = Vec::new();
        for (name, way) in WAYS {
            let mut rates = vec![0; USES.len()];
            for _ in 0..options.runs {
                let once = measure(options, way, &file.0, size(*ratio))?;
                rates = rates.iter().zip(once).map(|(best, rate)| rate.max(*best)).collect();
            }
            eprintln!("xtask: {ratio} windows, {name}: {rates:?}");
            row.push(rates);
        }
        rates.push(row);
    }
    println!("Window {} MiB, MB/s.", options.window);
    for (which, use_) in USES.iter().enumerate() {
        println!("\n{use_}:\n\n| working set / window | {} |", WAYS.map(|(name, _)| name).join(" | "));
        println!("|---:|{}", "---:|".repeat(WAYS.len()));
        for (ratio, row) in options.ratios.iter().zip(&rates) {
            let cells: Vec<String> = row.iter().map(|rates: &Vec<u64>| rates[which].to_string()).collect();
            println!("| {ratio} | {} |", cells.join(" | "));
        }
    }
    Ok(())
}

fn measure(options: &Options, way: &[&str], file: &Path, size: u64) -> Result<Vec<u64>, String> {
    let worker = std::env::current_exe().map_err(|error| format!("the path of this program: {error}"))?;
    let (folder, name) = worker.parent().zip(worker.file_name()).ok_or("this program has no path")?;
    let data = file.file_name().ok_or("the file has no name")?;
    // As volumes: the build may lie where the machine has memory of its own (/tmp).
    let volume = |folder: &Path, target: &str| {
        let mut text = folder.as_os_str().to_owned();
        text.push(target);
        [OsString::from("--volume"), text]
    };
    let mut command = Command::new(target().join("release/diolkos"));
    let window = format!("{}M", options.window);
    // A later --dax-window counts, and without one the pages of mappings are memory of the machine.
    let sized: &[&str] = if way.contains(&"--dax-window") { &[] } else { &["--dax-window", &window] };
    command.args(["run", "--platform", "kvm", "--memory", "6G"]).args(sized).args(way);
    command.args(volume(folder, ":/worker:ro")).args(volume(&target(), ":/data:ro"));
    command.arg("/").arg(Path::new("/worker").join(name)).arg("window-worker").arg(Path::new("/data").join(data));
    command.args([size.to_string(), options.time.to_string()]);
    let output = command.output().map_err(|error| format!("diolkos: {error}"))?;
    let text = String::from_utf8_lossy(&output.stdout);
    let rates: Vec<u64> = text.lines().filter_map(|line| line.parse().ok()).collect();
    if !output.status.success() || rates.len() != USES.len() {
        return Err(format!("{command:?}: {}: {text}{}", output.status, String::from_utf8_lossy(&output.stderr)));
    }
    Ok(rates)
}

/// A file that goes when we do.
struct Scratch(PathBuf);

impl Scratch {
    fn new(size: u64) -> Result<Self, String> {
        let path = target().join("window-curve.data");
        let failed = |error| format!("{}: {error}", path.display());
        let mut file = BufWriter::with_capacity(1 << 20, File::create(&path).map_err(failed)?);
        let scratch = Self(path.clone());
        for offset in (0..size).step_by(8) {
            file.write_all(&word(offset).to_le_bytes()).map_err(failed)?;
        }
        file.into_inner().map_err(|error| failed(error.into_error()))?.sync_all().map_err(failed)?;
        Ok(scratch)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// Measures inside the machine and prints MB/s, a line for each of [`USES`].
///
/// # Errors
/// The file cannot be used, or has something else than it should.
pub fn work(worker: &Worker) -> Result<(), String> {
    let Worker { file: path, size, time } = worker;
    let failed = |error| format!("{}: {error}", path.display());
    let file = File::open(path).map_err(failed)?;
    let mut buffer = vec![0; BLOCK as usize];
    let mut read = |offset: u64, len: u64| {
        file.read_exact_at(&mut buffer[..len as usize], offset).map_err(failed)?;
        check(&buffer, offset)
    };
    measure_for(*time, |step| read(step * BLOCK % size, BLOCK).map(|()| BLOCK))?;
    measure_for(*time, |step| read(scatter(step) % (size / PAGE) * PAGE, PAGE).map(|()| PAGE))?;
    let map = SharedMap::new(&file, *size).map_err(failed)?;
    let mut copy = |offset: u64| {
        map.copy(offset, &mut buffer[..PAGE as usize]);
        check(&buffer, offset).map(|()| PAGE)
    };
    measure_for(*time, |step| copy(step * PAGE % size))?;
    measure_for(*time, |step| copy(scatter(step) % (size / PAGE) * PAGE))
}

fn check(bytes: &[u8], offset: u64) -> Result<(), String> {
    let found = bytes.first_chunk().map(|word| u64::from_le_bytes(*word));
    if found == Some(word(offset)) { Ok(()) } else { Err(format!("{found:x?} at {offset:#x}")) }
}

/// A number that has little to do with `step`.
fn scatter(step: u64) -> u64 {
    let mixed = (step ^ (step >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb) >> 16
}

/// Takes steps for as long as `time` milliseconds twice, and prints the rate of the second time.
fn measure_for(time: u64, mut step: impl FnMut(u64) -> Result<u64, String>) -> Result<(), String> {
    let mut next = 0..;
    for counts in [false, true] {
        let (began, mut bytes) = (Instant::now(), 0);
        while began.elapsed() < Duration::from_millis(time) {
            // Sixteen between two looks at the clock.
            for number in next.by_ref().take(16) {
                bytes += step(number)?;
            }
        }
        if counts {
            println!("{}", (bytes as f64 / 1e6 / began.elapsed().as_secs_f64()).round());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_worker_reads_is_what_was_written() {
        let folder = std::env::temp_dir().join(format!("window-curve-{}", std::process::id()));
        let bytes: Vec<u8> = (0..2 * BLOCK).step_by(8).flat_map(|offset| word(offset).to_le_bytes()).collect();
        std::fs::write(&folder, &bytes).unwrap();
        let worker = Worker { file: folder.clone(), size: 2 * BLOCK, time: 1 };
        let good = work(&worker);
        std::fs::write(&folder, vec![0; bytes.len()]).unwrap();
        let bad = work(&worker);
        std::fs::remove_file(folder).unwrap();
        assert_eq!(good, Ok(()));
        assert!(bad.unwrap_err().contains("at 0x0"));
    }
}
